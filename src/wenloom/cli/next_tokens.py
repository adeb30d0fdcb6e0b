"""`wenloom next-tokens`. torch is loaded when there is work, so that --help answers at once."""

from rich.cells import cell_len
from rich.markup import escape
from rich.table import Table

from wenloom.cli.options import Device, Json
from wenloom.core.console import out as console
from wenloom.core.console import print_json, remark
from wenloom.core.errors import InputError

_BAR_WIDTH = 40


def next_tokens(model: str, prompt: str = "", /, *, top: int = 10, device: Device = "auto", json: Json = False) -> None:
    """Show the most probable next tokens.

        wenloom next-tokens runs/quickstart "To be or not to"

    Parameters
    ----------
    model
        A model folder, or a hub model.
    prompt
        The text so far; empty asks how texts begin.
    top
        How many tokens to show.
    """
    if top < 1:
        raise InputError(f"--top {top}: must be at least 1.")
    from wenloom.api import load_writer as load
    from wenloom.generation.next_tokens import most_probable
    from wenloom.runtime.window import view_of

    loaded = load(model, device)
    ids = loaded.tokenizer.prompt_ids(prompt)
    if view_of(loaded.decoder.config, len(ids)).first:
        remark(f"(the prompt has {len(ids):,} tokens, the model sees {loaded.decoder.config.context_length:,}: its "
               "beginning is left out)")  # fmt: skip
    candidates = most_probable(loaded.decoder, ids, top)
    if json:
        rows = [
            {"token": each.token, "text": loaded.tokenizer.decode([each.token]), "probability": each.probability}
            for each in candidates
        ]
        print_json({"model": model, "prompt": prompt, "next": rows})
        return
    table = Table(box=None, show_header=False, padding=(0, 1))
    names = [loaded.tokenizer.show(each.token) for each in candidates]
    width = max(1, min(_BAR_WIDTH, console.width - max(map(cell_len, names)) - 14))
    for name, each in zip(names, candidates, strict=True):
        share = each.probability / candidates[0].probability
        table.add_row(
            escape(name),
            f"[blue]{'█' * round(width * share) or '▏'}[/]",
            f"{100 * each.probability:.2f} %",
        )
    console.print(table)
    rest = 1 - sum(each.probability for each in candidates)
    console.print(
        f"  all {loaded.decoder.config.vocab_size - len(candidates):,} others together {100 * max(0.0, rest):.2f} %"
    )

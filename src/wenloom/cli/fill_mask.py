"""`wenloom fill-mask`. torch is loaded when there is work, so that --help answers at once."""

from wenloom.cli.answers import texts_to_work_on
from wenloom.cli.options import Device, Json
from wenloom.core.console import print_json, say
from wenloom.core.errors import InputError, printable


def fill_mask(
    model: str, text: str | None = None, /, *, count: int = 5, device: Device = "auto", json: Json = False
) -> None:
    """Predict the masked tokens of a text.

    The model is one that `wenloom finetune --task fill-mask` made, or a hub model such as BERT.

        wenloom fill-mask runs/mine "The [MASK] barks."

    Parameters
    ----------
    model
        A model folder, or a hub model such as owner/name.
    text
        The text with the model's mask token (usually [MASK]) in it; without one, a pipe is read.
    count
        How many tokens to show for every mask.
    """
    if count < 1:
        raise InputError(f"--count {count}: must be at least 1.")
    (shown,) = texts_to_work_on(text, None)
    from wenloom.checkpoint.folder import load_model, load_tokenizer
    from wenloom.checkpoint.hub import resolve
    from wenloom.core.hardware import probe
    from wenloom.tasks.fill_mask import fill

    folder = resolve(model)
    found = fill(load_model(folder, probe(device).device), load_tokenizer(folder), shown, count)
    if json:
        print_json({"model": model, "text": shown, "masks": [[each._asdict() for each in one] for one in found]})
    else:
        say("\n\n".join("\n".join(f"{each.probability:6.1%}  {printable(each.text)}" for each in one) for one in found))

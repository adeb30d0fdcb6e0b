"""`wenloom compose`. torch is loaded when there is work, so that --help answers at once."""

from typing import Annotated, Any, Literal

from cyclopts import Parameter

from wenloom.cli.options import Device, Json, refuse_unused
from wenloom.core.console import print_json, remark, say
from wenloom.core.errors import InputError


def compose(
    model: str,
    prompt: str,
    /,
    *,
    style: Literal["story", "poetry", "code"] | None = None,
    form: str | None = None,
    run: Annotated[bool, Parameter(negative="")] = False,
    n: int = 1,
    temperature: float = 0.8,
    max_new_tokens: int | None = None,
    seed: int | None = None,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Write a story, a poem or a program, and check it.

    The model is one that `wenloom finetune --task story`, `poetry` or `code` made.

        wenloom compose runs/poems 春夜 --form 七言绝句
        wenloom compose runs/code "a function that adds two numbers" --run

    Parameters
    ----------
    model
        A model folder, or a hub model such as owner/name.
    prompt
        What to write about: a title, the beginning of a story, what a program should do.
    style
        What to write; default: what the model was trained for.
    form
        poetry: 五言绝句, 七言绝句, 五言律诗 or 七言律诗; nothing else can then be written.
    run
        code: execute what was written, in a process with bounds on time, memory and files and without network.
    n
        Number of texts.
    temperature
        Below 1 sharpens the distribution, above 1 flattens it; 0 is greedy.
    max_new_tokens
        Maximum number of tokens of a text; default: 256, or what the model's context allows.
    seed
        Makes sampling repeatable.
    """
    if n < 1 or (max_new_tokens is not None and max_new_tokens < 1) or temperature < 0:
        raise InputError("--n and --max-new-tokens must be at least 1, --temperature at least 0.")
    if n > 1 and temperature == 0:
        raise InputError("--n: at temperature 0 all texts would be the same.")
    if temperature == 0:
        refuse_unused("draws nothing at --temperature 0", seed=seed is not None)
    from wenloom.checkpoint.folder import load_model, load_tokenizer
    from wenloom.checkpoint.hub import resolve
    from wenloom.core.hardware import probe
    from wenloom.tasks import writing
    from wenloom.tasks.apply import PairWriter
    from wenloom.tasks.pairs import PAIR_TASKS
    from wenloom.tasks.poetry import form_named
    from wenloom.tasks.writing import check_poem, check_program
    from wenloom.training.run_file import task_of

    folder = resolve(model)
    chosen = style or task_of(folder)
    if chosen not in writing.STYLES:
        raise InputError(
            f"{model}: was not trained to write; choose what it should write: --style story, poetry or code."
        )
    if (form is not None and chosen != "poetry") or (run and chosen != "code"):
        raise InputError("--form goes with --style poetry, --run with --style code.")
    options: dict[str, Any] = {"do_sample": temperature > 0}
    if temperature > 0:
        options |= {"temperature": temperature, "seed": seed}
    if form is not None:
        options["regex"] = form_named(form).pattern
    writer = PairWriter(load_model(folder, probe(device).device), load_tokenizer(folder),
                        PAIR_TASKS[chosen], max_new_tokens=max_new_tokens)  # fmt: skip
    asked = writing.prompt_for(chosen, prompt, form)
    texts = [answer.text.strip() for answer in writer.write([asked] * n, **options)]
    checks = [
        check_program(text, run) if chosen == "code" else check_poem(text, form) if chosen == "poetry" else None
        for text in texts
    ]
    if json:
        rows = [{"text": text, "passed": check and check.passed, "remarks": check and check.remarks}
                for text, check in zip(texts, checks, strict=True)]  # fmt: skip
        print_json({"model": model, "prompt": asked, "style": chosen, "texts": rows})
        return
    for number, (text, check) in enumerate(zip(texts, checks, strict=True)):
        say("\n" * (number > 0) + text, verbatim=True)
        if check is not None:
            remark(f"({'; '.join(check.remarks)})")

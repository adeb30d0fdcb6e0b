"""What the commands of tasks that write have in common: one text, a pipe, or a file of lines."""

import sys
from pathlib import Path
from typing import Any

from wordloom.core.console import print_json, progress, say
from wordloom.core.errors import InputError
from wordloom.core.files import write_atomically


def answer(
    task: str,
    model: str,
    text: str | None,
    file: Path | None,
    out: Path | None,
    longest: int,
    device: str,
    json: bool,
    options: dict[str, Any],
) -> None:
    """Print what the model makes of a text, or write what it makes of a file's lines.

    Raises:
        InputError: nothing, or two things, to work on; the file is not UTF-8.
    """
    if out is not None and file is None:
        raise InputError("--out needs --file FILE (one text goes to standard output: use > FILE).")
    sources = texts_to_work_on(text, file)
    from wordloom.checkpoint.folder import load_model
    from wordloom.checkpoint.hub import resolve
    from wordloom.core.hardware import probe
    from wordloom.tasks.apply import PairWriter
    from wordloom.tasks.pairs import PAIR_TASKS
    from wordloom.tokens.tokenizer import TextTokenizer

    folder = resolve(model)
    loaded = load_model(folder, probe(device).device)
    writer = PairWriter(loaded, TextTokenizer.from_pretrained(folder), PAIR_TASKS[task], longest_target=longest)
    filled = [index for index, source in enumerate(sources) if source.strip()]  # an empty line stays one
    answers = [""] * len(sources)
    with progress("Writing", len(filled), "texts") as bar:
        found = writer.write([sources[index] for index in filled], **options)
        for index, each in zip(filled, found, strict=True):
            answers[index] = each.text.strip().replace("\n", " ") if file is not None else each.text.strip()
            bar.advance()
    if json:
        print_json(
            {"model": model, "answers": [{"source": s, "text": t} for s, t in zip(sources, answers, strict=True)]}
        )
    elif out is not None:
        write_atomically(out, "".join(f"{each}\n" for each in answers))
        say(f"{out}: {len(answers):,} lines.")
    else:
        say("\n".join(answers))


def texts_to_work_on(text: str | None, file: Path | None) -> list[str]:
    """The text, the lines of the file, or what is piped in.

    Raises:
        InputError: both are given, or there is nothing; the file is not UTF-8.
    """
    from wordloom.evaluation.rows import read_lines

    if text is not None and file is not None:
        raise InputError("give a text or --file FILE, not both.")
    texts = read_lines(file) if file is not None else [text if text is not None else _piped()]
    if not any(each.strip() for each in texts):
        raise InputError("there is no text to work on.")
    return texts


def _piped() -> str:
    if sys.stdin.isatty():
        raise InputError("give a text, or --file FILE.")
    try:
        return sys.stdin.buffer.read().decode().strip()
    except UnicodeDecodeError as error:
        raise InputError(f"standard input: byte {error.start} is not valid UTF-8.") from None

"""What the commands of tasks that write have in common: one text, a pipe, or a file of lines."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from wenloom.cli.options import Device, Json, flags
from wenloom.core.console import print_json, say
from wenloom.core.errors import InputError
from wenloom.core.files import write_atomically
from wenloom.core.progress import progress
from wenloom.core.quantities import counted

if TYPE_CHECKING:
    from wenloom.tasks.apply import PairWriter


@dataclass(frozen=True)
class AnswerOptions:
    """How a task's answers are written; the text under a field is its help text."""

    file: Path | None = None
    """A file with a text per line, or jsonl with the field that the task reads; also compressed."""
    out: Path | None = None
    """Where the answers to a file go, one per line."""
    num_beams: int = 5
    """Number of beams of beam search; 1 is greedy decoding (faster)."""
    length_penalty: float = 1.0
    """Exponent of the length that divides a beam's log-probability; higher favours longer texts."""
    max_new_tokens: int | None = None
    """Maximum number of tokens of an answer; default: 256, or what the model's context allows."""
    no_repeat: int = 0
    """Forbid n-grams of this many tokens to occur twice; 0 allows them."""


def command_of(task: str, name: str, does: str) -> Callable[..., None]:
    """The command of a task.

    Args:
        name: of the command.
        does: what it does, the first line of its help.
    """

    def command(
        model: str,
        text: str | None = None,
        /,
        *,
        how: Annotated[AnswerOptions, flags("Writing", 2)] = AnswerOptions(),
        device: Device = "auto",
        json: Json = False,
    ) -> None:
        answer(task, model, text, how, device, json)

    command.__name__ = name
    command.__doc__ = f"""{does}

    The model is one that `wenloom finetune --task {task}` made, or a hub model of a known family.

        wenloom {name} runs/mine "..."
        wenloom {name} runs/mine --file texts.txt --out answers.txt

    Parameters
    ----------
    model
        A model folder, or a hub model such as owner/name.
    text
        The text; without one, a pipe is read.
    """
    return command


def answer(task: str, model: str, text: str | None, how: AnswerOptions, device: str, json: bool) -> None:
    """Print what the model makes of a text, or write what it makes of a file's lines.

    Raises:
        InputError: nothing, or two things, to work on; the file is not UTF-8.
    """
    at_least = {
        "num-beams": (how.num_beams, 1),
        "max-new-tokens": (how.max_new_tokens, 1),
        "no-repeat": (how.no_repeat, 0),
    }
    for name, (value, least) in at_least.items():
        if value is not None and value < least:
            raise InputError(f"--{name} {value}: must be at least {least}.")
    if how.num_beams == 1 and how.length_penalty != 1:
        raise InputError("--length-penalty compares beams: give --num-beams of 2 or more.")
    if how.out is not None and how.file is None:
        raise InputError("--out needs --file FILE (one text goes to standard output: use > FILE).")
    from wenloom.tasks.pairs import PAIR_TASKS

    sources = texts_to_work_on(text, how.file, PAIR_TASKS[task].sources)
    options: dict[str, float] = {"num_beams": how.num_beams, "no_repeat_ngram_size": how.no_repeat}
    if how.num_beams > 1:
        options["length_penalty"] = how.length_penalty
    writer = pair_writer(model, task, device, how.max_new_tokens)
    filled = [index for index, source in enumerate(sources) if source.strip()]  # an empty line stays one
    answers = [""] * len(sources)
    with progress("Writing", len(filled), "texts") as bar:
        found = writer.write([sources[index] for index in filled], **options)
        for index, each in zip(filled, found, strict=True):
            answers[index] = each.text.strip().replace("\n", " ") if how.file is not None else each.text.strip()
            bar.advance()
    if how.out is not None:
        write_atomically(how.out, "".join(f"{each}\n" for each in answers))
    if json:
        print_json(
            {"model": model, "answers": [{"source": s, "text": t} for s, t in zip(sources, answers, strict=True)]}
        )
    elif how.out is not None:
        say(f"{how.out}: {counted(len(answers), 'line')}.")
    else:
        say("\n".join(answers), verbatim=True)


def pair_writer(model: str, task: str, device: str = "auto", max_new_tokens: int | None = None) -> "PairWriter":
    """What writes answers of a task by a model of a folder or hub.

    Raises:
        InputError: the model was not trained for the task.
        CheckpointError: a folder that holds no model.
    """
    from wenloom.checkpoint.folder import load_model, load_tokenizer
    from wenloom.checkpoint.hub import resolve
    from wenloom.core.hardware import probe
    from wenloom.tasks.apply import PairWriter
    from wenloom.tasks.pairs import PAIR_TASKS

    folder = resolve(model)
    _refuse_unfit(model, folder, task)
    loaded = load_model(folder, probe(device).device)
    return PairWriter(loaded, load_tokenizer(folder), PAIR_TASKS[task], max_new_tokens=max_new_tokens)


def _refuse_unfit(model: str, folder: Path, task: str) -> None:
    """
    Raises:
        InputError: the model was not trained for the task: it would go on with the text, and look as if it had answered.
    """
    from wenloom.checkpoint.folder import read_config
    from wenloom.training.run_file import task_of

    trained_for = task_of(folder)
    if trained_for == task:
        return
    if trained_for is None and read_config(folder).kind == "encoder-decoder":
        return  # of a hub, where encoder-decoders are published for tasks
    but = "" if trained_for is None else f" but for {trained_for}"
    raise InputError(f"{model}: was not trained for {task}{but}: wenloom finetune --task {task} makes a model that is "
                     "(wenloom generate and wenloom chat take instructions in your own words).")  # fmt: skip


def texts_to_work_on(text: str | None, file: Path | None, fields: Sequence[str] = ("text",)) -> list[str]:
    """The text, the lines of the file (or one of these fields, of jsonl), or what is piped in.

    Raises:
        InputError: both are given, or there is nothing; the file is not UTF-8, or has a row without the field.
    """
    from wenloom.evaluation.rows import read_lines
    from wenloom.tasks.rows import RowReader, content_suffix, text_of

    if text is not None and file is not None:
        raise InputError("give a text or --file FILE, not both.")
    if file is not None and content_suffix(file) == ".jsonl":
        texts = RowReader(strict=True).objects(file, lambda row: text_of(row, fields))
    else:
        texts = read_lines(file) if file is not None else [text if text is not None else piped()]
    if not any(each.strip() for each in texts):
        raise InputError("there is no text to work on.")
    return texts


def piped() -> str:
    """The text that is piped in.

    Raises:
        InputError: nothing is piped in, or what is no UTF-8.
    """
    if sys.stdin.isatty():
        raise InputError("give a text, or --file FILE.")
    try:
        return sys.stdin.buffer.read().decode().strip()
    except UnicodeDecodeError as error:
        raise InputError(f"standard input: byte {error.start} is not valid UTF-8.") from None

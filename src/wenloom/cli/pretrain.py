"""`wenloom pretrain`. torch is loaded when there is work, so that --help answers at once."""

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from wenloom.cli.options import Json, flags
from wenloom.core.clock import command_began
from wenloom.core.console import print_json, say
from wenloom.core.errors import InputError
from wenloom.tokens.shards import Dataset
from wenloom.training.settings import ModelSettings, TrainSettings

if TYPE_CHECKING:
    from wenloom.training.loop import RunResult


def pretrain(
    data: Path | None = None,
    /,
    *,
    out: Path | None = None,
    model: Annotated[ModelSettings, flags("Model", 2)] = ModelSettings(),
    training: Annotated[TrainSettings, flags("Training", 3)] = TrainSettings(),
    prompt: Annotated[
        list[str] | None, Parameter(help="What samples while training continue; default: words of the validation text.")
    ] = None,
    resume: Annotated[Path | None, Parameter(help="Continue this interrupted run, with its own settings.")] = None,
    json: Json = False,
) -> None:
    """Train a model from scratch on a prepared corpus.

    The run folder is the model: a Hugging Face folder with its tokenizer, beside the settings (run.toml), the
    curves (report.html, metrics.jsonl) and the last checkpoint. Ctrl-C saves and says how to go on.

        wenloom pretrain data/mine --out runs/mine --budget 30min
        wenloom pretrain data/mine --out runs/wide --width 512 --layers 8 --heads 8 --epochs 2
        wenloom pretrain --resume runs/mine
        # settings of a file, over which flags win:
        wenloom pretrain data/mine --out runs/again --config runs/mine/run.toml

    Parameters
    ----------
    data
        Folder made by `wenloom prepare`.
    out
        Folder for the run; new or empty.
    """
    from wenloom.cli.show import prompts_from, showing
    from wenloom.training import pretrain as work
    from wenloom.training.run_file import read_run

    started = command_began()
    if resume is not None:
        if data is not None or out is not None or model != ModelSettings() or training != TrainSettings():
            raise InputError("--resume continues a run with its own corpus and settings: leave everything else out.")
        folder = Path(read_run(resume).get("data", {}).get("folder", ""))
        result = work.resume(resume, showing(prompt or prompts_from(Dataset.open(folder))))
    else:
        if data is None or out is None:
            raise InputError("name the corpus and --out, as in: wenloom pretrain data/mine --out runs/mine")
        result = work.pretrain(data, out, model, training, showing(prompt or prompts_from(Dataset.open(data))), started)
    print_json(as_json(result)) if json else say(summary(result))


def as_json(result: "RunResult") -> dict[str, object]:
    """The result for machines."""
    figures = asdict(result.loss) | result.loss.figures()
    return {
        "folder": str(result.folder),
        "steps": result.steps,
        "training_seconds": result.seconds,
        "validation": figures,
    }


def summary(result: "RunResult") -> str:
    """The result, and what to try next."""
    loss, folder = result.loss, shlex.quote(str(result.folder))
    return (
        f"{result.folder}: trained {result.steps:,} steps in {result.seconds:,.0f} s.\n"
        f"  validation {loss.bits_per_byte:.3f} bits per byte, {loss.nats_per_character:.3f} nats per character, "
        f"{loss.nats_per_token:.3f} nats per token\n"
        f"  report     {result.folder / 'report.html'}\n"
        f"  try        wenloom generate {folder}"
    )

"""`wenloom finetune`. torch is loaded when there is work, so that --help answers at once."""

import shlex
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from wenloom.cli.options import Json, flags, named_flags
from wenloom.core.clock import command_began
from wenloom.core.console import print_json, remark, say
from wenloom.core.errors import InputError
from wenloom.core.quantities import counted, show_unit
from wenloom.tasks.settings import DataSettings, FreshSettings, LearningSettings
from wenloom.training.settings import LENGTHS, TrainSettings

if TYPE_CHECKING:
    from wenloom.tasks.recipe import TaskResult


def finetune(
    model: str | None = None,
    /,
    *,
    task: str | None = None,
    out: Path | None = None,
    data: Annotated[DataSettings, flags("Examples", 2)] = DataSettings(),
    fresh: Annotated[FreshSettings, flags("A new model", 3)] = FreshSettings(),
    learning: Annotated[LearningSettings, flags("Learning", 4)] = LearningSettings(),
    training: Annotated[TrainSettings, flags("Training", 5)] = TrainSettings(),
    resume: Path | None = None,
    json: Json = False,
) -> None:
    """Train a model for a task: from a model you have, or from scratch.

    The run folder is the model, beside its settings, curves and last checkpoint. Ctrl-C saves and says how to go on.

        wenloom finetune --task translation --train train.en,train.de --out runs/en-de --budget 45min
        wenloom finetune runs/mine --task summarization --train dialogues.jsonl --out runs/summaries
        wenloom finetune runs/mine --task chat --train messages.jsonl --method lora --out runs/chat
        wenloom finetune --resume runs/en-de
        wenloom finetune --resume runs/en-de --budget 30min

    Parameters
    ----------
    model
        The model to begin with: a folder, or a hub model such as owner/name. Without one, fill-mask makes an encoder
        from scratch and translation, summarization, denoising, story, poetry, code and transcription an encoder-decoder, each with a
        vocabulary of its own; chat, preference, classification and embedding need a model.
    task
        translation, summarization, chat (conversations, also called instructions), preference (DPO on pairs of
        replies), classification, embedding (vectors of texts, from pairs), fill-mask (hidden tokens of plain text), denoising (missing spans of plain
        text), transcription (recordings with what is said in them), or story, poetry or code (works to write on request).
    out
        Folder for the run; new or empty.
    resume
        Continue this interrupted run, with its own settings; with --steps, --tokens, --epochs or --budget train it for
        that much longer.
    """
    if resume is not None:
        result = _go_on(resume, (model, task, out), (data, fresh, learning), training)
    else:
        if task is None or out is None:
            raise InputError("name the task, the examples and --out, as in: wenloom finetune --task translation "
                             "--train pairs.jsonl --out runs/mine")  # fmt: skip
        from wenloom.checkpoint.hub import resolve
        from wenloom.tasks import finetune as work

        result = work.finetune(task, out, None if model is None else resolve(model), data, fresh, learning, training,
                               command_began())  # fmt: skip
    print_json(as_json(result)) if json else say(summary(result))


def _go_on(run: Path, named: tuple[object, ...], settings: tuple[object, ...], training: TrainSettings) -> "TaskResult":
    from wenloom.tasks import finetune as work
    from wenloom.training.prolong import has_length, how_to_prolong

    given = settings != (DataSettings(), FreshSettings(), LearningSettings())
    if (
        any(each is not None for each in named)
        or given
        or replace(training, **dict.fromkeys(LENGTHS)) != TrainSettings()
    ):
        raise InputError(
            "--resume continues a run with its own examples and settings: leave everything else out; "
            f"{named_flags(LENGTHS)} train it for that much longer."
        )
    done = None if has_length(training) else work.finished_result(run)
    if done is not None:
        remark(how_to_prolong(run, "finetune"))
        return done
    return work.resume(run, training if has_length(training) else None, command_began())


def as_json(result: "TaskResult") -> dict[str, object]:
    """The result for machines."""
    run = result.run
    return {
        "folder": str(run.folder),
        "steps": run.steps,
        "training_seconds": run.seconds,
        "validation": asdict(run.loss) | run.loss.figures(),
        "measures": {name: {"value": value, "error": error} for name, (value, error) in result.figures.items()},
    }


_MEANING = {"stopped": " of the replies end by themselves"}
"""What the name of a figure leaves open."""


def summary(result: "TaskResult") -> str:
    """The result, and what to try next."""
    from wenloom.training.report import NEXT
    from wenloom.training.run_file import read_run

    run = result.run
    task = read_run(run.folder)["settings"]["task"]
    command = NEXT.get(task, "info {}").format(shlex.quote(str(run.folder)))
    figures = [
        f"  {name:10} {value:.4g}" + ("" if error is None else f" ± {error:.2g}") + _MEANING.get(name, "")
        for name, (value, error) in result.figures.items()
    ]
    return "\n".join([
        f"{run.folder}: trained {counted(run.steps, 'step')} in {run.seconds:,.0f} s; the best is step {run.best_step:,}.",
        f"  validation {run.loss.nats_per_token:.3f} {show_unit('nats_per_token', task)}{run.scored()}",
        *figures,
        f"  report     {run.folder / 'report.html'}",
        f"  try        wenloom {command}",
    ])  # fmt: skip

"""Going on with a run beyond its end, or from an earlier step of it."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from wenloom.core.errors import CheckpointError, InputError
from wenloom.core.files import write_atomically
from wenloom.core.quantities import counted
from wenloom.training.checkpoints import own_checkpoints, sound_checkpoint
from wenloom.training.history import read_metrics
from wenloom.training.output import check_output
from wenloom.training.pace import Course
from wenloom.training.plan import steps_asked
from wenloom.training.run_file import METRICS, RUN, read_run
from wenloom.training.settings import LENGTHS, TrainSettings
from wenloom.training.setup import RunSpec
from wenloom.training.state import Progress, publish_model, read_progress

BRANCHING = ("learning_rate", "batch", "evaluations", "patience", "keep_every")
"""Settings that a branch may have otherwise than its run, beside its length."""


def has_length(training: TrainSettings) -> bool:
    """Whether settings say how long a run is to be."""
    return any(getattr(training, name) is not None for name in LENGTHS)


def with_length_of(training: TrainSettings, more: TrainSettings) -> TrainSettings:
    """Settings of a run, with the length of others."""
    return replace(training, **{name: getattr(more, name) for name in LENGTHS})


def prolonged_before(tables: dict[str, dict[str, Any]]) -> tuple[str, ...]:
    """How a run came to be longer than its settings say, as its run.toml has it."""
    return tuple(map(str, tables["result"].get("prolonged", ())))


def noted(run: Path, more: TrainSettings) -> tuple[str, ...]:
    """The same, with what is asked for now."""
    tables = read_run(run)
    name = next(name for name in LENGTHS if getattr(more, name) is not None)
    return (*prolonged_before(tables), f"at step {tables['result']['steps']} by --{name} {getattr(more, name)}")


def is_finished(run: Path) -> bool:
    """Whether a run came to its end, with all that belongs to it."""
    if not (run / RUN).exists():
        return False
    result = read_run(run)["result"]
    return "best_step" in result and result["steps"] >= result["of_steps"] and (run / "README.md").exists()


def how_to_prolong(run: Path, command: str) -> str:
    """What a person is told who resumes a run that is finished."""
    steps = read_run(run)["result"]["steps"]
    return (
        f"{run} is finished ({counted(steps, 'step')}): there is nothing to resume. Train it for longer with: "
        f"wenloom {command} --resume {run} --steps {steps} (or --tokens, --epochs, --budget)."
    )


def course_of(progress: Progress) -> Course:
    """Where in its schedule each step of a run stands."""
    course = progress.course
    if course is None or course.n_steps != progress.n_steps:  # of an earlier version, or stopped early
        return Course.laid_out(progress.n_steps, 1)
    return course


def start_of_more(run: Path, training: TrainSettings) -> Path:
    """The checkpoint from which a run is prolonged: the newest; of wsd the newest before its learning rate fell, if
    there is one.

    Raises:
        InputError: there is no checkpoint.
        CheckpointError: all are damaged.
    """
    newest = sound_checkpoint(run)
    for path in reversed(own_checkpoints(run)):
        try:
            progress = read_progress(path)
        except CheckpointError:
            continue
        falls_from = course_of(progress).falls_from(training.schedule, training.decay)
        if falls_from is None:
            return newest
        if progress.step <= falls_from:
            return path
    return newest


def lengthened(spec: RunSpec, run: Path, start: Path, branches: bool) -> RunSpec:
    """A run whose settings say how much more is wanted, with the steps that come after a checkpoint.

    Args:
        branches: whether the length counts from the checkpoint, not from the end that the run had.
    """
    training, source = spec.training, spec.source
    if training.budget is None:
        steps = steps_asked(training, source.batch * source.row_tokens, source.per_epoch)
        done = read_progress(start).step
        end = done if branches else read_progress(sound_checkpoint(run, silent=True)).n_steps
        training = with_length_of(training, TrainSettings(steps=end + steps - done))
    asked = {"validation_part": read_run(run)["settings"].get("validation_part")}  # not what was found to fit a budget
    return replace(spec, training=training, settings=spec.settings | asked, prolongs=True)


def told(before: Course, step: int, after: Course, schedule: str) -> str:
    """How a run continues, in a line."""
    if step >= before.n_steps:
        how = "the learning rate rises and falls anew"
    elif after.place == step and schedule == "wsd" and after.planned == after.n_steps:
        how = "the learning rate stays stable, and falls at the new end"
    else:
        how = "the learning rate walks what is left of its schedule"
    return f"Going on from step {step:,} to step {after.n_steps:,}; {how}."


def branch(run: Path, step: int, out: Path) -> Path:
    """Begin a run folder with what another held after a step; returns the checkpoint there.

    Its model becomes the folder's. Evaluations of earlier steps stay behind: their models do, too, and none of them may be
    called the best here.

    Raises:
        InputError: there is no checkpoint of that step, or `out` is not empty.
    """
    there = {read_progress(path).step: path for path in own_checkpoints(run)}
    if step not in there:
        known = ", ".join(f"{each:,}" for each in there) or "none"
        raise InputError(
            f"--from-step {step}: {run} has no checkpoint of that step, but of: {known}. "
            "--keep-every keeps more while a run trains."
        )
    check_output(out)
    checkpoint = out / "checkpoints" / f"step-{step:08}"
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    lines = [line for line in read_metrics(run) if line["step"] == step or (line["step"] < step and "loss" in line)]
    write_atomically(out / METRICS, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    shutil.copyfile(run / RUN, out / RUN)
    shutil.copytree(there[step], checkpoint, dirs_exist_ok=True)
    publish_model(out, checkpoint)
    return checkpoint

"""Training for a task: from files of examples to a model folder, in the one training loop."""

import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from wenloom.checkpoint.folder import read_config
from wenloom.core.errors import InputError
from wenloom.core.plugins import Registry
from wenloom.tasks.classification import ClassificationRecipe
from wenloom.tasks.denoising import DenoisingRecipe
from wenloom.tasks.dialogue import DialogueRecipe, PreferenceRecipe
from wenloom.tasks.embedding import EmbeddingRecipe
from wenloom.tasks.fill_mask import FillMaskRecipe
from wenloom.tasks.pair_recipe import PairRecipe
from wenloom.tasks.recipe import TaskRecipe, TaskResult
from wenloom.tasks.run_settings import Settings
from wenloom.tasks.settings import DataSettings, FreshSettings, LearningSettings
from wenloom.tasks.transcription import TranscriptionRecipe
from wenloom.tasks.unread import UNREAD, Case
from wenloom.tasks.writing import WritingRecipe
from wenloom.training.checkpoints import sound_checkpoint
from wenloom.training.lock import refuse_if_taken
from wenloom.training.objectives import Loss
from wenloom.training.output import check_output
from wenloom.training.pace import deadline
from wenloom.training.parallel import refuse_alone
from wenloom.training.prolong import is_finished, noted, prolonged_before, start_of_more
from wenloom.training.run_file import RUN, read_run, settings_of
from wenloom.training.run_result import RunResult
from wenloom.training.settings import TrainSettings
from wenloom.training.unread import TRAINING, refuse

_OWN: dict[str, type[TaskRecipe[Any]]] = {
    "translation": PairRecipe, "summarization": PairRecipe, "chat": DialogueRecipe, "preference": PreferenceRecipe,
    "classification": ClassificationRecipe, "embedding": EmbeddingRecipe, "fill-mask": FillMaskRecipe, "denoising": DenoisingRecipe,
    "story": WritingRecipe, "poetry": WritingRecipe, "code": WritingRecipe, "transcription": TranscriptionRecipe,
}  # fmt: skip
RECIPES: Registry[type[TaskRecipe[Any]]] = Registry(
    "wenloom.tasks", _OWN, lambda thing: isinstance(thing, type) and issubclass(thing, TaskRecipe)
)
"""Trainings by the name of the task."""


def finetune(
    task: str,
    out: Path,
    base: Path | None = None,
    data: DataSettings | None = None,
    fresh: FreshSettings | None = None,
    learning: LearningSettings | None = None,
    training: TrainSettings | None = None,
    started: float | None = None,
) -> TaskResult:
    """Train a model for a task.

    Args:
        task: a name in `RECIPES`.
        out: run folder, as in `training.pretrain.pretrain`.
        base: the model to begin with; None makes one from scratch, where the task has one.
        data, fresh, learning, training: see their fields.
        started: see `training.pretrain.pretrain`.

    Raises:
        InputError: the settings, the examples or the output folder cannot be used.
        NotFinite, Interrupted: see `training.pretrain.pretrain`.
    """
    if task not in RECIPES:
        raise InputError(f"--task {task}: known are {', '.join(RECIPES)}.")
    check_output(out)
    training = training or TrainSettings()
    settings = Settings(
        task, base, data or DataSettings(), fresh or FreshSettings(), learning or LearningSettings(), training,
        deadline(training, time.monotonic() if started is None else started),
    )  # fmt: skip
    _refuse_unread(settings)
    return RECIPES[task](settings).run(out)


def finished_result(run: Path) -> TaskResult | None:
    """The result of a training for a task that came to its end; None of any other."""
    if not is_finished(run):
        return None
    tables = read_run(run)
    done, measures = tables["result"], tables.get("measures", {})
    figures = {
        name.removeprefix("validation_"): value for name, value in done.items() if name.startswith("validation_")
    }
    loss = Loss(figures.get("nats_per_token", math.nan), 1, 0, 0)
    part = tables.get("environment", {}).get("validation_part", 1.0)
    found = RunResult(run, loss, figures, done["best_step"], done["steps"], done["training_seconds"], part)
    own = {
        name: (value, measures.get(f"{name}_error")) for name, value in measures.items() if not name.endswith("_error")
    }
    return TaskResult(found, own)


def _refuse_unread(settings: Settings) -> None:
    """Raise for settings that this task would not read, see `tasks.unread`."""
    base, training = settings.base, settings.training
    kind = None if base is None else read_config(base).kind
    training = replace(training, optimizer=training.optimizer or ("muon" if base is None else "adamw"))
    case = Case(settings.task, settings.learning.method, kind, training)
    if settings.task in _OWN:  # what a task of another package reads, it knows itself
        refuse((settings.data, settings.fresh, settings.learning, training), UNREAD, case)
    refuse((training,), TRAINING, training)
    refuse_alone(training.parallel)


def resume(out: Path, more: TrainSettings | None = None, started: float | None = None) -> TaskResult:
    """Continue an interrupted run from its last checkpoint, to the same end.

    Args:
        more: with how much more (steps, tokens, epochs or budget) a run is to be prolonged beyond its end; its other
            fields are not read.
        started: see `training.pretrain.pretrain`.

    Raises:
        InputError: there is nothing to continue, or the examples changed since.
    """
    tables = read_run(out)
    table = tables["settings"]
    if not isinstance(table.get("task"), str) or table["task"] not in RECIPES:
        raise InputError(f"{out}: was not made by wenloom finetune; continue it with wenloom pretrain --resume.")
    refuse_if_taken(out)
    training = settings_of(out, TrainSettings, table)
    checkpoint = sound_checkpoint(out) if more is None else start_of_more(out, training)
    if not isinstance(table.get("base"), str | None):
        raise InputError(f"{out / RUN}: table [settings]: base names no model.")
    environment = tables.get("environment", {})
    same = ("precision", "micro_batch", "validation_part") if more is None else ("validation_part",)
    fixed = {name: environment[name] for name in same if name in environment}
    if more is not None:  # a longer run is compared with itself on the same text
        fixed.setdefault("validation_part", 1.0)
    counts = (tables["data"].get(f"{name}_examples") for name in ("train", "validation"))
    counted = [each if isinstance(each, int) else None for each in counts]
    settings = Settings(
        table["task"],
        Path(table["base"]) if table.get("base") else None,
        settings_of(out, DataSettings, table),
        settings_of(out, FreshSettings, table),
        settings_of(out, LearningSettings, table),
        settings_of(out, TrainSettings, table | fixed),
        None if more is None else deadline(more, time.monotonic() if started is None else started),
        more,
        prolonged_before(tables) if more is None else noted(out, more),
        most_examples=counted[0],
        most_validation=counted[1],
    )
    recipe = RECIPES[settings.task](settings)
    if recipe.key != tables["data"]["key"]:
        raise InputError(f"{out}: the examples are not those that this run was started on; start a new run.")
    return recipe.run(out, checkpoint)

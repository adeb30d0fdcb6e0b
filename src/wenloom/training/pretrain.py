"""Training from scratch on a prepared corpus, in the one training loop."""

import time
from dataclasses import replace
from pathlib import Path

from wenloom.core.errors import InputError
from wenloom.core.hardware import probe
from wenloom.tokens.shards import Dataset
from wenloom.training.checkpoints import sound_checkpoint
from wenloom.training.lock import refuse_if_taken
from wenloom.training.loop import Run, RunResult, Show
from wenloom.training.output import check_output
from wenloom.training.pace import deadline
from wenloom.training.parallel import World, joined_processes, refuse_alone
from wenloom.training.run_file import read_run, settings_of
from wenloom.training.scratch import CorpusStatistics, scratch_run
from wenloom.training.settings import ModelSettings, TrainSettings
from wenloom.training.training_data import CorpusData


def pretrain(
    data: Path,
    out: Path,
    model: ModelSettings | None = None,
    training: TrainSettings | None = None,
    show: Show | None = None,
    started: float | None = None,
) -> RunResult:
    """Train a model from scratch on a prepared corpus.

    Under `torchrun` every process calls it alike; they share the work.

    Args:
        data: folder made by `tokens.prepare`.
        out: run folder; new, empty, or left by a run that was stopped before its first checkpoint.
        model, training: see their fields.
        show: called at every evaluation; what it writes goes into the log and the report.
        started: when the command began, by `time.monotonic`: a budget counts from there; default: now.

    Raises:
        InputError: the settings, the corpus or the output folder cannot be used.
        NotFinite: too many steps in a row had a loss or gradient that is not finite.
        Interrupted: stopped by the user; the run can be resumed.
    """
    check_output(out)
    training = training or TrainSettings()
    started = time.monotonic() if started is None else started
    refuse_alone(training.parallel)
    with joined_processes(probe(training.device).device) as world:
        return _pretraining(
            Dataset.open(data), out, model or ModelSettings(), training, show, world, started=started
        ).go()


def resume(run: Path, show: Show | None = None) -> RunResult:
    """Continue an interrupted run from its last checkpoint, to the same end, in as many processes as there are now.

    Raises:
        InputError: there is nothing to continue, or the corpus changed since.
    """
    tables = read_run(run)
    refuse_if_taken(run)
    checkpoint = sound_checkpoint(run)
    if not isinstance(tables["data"].get("folder"), str):
        raise InputError(f"{run}: was not made by wenloom pretrain; continue it with wenloom finetune --resume.")
    dataset = Dataset.open(Path(tables["data"]["folder"]))
    if dataset.key != tables["data"]["key"]:
        raise InputError(
            f"{dataset.folder}: is not the corpus this run was started on (it was prepared again since). "
            "Prepare the old texts there, or start a new run."
        )
    # whatever this machine would choose, these stay: they decide the last bits of the result
    environment = tables.get("environment", {})
    fixed = {name: environment[name] for name in ("precision", "compile", "micro_batch") if name in environment}
    model = settings_of(run, ModelSettings, tables["settings"])
    training = settings_of(run, TrainSettings, tables["settings"] | fixed)
    with joined_processes(probe(training.device).device) as world:
        return _pretraining(dataset, run, model, training, show, world, checkpoint).go()


def _pretraining(
    dataset: Dataset,
    out: Path,
    model: ModelSettings,
    training: TrainSettings,
    show: Show | None,
    world: World,
    checkpoint: Path | None = None,
    started: float | None = None,
) -> Run:
    corpus = CorpusStatistics.of(dataset)

    spec = scratch_run(corpus, model, training, world)
    if started is not None:  # a run that is resumed has its length
        spec = replace(spec, deadline=deadline(spec.training, started))
    assert corpus.tokenizer is not None
    corpus.tokenizer.model_max_length = context = spec.source.longest
    return Run(spec, CorpusData(dataset, corpus.tokenizer, context), out, show, world, checkpoint)

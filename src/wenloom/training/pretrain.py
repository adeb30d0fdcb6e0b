"""Pretraining on plain text, from scratch or from a trained model, in the one training loop."""

import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from wenloom.checkpoint.folder import load_tokenizer
from wenloom.checkpoint.hub import resolve as resolve_model
from wenloom.core.console import remark
from wenloom.core.errors import InputError
from wenloom.core.hardware import probe
from wenloom.tokens.mixture import parse_ingredient, shares_of, write_mixture
from wenloom.tokens.prepare import prepare
from wenloom.tokens.shards import MANIFEST, Dataset
from wenloom.tokens.tokenizer import TextTokenizer
from wenloom.training.checkpoints import sound_checkpoint
from wenloom.training.continued import ContinuedData, check_vocabulary, continued_run
from wenloom.training.history import History
from wenloom.training.lock import refuse_if_taken
from wenloom.training.loop import Run, Show
from wenloom.training.objectives import Loss
from wenloom.training.output import check_output
from wenloom.training.pace import deadline
from wenloom.training.parallel import World, joined_processes, refuse_alone
from wenloom.training.prolong import (
    BRANCHING,
    branch,
    has_length,
    is_finished,
    lengthened,
    noted,
    prolonged_before,
    start_of_more,
    with_length_of,
)
from wenloom.training.run_file import read_run, settings_of
from wenloom.training.run_result import RunResult
from wenloom.training.scratch import CorpusStatistics, scratch_run
from wenloom.training.settings import LENGTHS, InitSettings, ModelSettings, TrainSettings
from wenloom.training.setup import RunSpec
from wenloom.training.training_data import CorpusData, corpus_data


def pretrain(
    data: Path,
    out: Path,
    model: ModelSettings | None = None,
    training: TrainSettings | None = None,
    show: Show | None = None,
    started: float | None = None,
    init: InitSettings | None = None,
) -> RunResult:
    """Train a model on a prepared corpus: a new one, or one that somebody trained (`init.init`).

    Under `torchrun` every process calls it alike; they share the work.

    Args:
        data: folder made by `tokens.prepare`.
        out: run folder; new, empty, or left by a run that was stopped before its first checkpoint.
        model, training, init: see their fields.
        show: called at every evaluation; what it writes goes into the log and the report.
        started: when the command began, by `time.monotonic`: a budget counts from there; default: now.

    Raises:
        InputError: the settings, the corpus, the model or the output folder cannot be used.
        NotFinite: too many steps in a row had a loss or gradient that is not finite.
        Interrupted: stopped by the user; the run can be resumed.
    """
    check_output(out)
    model, training, init = model or ModelSettings(), training or TrainSettings(), init or InitSettings()
    started = time.monotonic() if started is None else started
    refuse_alone(training.parallel)
    if init.init is not None:
        _refuse_shape(model)
        kept = None if init.keep_data is None else str(Path(init.keep_data).resolve())
        init = replace(init, init=str(resolve_model(init.init).resolve()), keep_data=kept)
    with joined_processes(probe(training.device).device) as world:
        spec, texts = _specified(Dataset.open(data), model, training, init, world)
        return Run(replace(spec, deadline=deadline(spec.training, started)), texts, out, show, world).go()


def corpus_of(text: Path, out: Path, init: str | None = None) -> Path:
    """A prepared corpus as it is; text is prepared into the folder `OUT-data`, with the vocabulary of a model if one is
    given.

    Raises:
        InputError: it is a model or no text; see `tokens.prepare.prepare`.
    """
    if (text / MANIFEST).exists():
        return text
    if (text / "config.json").exists():
        raise InputError(f"{text}: is a model, not text. Go on training it with: wenloom pretrain TEXT --init {text}")
    folder = out.with_name(f"{out.name}-data")
    tokenizer = None if init is None else load_tokenizer(resolve_model(init))
    if not prepare([str(text)], folder, tokenizer=tokenizer).reused:
        remark(f"Prepared {text} into {folder}.")
    return folder


def mixture_of(texts: Sequence[str], out: Path, temperature: float = 1.0) -> Path:
    """Several prepared corpora as one, in the folder `OUT-mixture`.

    Args:
        texts: FOLDER, or FOLDER:WEIGHT for all of them.
        temperature: see `tokens.mixture.shares_of`.

    Raises:
        InputError: one is no prepared corpus, or they do not go together.
    """
    ingredients = [parse_ingredient(text) for text in texts]
    datasets = [Dataset.open(Path(each.folder)) for each in ingredients]
    folder = out.with_name(f"{out.name}-mixture")
    write_mixture(folder, datasets, shares_of(datasets, [each.weight for each in ingredients], temperature))
    return folder


def resume(
    run: Path,
    show: Show | None = None,
    more: TrainSettings | None = None,
    started: float | None = None,
) -> RunResult:
    """Continue an interrupted run from its last checkpoint, to the same end, in as many processes as there are now.

    Args:
        more: with how much more (steps, tokens, epochs or budget) a run is to be prolonged beyond its end; its other
            fields are not read.
        started: see `pretrain`.

    Raises:
        InputError: there is nothing to continue, or the corpus changed since.
    """
    tables = read_run(run)
    refuse_if_taken(run)
    settings = tables["settings"]
    training = settings_of(run, TrainSettings, settings)
    if more is None:
        return _resumed(run, tables, training, sound_checkpoint(run), show)
    training = with_length_of(training, more)
    return _resumed(run, tables, training, start_of_more(run, training), show, started, noted(run, more))


def go_on_elsewhere(
    run: Path,
    step: int,
    out: Path,
    changes: TrainSettings,
    show: Show | None = None,
    started: float | None = None,
) -> RunResult:
    """Branch from a checkpoint of a run into a new folder.

    Args:
        changes: a length counts from `step`; default: to the end that the run has. Those of `BRANCHING` that are given
            replace the run's; other fields are not read.

    Raises:
        InputError: the run has no such checkpoint, or the folder is not empty.
    """
    tables = read_run(run)
    given = {name: getattr(changes, name) for name in BRANCHING if getattr(changes, name) is not None}
    training = replace(with_length_of(settings_of(run, TrainSettings, tables["settings"]), changes), **given)
    checkpoint = branch(run, step, out)
    if not has_length(training):
        training = replace(training, steps=max(1, tables["result"]["of_steps"] - step))
    how = (*prolonged_before(tables), f"from step {step} of {run.resolve()}")
    return _resumed(out, tables, training, checkpoint, show, started, how, branches=True)


def finished_result(run: Path) -> RunResult | None:
    """The result of a pretraining that came to its end; None of any other."""
    if not is_finished(run):
        return None
    tables = read_run(run)
    done, data = tables["result"], tables["data"]
    tokens = data.get("scored_tokens", data["validation_tokens"] - 1)
    n_bytes, characters = (data.get(f"scored_{each}", data[f"validation_{each}"]) for each in ("bytes", "characters"))
    loss = Loss(done["validation_nats_per_token"] * tokens, tokens, n_bytes, characters)
    history = History(run, done["steps"], writes=False)
    return RunResult(
        run, loss, loss.figures(), done["best_step"], done["steps"], done["training_seconds"],
        tables.get("environment", {}).get("validation_part", 1.0), history.before(), history.pieces(),
    )  # fmt: skip


def _resumed(
    run: Path,
    tables: dict[str, dict[str, Any]],
    training: TrainSettings,
    checkpoint: Path,
    show: Show | None,
    started: float | None = None,
    how: tuple[str, ...] | None = None,
    branches: bool = False,
) -> RunResult:
    """
    Args:
        how: how the run came to be longer, if it is made so now.
    """
    settings, data = tables["settings"], tables["data"]
    if not isinstance(data.get("folder"), str):
        raise InputError(f"{run}: was not made by wenloom pretrain; continue it with wenloom finetune --resume.")
    dataset = _as_it_was(data["folder"], data["key"])
    # whatever this machine would choose, these stay: they decide the last bits of the result
    environment = tables.get("environment", {})
    fixed = {
        name: environment[name]
        for name in ("precision", "compile", "micro_batch", "validation_part")
        if name in environment
    }
    if how is None:
        training = settings_of(run, TrainSettings, settings | fixed)
    else:  # a longer run is compared with itself on the same text
        training = replace(training, validation_part=environment.get("validation_part", 1.0))
    model, init = settings_of(run, ModelSettings, settings), settings_of(run, InitSettings, settings)
    kept = _as_it_was(data["kept_folder"], data["kept_key"]) if "kept_folder" in data else None
    with joined_processes(probe(training.device).device) as world:
        spec, texts = _specified(dataset, model, training, init, world, checkpoint, kept)
        if how is not None:
            spec = lengthened(spec, run, checkpoint, branches)
            started = time.monotonic() if started is None else started
            spec = replace(spec, deadline=deadline(training, started))
        length = {name: settings.get(name) for name in LENGTHS}
        spec = replace(spec, settings=spec.settings | length, prolonged=how or prolonged_before(tables))
        return Run(spec, texts, run, show, world, checkpoint).go()


def _as_it_was(folder: str, key: str) -> Dataset:
    """
    Raises:
        InputError: the corpus is gone or another one.
    """
    dataset = Dataset.open(Path(folder))
    if dataset.key != key:
        raise InputError(
            f"{dataset.folder}: is not the corpus this run was started on (it was prepared again since). "
            "Prepare the old texts there, or start a new run."
        )
    return dataset


def _refuse_shape(model: ModelSettings) -> None:
    """
    Raises:
        InputError: a shape was asked for of a model that has one.
    """
    given = [name for name, value in asdict(model).items() if value != getattr(ModelSettings, name) and name != "context"]  # fmt: skip
    if given:
        raise InputError(f"--init brings the shape of its model: leave out {', '.join('--' + name.replace('_', '-') for name in given)}.")  # fmt: skip


def _specified(
    dataset: Dataset,
    model: ModelSettings,
    training: TrainSettings,
    init: InitSettings,
    world: World,
    checkpoint: Path | None = None,
    kept: Dataset | None = None,
) -> tuple[RunSpec, CorpusData]:
    """The parts of the run, and the data that it learns from and is validated on."""
    if init.init is None:
        corpus = CorpusStatistics.of(dataset)
        spec = scratch_run(corpus, model, training, world)
        assert corpus.tokenizer is not None
        corpus.tokenizer.model_max_length = context = spec.source.longest
        return spec, corpus_data(dataset, corpus.tokenizer, context)
    tokenizer: TextTokenizer = load_tokenizer(Path(init.init))
    if kept is None and init.keep_data is not None:
        kept = Dataset.open(Path(init.keep_data))
    for each in (dataset, kept):
        if each is not None:
            check_vocabulary(each, tokenizer, init.init)
    return continued_run(ContinuedData(dataset, kept, tokenizer), init, model.context, training, world, checkpoint)

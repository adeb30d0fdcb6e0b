"""From settings to a training step that is ready for its first step, and the plan of the run."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch

from wenloom.core.console import remark
from wenloom.core.errors import InputError
from wenloom.core.hardware import Hardware, matmul_peak, memory_available, memory_used, probe
from wenloom.core.memory import release_freed_memory, reuse_freed_memory
from wenloom.core.quantities import show_bytes
from wenloom.core.randomness import generator
from wenloom.model.build import Model, build
from wenloom.model.config import ModelConfig
from wenloom.model.decoder import Decoder
from wenloom.model.presets import from_scratch
from wenloom.tokens.batches import Samples
from wenloom.tokens.shards import Dataset, TokenStream
from wenloom.tokens.tokenizer import TextTokenizer
from wenloom.training.dial import turn
from wenloom.training.guards import check_causality
from wenloom.training.measure import StepMemory, compile_if_it_pays, flops_of, step_memory, time_steps
from wenloom.training.objectives import CausalObjective, Objective
from wenloom.training.optimizers import Muon
from wenloom.training.parallel import Strategy, World, shards
from wenloom.training.plan import (
    MemoryEstimate,
    Timetable,
    TrainingPlan,
    expected_bits_per_byte,
    fitted_micro_batch,
    make_timetable,
    memory,
)
from wenloom.training.prefetcher import Prefetcher, Rows
from wenloom.training.settings import ModelSettings, TrainSettings
from wenloom.training.train_step import TrainStep, autocast, is_out_of_memory, recompute_blocks
from wenloom.training.unread import TRAINING, refuse

_GUESSED_UTILISATION = 0.3
"""Of the matmul peak, before anything is timed; between 0.2 (1m parameters) and 0.6 (10m) on 2 CPU cores."""


class CorpusStatistics(NamedTuple):
    """What set-up needs to know of a prepared corpus, or of one that is only imagined."""

    vocab_size: int
    stream: TokenStream
    """Training tokens."""
    tokens: int | None
    """How many there are; None if the corpus is imagined."""
    validation_tokens: int
    bytes_per_token: float
    document_start: int | None
    document_tokens: float
    """Mean length of a document."""
    tokenizer: TextTokenizer | None

    @classmethod
    def of(cls, dataset: Dataset) -> "CorpusStatistics":
        """A prepared corpus.

        Raises:
            InputError: it has no validation text.
        """
        train, validation = dataset.splits["train"], dataset.splits["validation"]
        if not validation.bytes:
            raise InputError(f"{dataset.folder}: has no validation text to measure by. Prepare more text.")
        tokenizer = dataset.tokenizer()
        return cls(tokenizer.vocab_size, dataset.stream("train"), train.tokens, validation.tokens,
                   train.bytes / max(1, train.tokens), tokenizer.bos_token_id, train.tokens / max(1, train.documents),
                   tokenizer)  # fmt: skip

    @classmethod
    def imagined(cls, vocab_size: int) -> "CorpusStatistics":
        """Random tokens, to plan before there is a text; 4 bytes a token, as English has."""
        drawn = np.random.default_rng(0).integers(0, vocab_size, 2**17, dtype=np.uint32)
        return cls(vocab_size, TokenStream([drawn]), None, 0, 4.0, None, float("inf"), None)


@dataclass(frozen=True)
class Setup:
    """A run before its first step."""

    training: TrainSettings
    """Without gaps."""
    settings: dict[str, Any]
    """All settings, as run.toml keeps them."""
    config: ModelConfig
    hardware: Hardware
    bf16: bool
    compiled: bool
    strategy: Strategy
    train_step: TrainStep
    prefetcher: Prefetcher
    plan: TrainingPlan
    flops: float
    """Of one training step per token."""


def model_config(settings: ModelSettings, vocab_size: int, tokenizer: TextTokenizer | None) -> ModelConfig:
    """The shape that settings without gaps ask for."""
    assert settings.layers and settings.width and settings.heads and settings.context
    return from_scratch(
        settings.arch,
        vocab_size=vocab_size,
        n_layers=settings.layers,
        d_model=settings.width,
        n_heads=settings.heads,
        n_kv_heads=settings.kv_heads or settings.heads,
        context_length=settings.context,
        dropout=settings.dropout or 0.0,
        bos_token_id=tokenizer.bos_token_id if tokenizer else None,
        eos_token_id=tokenizer.eos_token_id if tokenizer else None,
        pad_token_id=tokenizer.pad_token_id if tokenizer else None,
    )


def set_up(
    corpus: CorpusStatistics,
    model: ModelSettings,
    training: TrainSettings,
    world: World,
    restore: Callable[[TrainStep], tuple[int, int]] = lambda train_step: (0, 0),
) -> Setup:
    """Fill in the settings, build and place the model, fit it to memory, time it and plan the run.

    Args:
        restore: puts an earlier state into place before anything is measured, and returns the steps that are done
            and those that the run was made for (0, 0 for a fresh one).

    Raises:
        InputError: the settings do not fit together, or the model does not fit in memory.
    """
    reuse_freed_memory()
    hardware = probe(training.device)
    bf16 = training.precision == "bf16" or (training.precision == "auto" and hardware.bf16)
    peak = world.agreed(matmul_peak(hardware.device, torch.bfloat16 if bf16 else torch.float32))
    dial = turn(model, training, corpus.vocab_size, corpus.tokens, lambda: _GUESSED_UTILISATION * peak * world.size)
    model, training = dial.model, dial.training
    refuse((training,), TRAINING, training)
    assert model.context and training.batch
    if training.batch < world.size:
        raise InputError(
            f"--batch {training.batch}: give every one of the {world.size} processes at least one sequence."
        )
    if training.precision == "bf16" and not hardware.bf16:
        remark("This machine has no bf16 unit: bf16 works here, but slower than fp32.")
    config = model_config(model, corpus.vocab_size, corpus.tokenizer)
    samples = Samples(corpus.stream, model.context, training.seed)
    available = memory_available(hardware.device)
    if available is not None and hardware.device == "cpu":
        available = world.agreed(available // world.size)
    strategy = _strategy(training, world, parameters_of(config), available, hardware.device)
    program = program_bytes(hardware.device)

    decoder = Decoder(config)
    decoder.initialise(generator(training.seed, "weights"))
    decoder.to(hardware.device)
    check_causality(decoder, generator(training.seed, "causality"))
    objective = CausalObjective(decoder, _document_start(corpus, training, model.context))
    if training.recompute:
        recompute_blocks(decoder)

    def rows(begin: int, end: int) -> Rows:
        inputs_BT, targets_BT = samples.batch(begin, end - begin)
        return {"inputs_BT": inputs_BT, "targets_BT": targets_BT}

    prefetcher = Prefetcher(rows, training.batch, training.seed, hardware.device, world)
    first, end = world.share(training.batch)
    step = measured_step(objective, prefetcher.batch(0).part(slice(1)), world, strategy, hardware.device, bf16)
    train_step = TrainStep(
        objective, training, world, strategy, hardware.device, bf16, training.micro_batch or end - first
    )
    done, n_steps = restore(train_step)
    decoder.train()

    free = None if available is None else int(available + program)
    parts = fit(train_step, step, program, end - first, model.context, free, hardware.device)

    def lay_out(step_seconds: float) -> Timetable:
        assert training.batch and model.context
        return make_timetable(training, step_seconds, training.batch * model.context, samples.per_epoch,
                              corpus.validation_tokens, done, n_steps or None)  # fmt: skip

    def time_a_step() -> float:
        return world.agreed(time_steps(train_step, lambda attempt: prefetcher.batch(attempt * (training.batch or 1))))

    step_seconds, compiled = time_a_step(), False
    if training.compile == "on" or (training.compile == "auto" and world.size == 1):
        expected, forced = lay_out(step_seconds).seconds, training.compile == "on"
        compiled, step_seconds = compile_if_it_pays(train_step, time_a_step, step_seconds, expected, forced)
    timetable = lay_out(step_seconds)
    tokens = timetable.n_steps * training.batch * model.context
    flops = flops_of(decoder, model.context)
    peak = max(peak, flops * training.batch * model.context / step_seconds / world.size)
    words = f"{model.arch}, {model.layers} layers, width {model.width}, {model.heads} heads, context {model.context}"
    n_parameters = parameters_of(config)
    plan = TrainingPlan(
        model=f"{words}, {'bf16' if bf16 else 'fp32'} on {hardware.name}",
        parameters=n_parameters,
        derived=dial.derived,
        timetable=timetable,
        tokens=tokens,
        epochs=tokens / corpus.tokens if corpus.tokens else None,
        step_seconds=step_seconds,
        flops=flops * tokens,
        utilisation=flops * training.batch * model.context / step_seconds / (peak * world.size),
        peak=peak,
        memory=replace(parts, saved_while_training=saves_between(training, timetable)),
        available=available,
        micro_batch=train_step.micro_batch,
        batch=training.batch,
        context=model.context,
        bits_per_byte=expected_bits_per_byte(
            n_parameters,
            tokens * corpus.bytes_per_token,
            corpus.tokens * corpus.bytes_per_token if corpus.tokens else None,
        ),
    )
    settings = asdict(model) | asdict(training)
    return Setup(training, settings, config, hardware, bf16, compiled, strategy, train_step, prefetcher, plan, flops)


def _strategy(training: TrainSettings, world: World, n_parameters: int, available: int | None, device: str) -> Strategy:
    """How processes share the model: each a copy where that fits, else each a part.

    Raises:
        InputError: it does not fit at all.
    """
    nothing = StepMemory(0.0, 0.0, 0.0)
    fixed = memory(0.0, n_parameters, n_parameters, 0, 4 * n_parameters, nothing, 1, False, 1, device == "cpu").total
    strategy: Strategy = "ddp" if training.parallel == "auto" or world.size == 1 else training.parallel
    if training.parallel == "auto" and world.size > 1 and available is not None and fixed > 0.6 * available:
        strategy = "fsdp"
    each = fixed / shards(strategy, world)
    if available is not None and each > available:
        raise InputError(
            f"a model of {n_parameters:,} parameters takes {show_bytes(each)} before its first token, and "
            f"{show_bytes(available)} are free: choose a smaller --size, or more processes and --parallel fsdp."
        )
    return strategy


def _document_start(corpus: CorpusStatistics, training: TrainSettings, context: int) -> int | None:
    """The token that opens a document, if tokens are to see their own document only.

    Raises:
        InputError: that was asked for, and documents cannot be told apart.
    """
    masked = training.document_mask
    if masked is None:
        masked = corpus.document_start is not None and corpus.document_tokens < context
    if masked and corpus.document_start is None:
        raise InputError("--document-mask needs a tokenizer with a token that opens documents; this one has none.")
    return corpus.document_start if masked else None


def memory_of(
    train_step: TrainStep, program: float, step: StepMemory, device: str, saved_while_training: bool = False
) -> MemoryEstimate:
    """What a process will hold, with as many rows at a time as the training step has now."""
    model = train_step.model
    by_muon = [
        p for each in train_step.optimizers if isinstance(each, Muon) for g in each.param_groups for p in g["params"]
    ]
    learned = sum(p.numel() for each in train_step.optimizers for g in each.param_groups for p in g["params"])
    return memory(
        program, model.n_parameters(), learned, sum(p.numel() for p in by_muon), bytes_of(model), step,
        train_step.micro_batch, saved_while_training, train_step.replica.shards, on_cpu=device == "cpu",
    )  # fmt: skip


def saves_between(training: TrainSettings, timetable: Timetable) -> bool:
    """Whether a checkpoint is due while steps go on."""
    return timetable.seconds / len(timetable.evaluate_at) > 60 * training.save_minutes


def measured_step(
    objective: Objective, row: Rows, world: World, strategy: Strategy, device: str, bf16: bool
) -> StepMemory:
    """See `measure.step_memory`; before the model is divided among processes.

    Raises:
        InputError: not even a piece of a row fits.
    """
    remark("Measuring what a step takes in memory and time; this leaves the model as it is ...")
    whole = strategy == "ddp"
    try:
        found = step_memory(objective, row, lambda: autocast(device, bf16), device, whole)
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise InputError(
            "this model's gradients do not fit in memory: choose a smaller one, or --method lora."
        ) from None
    return world.agreed(found)


def bytes_of(model: Model) -> int:
    """Of all weights, rounded ones included."""
    return sum(each.nbytes for each in [*model.parameters(), *model.buffers()])


def program_bytes(device: str, model: Model | None = None) -> float:
    """What this process holds beside a model that it has loaded already; 0 where nobody tells, and on a GPU."""
    if device != "cpu":
        return 0.0
    release_freed_memory()
    return max(0.0, (memory_used("cpu") or 0) - (0 if model is None else bytes_of(model)))


def fit(
    train_step: TrainStep, step: StepMemory, program: float, rows: int, row_tokens: int, free: int | None, device: str
) -> MemoryEstimate:
    """Choose how many rows are computed at a time, unless that was asked for.

    Args:
        rows: of this process in a batch.
        free: bytes that the process may take, what it holds already included.

    Raises:
        InputError: not even one row fits.
    """
    parts = memory_of(train_step, program, step, device)
    fixed = parts.total - parts.activations
    if free is not None and train_step.world.size == 1 and fixed + step.row > free:
        raise InputError(
            f"a step with a single row of {row_tokens:,} tokens takes about {show_bytes(fixed + step.row)}, and there are "
            f"{show_bytes(free)}: {train_step.smaller}."
        )
    if train_step.settings.micro_batch is None:
        train_step.micro_batch = fitted_micro_batch(rows, step, fixed, free, row_tokens, device == "cpu")
    return memory_of(train_step, program, step, device)


def parameters_of(config: ModelConfig) -> int:
    """Number of weights, without making them."""
    with torch.device("meta"):
        return build(config).n_parameters()

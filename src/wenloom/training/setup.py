"""From a model and what it learns from to a training step that is ready for its first step, and the plan of the run."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch

from wenloom.core.console import remark
from wenloom.core.errors import InputError
from wenloom.core.hardware import Hardware, matmul_peak, memory_available, memory_used, probe
from wenloom.core.memory import release_freed_memory, reuse_freed_memory
from wenloom.core.progress import progress
from wenloom.core.quantities import show_bytes
from wenloom.model.build import Model, active_parameters
from wenloom.model.config import ModelConfig
from wenloom.model.lora import keep_frozen_in
from wenloom.runtime.threads import StepThreads, step_threads
from wenloom.training.dial import Derived
from wenloom.training.measure import (
    StepMemory,
    compile_if_it_pays,
    flops_of,
    step_memory,
    time_steps,
    time_validation,
    use_libraries,
)
from wenloom.training.objectives import Objective
from wenloom.training.optimizers import Muon
from wenloom.training.pace import EVALUATION_SHARE, Pace
from wenloom.training.parallel import Strategy, World, shards
from wenloom.training.plan import (
    MemoryEstimate,
    Timetable,
    TrainingPlan,
    fitted_micro_batch,
    make_timetable,
    memory,
)
from wenloom.training.prefetcher import Prefetcher
from wenloom.training.settings import TrainSettings
from wenloom.training.source import Rows, Source
from wenloom.training.train_step import SMALLER, TrainStep, autocast, is_out_of_memory, recompute_blocks

_TIMING_SHARE = 0.05
"""Part of a budget that is spent at most on timing a few steps."""


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
    source: Source
    prefetcher: Prefetcher
    plan: TrainingPlan
    pace: Pace
    threads: StepThreads
    flops: float
    """Of one training step per token."""
    least_part: float
    """Of the validation data, as much as a step reads: what is scored at least, however short a budget is."""
    prolonged: tuple[str, ...]
    """See `RunSpec`."""


@dataclass(frozen=True)
class RunSpec:
    """What a run is made of: all that pretraining and every task say before the one set-up and the one loop."""

    objective: Objective
    """With the model that is to learn."""
    source: Source
    training: TrainSettings
    """Without gaps."""
    settings: dict[str, Any]
    """All settings, as run.toml keeps them."""
    derived: list[Derived]
    """What of them follows from others."""
    words: str
    """The model, for people."""
    validation_tokens: int
    """About how many tokens an evaluation of all validation data reads."""
    has_epochs: bool = True
    """Whether the source is a text that there is, not one imagined for a plan."""
    layer_decay: float = 1.0
    """See `make_optimizers`."""
    smaller: str = SMALLER
    """What to do where a single row does not fit in memory, for people."""
    calmer: str = "more text, a higher --dropout, a smaller --size or fewer --epochs"
    """What helps where the model learns its text by heart, for people."""
    expected: Callable[[int], tuple[float, float]] | None = None
    """Bits per byte to expect after so many tokens, from and to."""
    deadline: float | None = None
    """When the command is to have ended, by `time.monotonic`; None without a budget."""
    closing: float = 1.0
    """Seconds that what follows the last evaluation takes."""
    evaluates_first: bool = False
    """Whether the model is validated before its first step: what it began with is a result, too."""
    prolongs: bool = False
    """Whether the steps of `training` come after those of the checkpoint that it continues from."""
    prolonged: tuple[str, ...] = ()
    """How the run came to be longer than its settings say, for people."""


class Restored(NamedTuple):
    """Where a run is taken up."""

    done: int = 0
    """Steps done of those that are planned."""
    n_steps: int = 0
    """Steps that the run was made for; 0: as many as its settings say."""
    samples: int = 0
    """Samples that a run had read before it was prolonged."""


def set_up(
    spec: RunSpec, world: World, restore: Callable[[TrainStep], Restored] = lambda train_step: Restored()
) -> Setup:
    """Place the model, fit it to memory, time it and plan the run.

    Args:
        restore: puts an earlier state into place before anything is measured.

    Raises:
        InputError: the settings do not fit together, or the model does not fit in memory.
    """
    reuse_freed_memory()
    source, objective = spec.source, spec.objective
    training, size = replace(spec.training, batch=source.batch), source.batch
    if size < world.size:
        raise InputError(f"--batch {size}: give every one of the {world.size} processes at least one sequence.")
    hardware = probe(training.device)
    device = hardware.device
    bf16 = training.precision == "bf16" or (training.precision == "auto" and hardware.bf16)
    if training.precision == "bf16" and not hardware.bf16:
        remark("This machine has no bf16 unit: bf16 works here, but slower than fp32.")
    if training.compile == "on" and objective.model.config.mlp.experts is not None:
        raise InputError("--compile on: experts are not compiled, whose products have other sizes in every step.")
    threads = step_threads(device, world.size)
    peak = world.agreed(matmul_peak(device, torch.bfloat16 if bf16 else torch.float32))
    model, config = objective.model.to(device), objective.model.config
    if training.recompute:
        recompute_blocks(model)
    if bf16:
        keep_frozen_in(model, torch.bfloat16)
    program = program_bytes(device, model)
    available = memory_available(device)
    if available is not None:
        available += bytes_of(model)  # which stays where it is
        if device == "cpu":
            available = world.agreed(available // world.size)
    n_parameters = model.n_parameters()
    n_learned = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    strategy = chosen_strategy(training, world, n_parameters, n_learned, bytes_of(model), available, device)
    prefetcher = Prefetcher(source, training.seed, device, world)
    first, end = world.share(size)
    widest = source.widest() | {"dropout_keys_B": torch.zeros(1).long()}
    widest = {name: each.to(device) for name, each in widest.items()}
    with progress("Measuring what a step takes in memory"):
        step = measured_step(objective, widest, world, strategy, device, bf16, training.micro_batch or end - first)
    train_step = TrainStep(objective, training, world, strategy, device, bf16, training.micro_batch or end - first,
                           spec.layer_decay, spec.smaller, size * source.row_tokens)  # fmt: skip
    train_step.threads = threads
    done, n_steps, samples_before = restore(train_step)
    model.train()
    free = None if available is None else int(available + program)
    parts = fit(train_step, step, program, end - first, source.longest, free, device)

    def left() -> float | None:
        return None if spec.deadline is None else max(0.0, spec.deadline - time.monotonic() - spec.closing)

    def lay_out(step_seconds: float) -> Timetable:
        return make_timetable(training, step_seconds, size * source.row_tokens, source.per_epoch,
                              validation_part * spec.validation_tokens, done, n_steps or None, world.agreed(left()),
                              evaluation_seconds, spec.evaluates_first)  # fmt: skip

    def work(step: int) -> float:
        return (source.work((step + 1) * size) - source.work(step * size)) / size

    def time_a_step(whole: bool = True) -> float:
        limit = min(10.0, _TIMING_SHARE * (left() or math.inf))
        read = lambda attempt: prefetcher.batch(attempt * size)  # noqa: E731
        return world.agreed(time_steps(train_step, read, work, limit=limit, whole=whole))

    with progress("Measuring the time of a step"):
        step_seconds, compiled = time_a_step(whole=False), False
        evaluation_seconds, validation_part = None, training.validation_part or 1.0
        least_part = min(1.0, size * source.row_tokens / max(1, spec.validation_tokens))
        n_certain = (training.evaluations or 1) + (spec.evaluates_first and not done)
        if spec.deadline is not None:
            batches = spec.validation_tokens / (size * source.row_tokens)
            whole_seconds = batches * time_validation(train_step, prefetcher.batch(0)) / work(0)
            if training.validation_part is None:
                share = EVALUATION_SHARE * (left() or 0.0) / n_certain
                validation_part = min(1.0, max(least_part, share / max(whole_seconds, 1e-9)))
            validation_part, evaluation_seconds = world.agreed((validation_part, validation_part * whole_seconds))
    fits = world.size == 1 and source.one_shape and config.mlp.experts is None  # of these the products change in size
    if training.compile == "on" or (training.compile == "auto" and fits):
        whole, forced = lay_out(step_seconds), training.compile == "on"
        expected = whole.seconds - len(whole.evaluate_at) * whole.evaluation_seconds  # which compiling leaves as it is
        with progress("Compiling the blocks, if that pays"):
            compiled, step_seconds = compile_if_it_pays(train_step, time_a_step, step_seconds, expected, forced)
    if compiled:
        threads.fix()
    timetable, flops = lay_out(step_seconds), flops_of(model, source.row_tokens)
    tokens, reached = timetable.n_steps * size * source.row_tokens, flops * size * source.row_tokens / step_seconds
    peak = max(peak, reached / world.size)
    plan = TrainingPlan(
        model=f"{spec.words}, {'bf16' if bf16 else 'fp32'} on {hardware.name}"
        + ", blocks recomputed" * training.recompute
        + ", compiled" * compiled,
        parameters=n_parameters,
        active_parameters=active_parameters(model),
        derived=spec.derived,
        timetable=timetable,
        tokens=tokens,
        epochs=timetable.n_steps * size / source.per_epoch if spec.has_epochs else None,
        step_seconds=step_seconds,
        flops=flops * tokens,
        utilisation=reached / (peak * world.size),
        peak=peak,
        memory=replace(parts, saved_while_training=saves_between(training, timetable)),
        available=available,
        micro_batch=train_step.micro_batch,
        batch=size,
        context=source.row_tokens,
        validation_part=validation_part,
        bits_per_byte=None if spec.expected is None else spec.expected(tokens + samples_before * source.row_tokens),
    )
    pace = Pace(
        step_seconds,
        timetable.evaluation_seconds,
        spec.deadline,
        spec.closing,
        lambda step: source.work(step * size) / size,
        all_are_due=training.evaluations is not None,
    )
    return Setup(training, spec.settings, config, hardware, bf16, compiled, strategy, train_step, source, prefetcher,
                 plan, pace, threads, flops, least_part, spec.prolonged)  # fmt: skip


def chosen_strategy(
    training: TrainSettings,
    world: World,
    n_parameters: int,
    n_learned: int,
    weights: float,
    available: int | None,
    device: str,
) -> Strategy:
    """How processes share the model: each a copy where that fits, else each a part.

    Args:
        weights: bytes of all weights.
        available: bytes that a process may take.

    Raises:
        InputError: it does not fit at all.
    """
    nothing = StepMemory(0.0, 0.0, 0.0)
    fixed = memory(0.0, n_parameters, n_learned, 0, weights, nothing, 1, False, 1, device == "cpu").total
    strategy: Strategy = "ddp" if training.parallel == "auto" or world.size == 1 else training.parallel
    if training.parallel == "auto" and world.size > 1 and available is not None and fixed > 0.6 * available:
        strategy = "fsdp"
    each = fixed / shards(strategy, world)
    if available is not None and each > available:
        raise InputError(
            f"a model of {n_parameters:,} parameters takes {show_bytes(each)} before its first token, and "
            f"{show_bytes(available)} are free: choose a smaller model, or more processes and --parallel fsdp."
        )
    return strategy


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
    objective: Objective, row: Rows, world: World, strategy: Strategy, device: str, bf16: bool, n_rows: int
) -> StepMemory:
    """See `measure.step_memory`; before the model is divided among processes.

    Raises:
        InputError: not even a piece of a row fits.
    """
    whole = strategy == "ddp"
    try:
        found = step_memory(objective, row, lambda: autocast(device, bf16), device, whole, n_rows)
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise InputError(
            "this model's gradients do not fit in memory: choose a smaller one, or --method lora."
        ) from None
    return world.agreed(found)


def bytes_of(model: Model) -> int:
    """Of all weights, quantized ones included."""
    return sum(each.nbytes for each in [*model.parameters(), *model.buffers()])


def program_bytes(device: str, model: Model) -> float:
    """What this process holds beside the model; 0 where nobody tells, and on a GPU."""
    if device != "cpu":
        return 0.0
    use_libraries()
    release_freed_memory()
    return max(0.0, (memory_used("cpu") or 0) - bytes_of(model))


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

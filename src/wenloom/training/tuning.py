"""From a model and examples to a training step that is ready for its first step."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch

from wenloom.core.errors import InputError
from wenloom.core.hardware import matmul_peak, memory_available, probe
from wenloom.core.memory import reuse_freed_memory
from wenloom.model.lora import keep_frozen_in
from wenloom.training.dial import Derived
from wenloom.training.examples import Example, Examples, collated, targets_of, tokens_of
from wenloom.training.measure import flops_of, time_steps
from wenloom.training.objectives import Objective
from wenloom.training.parallel import World
from wenloom.training.plan import TrainingPlan, make_timetable
from wenloom.training.prefetcher import Prefetcher
from wenloom.training.settings import TrainSettings
from wenloom.training.setup import Setup, bytes_of, fit, measured_step, program_bytes, saves_between
from wenloom.training.train_step import SMALLER, TrainStep, recompute_blocks


def set_up_tuning(
    objective: Objective,
    train: Sequence[Example],
    held_out: Sequence[Example],
    training: TrainSettings,
    settings: dict[str, Any],
    derived: list[Derived],
    world: World,
    restore: Callable[[TrainStep], tuple[int, int]],
    change: Callable[[Example, int], Example] | None = None,
    smaller: str = SMALLER,
) -> Setup:
    """Place the model, fit it to memory, time it and plan the run.

    Args:
        objective: with the model that is to learn.
        training: batch and learning rate are set.
        settings: all settings, as run.toml keeps them.
        derived: what of them follows from others.
        restore: see `setup.set_up`.
        change: see `Examples`.
        smaller: see `TrainStep`.

    Raises:
        InputError: no target counts: the run would learn nothing.
    """
    if not any(map(targets_of, train)):
        raise InputError("no example holds a single token to learn: every target is empty or cut off.")
    reuse_freed_memory()
    hardware = probe(training.device)
    device = hardware.device
    bf16 = training.precision == "bf16" or (training.precision == "auto" and hardware.bf16)
    peak = world.agreed(matmul_peak(device, torch.bfloat16 if bf16 else torch.float32))
    model, config = objective.model.to(device), objective.model.config
    assert training.batch
    examples = Examples(train, training.batch, training.seed, change)
    training = replace(training, batch=examples.batch)
    assert training.batch
    if training.recompute:
        recompute_blocks(model)
    prefetcher = Prefetcher(examples.rows, training.batch, training.seed, device, world)
    first, end = world.share(training.batch)
    mean_length = max(1, round(statistics.fmean(map(tokens_of, train))))
    if bf16:
        keep_frozen_in(model, torch.bfloat16)
    program = program_bytes(device, model)
    available = memory_available(device)
    if available is not None and device == "cpu":
        available = world.agreed(available // world.size)
    longest = max(train, key=tokens_of)
    widest = collated([longest if change is None else change(longest, 0)])
    widest = {name: each.to(device) for name, each in (widest | {"dropout_keys_B": torch.zeros(1).long()}).items()}
    strategy = "ddp" if training.parallel == "auto" or world.size == 1 else training.parallel
    step = measured_step(objective, widest, world, strategy, device, bf16)
    train_step = TrainStep(objective, training, world, strategy, device, bf16, training.micro_batch or end - first,
                      settings.get("layer_decay", 1.0), smaller)  # fmt: skip
    done, n_steps = restore(train_step)
    model.train()
    free = None if available is None else int(available + program + bytes_of(model))
    parts = fit(train_step, step, program, end - first, max(map(tokens_of, train)), free, device)
    size = training.batch
    step_seconds = world.agreed(time_steps(train_step, lambda attempt: prefetcher.batch(attempt * size)))
    timetable = make_timetable(
        training, step_seconds, size * mean_length, examples.per_epoch,
        round(sum(map(targets_of, held_out)) * mean_length / max(1.0, statistics.fmean(map(targets_of, train)))),
        done, n_steps or None,
    )  # fmt: skip
    tokens, flops = timetable.n_steps * size * mean_length, flops_of(model, mean_length)
    peak = max(peak, flops * size * mean_length / step_seconds / world.size)
    n_parameters = model.n_parameters()
    plan = TrainingPlan(
        model=f"{config.family}, {config.n_layers} layers, width {config.d_model}, {'bf16' if bf16 else 'fp32'} on {hardware.name}",
        parameters=n_parameters,
        derived=derived,
        timetable=timetable,
        tokens=tokens,
        epochs=timetable.n_steps / examples.n_batches,
        step_seconds=step_seconds,
        flops=flops * tokens,
        utilisation=flops * size * mean_length / step_seconds / (peak * world.size),
        peak=peak,
        memory=replace(parts, saved_while_training=saves_between(training, timetable)),
        available=available,
        micro_batch=train_step.micro_batch,
        batch=size,
        context=mean_length,
        bits_per_byte=None,
    )
    return Setup(training, settings, config, hardware, bf16, False, strategy, train_step, prefetcher, plan, flops)

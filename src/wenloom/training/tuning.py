"""From a model and examples to a learner that is ready for its first step."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch

from wenloom.core.errors import InputError
from wenloom.core.hardware import matmul_peak, memory_available, probe
from wenloom.core.memory import reuse_freed_memory
from wenloom.training.dial import Derived
from wenloom.training.examples import Example, Examples, targets_of, tokens_of
from wenloom.training.feed import Feed
from wenloom.training.learner import Learner, autocast, recompute_blocks
from wenloom.training.measure import activation_bytes, flops_per_token, time_steps
from wenloom.training.objectives import Objective
from wenloom.training.parallel import World
from wenloom.training.plan import Plan, fitted_micro_batch, make_timetable
from wenloom.training.settings import TrainSettings
from wenloom.training.setup import Setup, memory_of


def set_up_tuning(
    objective: Objective,
    train: Sequence[Example],
    held_out: Sequence[Example],
    training: TrainSettings,
    settings: dict[str, Any],
    derived: list[Derived],
    world: World,
    restore: Callable[[Learner], tuple[int, int]],
    change: Callable[[Example, int], Example] | None = None,
) -> Setup:
    """Place the model, fit it to memory, time it and plan the run.

    Args:
        objective: with the model that is to learn.
        training: batch and learning rate are set.
        settings: all settings, as run.toml keeps them.
        derived: what of them follows from others.
        restore: see `setup.set_up`.
        change: see `Examples`.

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
    feed = Feed(examples.rows, training.batch, training.seed, device, world)
    first, end = world.share(training.batch)
    mean_length = max(1, round(statistics.fmean(map(tokens_of, train))))
    row_bytes = world.agreed(activation_bytes(objective, feed.batch(0), autocast(device, bf16)))
    available = memory_available(device)
    strategy = "ddp" if training.parallel == "auto" or world.size == 1 else training.parallel
    learner = Learner(objective, training, world, strategy, device, bf16, training.micro_batch or end - first,
                      settings.get("layer_decay", 1.0))  # fmt: skip
    done, n_steps = restore(learner)
    model.train()
    parts = memory_of(learner, row_bytes, bf16, device)
    if training.micro_batch is None:
        fixed = parts.total - parts.activations
        learner.micro_batch = fitted_micro_batch(end - first, row_bytes, fixed, available, mean_length)
        parts = memory_of(learner, row_bytes, bf16, device)
    size = training.batch
    step_seconds = world.agreed(time_steps(learner, lambda attempt: feed.batch(attempt * size)))
    timetable = make_timetable(
        training, step_seconds, size * mean_length, examples.per_epoch,
        round(sum(map(targets_of, held_out)) * mean_length / max(1.0, statistics.fmean(map(targets_of, train)))),
        done, n_steps or None,
    )  # fmt: skip
    tokens, flops = timetable.n_steps * size * mean_length, flops_per_token(config)
    n_parameters = model.n_parameters()
    plan = Plan(
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
        memory=parts,
        available=available,
        micro_batch=learner.micro_batch,
        batch=size,
        context=mean_length,
        bits_per_byte=None,
    )
    return Setup(training, settings, config, hardware, bf16, False, strategy, learner, feed, plan, flops)

"""What this machine does with this model, measured before the run."""

import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from wenloom.core.console import remark
from wenloom.model.config import ModelConfig
from wenloom.training.feed import Batch
from wenloom.training.learner import Learner
from wenloom.training.objectives import Objective

_TRY_COMPILE_FROM = 240.0
"""Seconds of training from which compiling is tried: it takes 5 to 60 s and saves 5 to 20 % of a step."""


def flops_per_token(config: ModelConfig) -> float:
    """Of one training step, forward and backward: 6 per weight of a matrix product and 12 per layer, token of context
    and unit of attention width (Chowdhery et al. 2022, PaLM, appendix B; attention counted as if it were not causal)."""
    attention = config.n_heads * config.d_head
    weights = config.d_model * (2 * attention + 2 * config.n_kv_heads * config.d_head)
    weights += (3 if config.gated_mlp else 2) * config.d_model * config.d_mlp
    products = config.n_layers * weights + (config.vocab_size * config.d_model if config.causal else 0)
    flops = 6.0 * products + 12.0 * config.n_layers * attention * config.context_length
    return flops if config.encoder is None else (flops + flops_per_token(config.encoder)) / 2  # half read, half write


def activation_bytes(objective: Objective, batch: Batch, autocast: AbstractContextManager[object]) -> int:
    """What one row keeps for the backward pass, by asking autograd: two rows less one, so that what does not grow
    with rows (gradients of the output layer, weights in bf16) drops out."""
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    totals = []
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), autocast:
        for rows in (1, 2):
            kept.clear()
            loss = objective(**{name: each.expand(rows, *each.shape[1:]).contiguous()
                                for name, each in batch.part(slice(1)).items()})  # fmt: skip
            totals.append(sum(kept.values()))
            del loss
    return max(1, totals[1] - totals[0])


def time_steps(learner: Learner, read: Callable[[int], Batch], rounds: int = 5, limit: float = 20.0) -> float:
    """Seconds of one optimizer step, from a few that leave nothing behind; the first one warms up.

    The learning rate is 0 and the optimizers' memory is cleared after it; where that is full already (a resumed
    run), only gradients are timed.
    """
    resumed = any(optimizer.state for optimizer in learner.optimizers)
    seconds: list[float] = []
    for attempt in range(rounds + 1):
        batch = read(attempt)
        started = time.perf_counter()
        if resumed:
            learner.gradients(batch)
            learner.zero_grad()
        else:
            learner.step(batch, learning_rate=0.0)
        seconds.append(time.perf_counter() - started)
        if sum(seconds) > limit and attempt:
            break
    if not resumed:
        for optimizer in learner.optimizers:
            optimizer.state.clear()
    return statistics.median(seconds[1:])


def compile_blocks(blocks: nn.ModuleList, on: bool) -> None:
    """Turn compilation of the blocks on or off. One block's code serves all of them, so depth costs nothing."""
    for block in blocks:
        if on:
            block.compile(dynamic=False)
        else:
            block._compiled_call_impl = None


def compile_if_it_pays(
    learner: Learner, time_a_step: Callable[[], float], eager_seconds: float, expected: float, forced: bool
) -> tuple[bool, float]:
    """Try `torch.compile` and keep it if a step gains by it.

    Args:
        time_a_step: seconds of a step as things are.
        eager_seconds: what it said before compiling.
        expected: seconds that the run will take.
        forced: try it however short the run, and keep it.

    Returns:
        Whether the blocks are compiled now, and seconds of a step.
    """
    if expected < _TRY_COMPILE_FROM and not forced:
        return False, eager_seconds
    started = time.perf_counter()
    compile_blocks(learner.model.blocks, True)
    try:
        compiled_seconds = time_a_step()
    except Exception as error:  # no compiler, or one that fails: a machine without it still trains
        if learner.world.size > 1:
            raise
        compile_blocks(learner.model.blocks, False)
        learner.zero_grad()
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:100]
        remark(f"Going on without torch.compile, at {eager_seconds * 1e3:,.0f} ms a step ({reason}).")
        return False, eager_seconds
    cost = max(0.0, time.perf_counter() - started - 6 * compiled_seconds)
    gain = eager_seconds - compiled_seconds
    if not forced and gain * expected / eager_seconds < 0.02 * expected:
        compile_blocks(learner.model.blocks, False)
        remark(
            f"torch.compile gains nothing here ({compiled_seconds * 1e3:,.0f} ms a step, {eager_seconds * 1e3:,.0f} without)."
        )
        return False, eager_seconds
    repaid = f", repaid after {cost / gain:,.0f} steps" if gain > 0 else ""
    remark(
        f"Compiled the blocks in {cost:.0f} s: a step takes {compiled_seconds * 1e3:,.0f} ms "
        f"instead of {eager_seconds * 1e3:,.0f}{repaid}."
    )
    return True, compiled_seconds

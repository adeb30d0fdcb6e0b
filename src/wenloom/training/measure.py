"""What this machine does with this model, measured before the run."""

import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wenloom.core.console import remark
from wenloom.core.hardware import matmul_peak, memory_used, probe
from wenloom.core.memory import release_freed_memory
from wenloom.model.attention import WEIGHTS_KEPT_UP_TO
from wenloom.model.build import Model
from wenloom.model.config import ModelConfig
from wenloom.model.lora import adapted_layers
from wenloom.training.objectives import Objective
from wenloom.training.parallel import World
from wenloom.training.settings import TrainSettings
from wenloom.training.source import Batch, Rows
from wenloom.training.train_step import TrainStep

_GUESSED_UTILISATION = 0.3
"""Part of the matmul peak that a step reaches, before one is timed; 0.2 (1m parameters) to 0.6 (10m) on 2 CPU cores."""
_TRY_COMPILE_FROM = 240.0
"""Seconds of training from which compiling is tried: it takes 5 to 60 s and saves 5 to 20 % of a step."""


def guessed_flops_per_second(training: TrainSettings, world: World) -> float:
    """What all processes together do in training, before a step was timed."""
    hardware = probe(training.device)
    bf16 = training.precision == "bf16" or (training.precision == "auto" and hardware.bf16)
    peak = world.agreed(matmul_peak(hardware.device, torch.bfloat16 if bf16 else torch.float32))
    return _GUESSED_UTILISATION * peak * world.size


def flops_of(model: Model, length: float) -> float:
    """Floating-point operations of a training step per token, in rows of so many tokens, by what of the model learns."""
    learned = [parameter for parameter in model.blocks.parameters() if parameter.requires_grad]
    passes = 1 if not learned else 2 if any(adapted_layers(model)) else 3
    return flops_per_token(model.config, length, passes)


def flops_per_token(config: ModelConfig, length: float, passes: int = 3) -> float:
    """Of one training step, forward and backward: 6 per weight of a matrix product and 12 per layer, token of a row
    and unit of attention width (Chowdhery et al. 2022, PaLM, appendix B; attention counted as if it were not causal).
    Of experts those count that are active.

    Args:
        length: tokens of a row.
        passes: 3 for a whole step; 2 where weights are frozen and only what is beside them learns; 1 where nothing
            below the head does.
    """
    attention = config.n_heads * config.d_head
    weights = config.d_model * (2 * attention + 2 * config.n_kv_heads * config.d_head)
    weights *= config.n_layers
    for layer in range(config.n_layers):
        experts = config.mlp.experts_of(layer)
        width = config.d_mlp if experts is None else experts.active * experts.d_mlp
        weights += config.d_model * ((3 if config.mlp.gated else 2) * width + (0 if experts is None else experts.count))
    output = config.vocab_size * config.d_model if config.kind != "encoder" else 0
    products = 2.0 * passes * weights + 2.0 * max(2, passes) * output
    flops = products + (12.0 if passes > 1 else 4.0) * config.n_layers * attention * length
    if config.encoder is not None:  # half read, half write
        return (flops + flops_per_token(config.encoder, length, passes)) / 2
    return flops


class StepMemory(NamedTuple):
    """What a training step takes beside weights and gradients."""

    fixed: float
    """Bytes that do not grow with the rows: pieces of the output layer, scratch of matrix products."""
    row: float
    """Bytes of each row that is computed at a time, with what lies unused between them."""
    kept: float
    """Bytes of them that the row's tensors for the backward pass have: counted, so that it is the same in every run."""


def step_memory(
    objective: Objective, row: Rows, autocast: Callable[[], AbstractContextManager[object]], device: str, whole: bool,
    n_rows: int | None = None,
) -> StepMemory:  # fmt: skip
    """Measured with pieces of one row, before a whole one is tried.

    What autograd keeps is counted by its own hooks; what the process takes for it (temporary results, the allocator's
    waste) is how much it has grown after a step forward and back. Both grow in proportion to the tokens, once
    attention keeps no weights; so two pieces, one twice as long as the other, tell how much a token and how much every
    step takes.

    Args:
        row: the widest example of the run, as one row.
        whole: whether this process may compute gradients here (the parts of a sharded model do not fit in one).
        n_rows: the most rows that are ever computed at a time, so that measuring takes no more memory than they do.
    """
    length = max(tensor.shape[1] for tensor in row.values() if tensor.dim() > 1)
    wanted = _piece_tokens(objective.model.n_parameters())
    if n_rows is not None:
        wanted = min(wanted, max(min(_LEAST_TOKENS, length), n_rows * length // 2))
    pieces = [_piece(row, length, tokens) for tokens in (wanted, 2 * wanted)]
    objective.train()
    release_freed_memory()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    before = _taken(device)
    counted, taken = [], []
    for piece, _ in pieces:
        for parameter in objective.parameters():
            parameter.grad = None  # a first piece's would count into what the second one takes
        release_freed_memory()  # holes that the piece before left are too small for this one: it would count as larger
        kept: dict[int, int] = {}

        def pack(tensor: Tensor, kept: dict[int, int] = kept) -> Tensor:
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), autocast():
            loss = objective(**piece).total
        counted.append(sum(kept.values()))
        kept.clear()
        if whole and before is not None:
            loss.backward()
            taken.append((_taken(device) or before) - before)
        del loss
    gradients = sum(each.grad.nbytes for each in objective.parameters() if each.grad is not None)
    for parameter in objective.parameters():
        parameter.grad = None
    release_freed_memory()  # what was tried here may be more than a step takes
    first, second = (rows for _, rows in pieces)
    kept_by_row = max(1.0, (counted[1] - counted[0]) / (second - first))
    if not taken:
        return StepMemory(0.0, 1.3 * kept_by_row, kept_by_row)
    by_row = max(kept_by_row, (taken[1] - taken[0]) / (second - first))
    return StepMemory(max(0.0, taken[0] - gradients - first * by_row), by_row, kept_by_row)


_LEAST_TOKENS = WEIGHTS_KEPT_UP_TO + 64


def use_libraries() -> None:
    """A step of a model of nothing: what PyTorch's libraries take comes with their first use, some 50 MB, and belongs to
    the program and not to the model."""
    with torch.random.fork_rng(devices=[]):
        layer = nn.Sequential(nn.Linear(64, 64), nn.LayerNorm(64), nn.GELU(), nn.Linear(64, 64))
    for bf16 in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            x_11TK = layer(torch.zeros(64, 64))[None, None]
            y_11TK = F.scaled_dot_product_attention(x_11TK, x_11TK, x_11TK)
        F.cross_entropy(y_11TK[0, 0].float(), torch.zeros(64, dtype=torch.long)).backward()
    torch.optim.AdamW(layer.parameters()).step()


def _piece_tokens(n_parameters: int) -> int:
    """Enough to stand out from chance, few enough to take no time; more than attention keeps weights of."""
    return int(min(1024, max(_LEAST_TOKENS, 2.5e11 / (6 * n_parameters))))


def _piece(row: Rows, length: int, tokens: int) -> tuple[Rows, float]:
    """About so many tokens of a row, or of several like it; and how many rows that is."""
    if length > tokens:
        part = tokens / length
        return {
            name: each[:, : max(1, round(part * each.shape[1]))] if each.dim() > 1 else each
            for name, each in row.items()
        }, part
    count = tokens // length
    return {name: each.expand(count, *each.shape[1:]).contiguous() for name, each in row.items()}, count


def _taken(device: str) -> int | None:
    """Bytes that this process has asked for so far; on a GPU the most it needed at once."""
    return None if device == "mps" else memory_used(device)


def time_steps(
    train_step: TrainStep,
    read: Callable[[int], Batch],
    work: Callable[[int], float] = lambda attempt: 1.0,
    rounds: int = 5,
    limit: float = 10.0,
    whole: bool = False,
) -> float:
    """Seconds of an average optimizer step, from parts of a few that leave nothing behind; the first one warms up.

    Of every batch only as many rows are computed as are computed at a time, or as the limit holds; the rest would take
    as long. The learning rate is 0 and the optimizers' memory is cleared after it; where that is full already (a resumed
    run), only gradients are timed.

    Args:
        work: what a step costs, in average steps.
        limit: seconds after which no other step is tried.
        whole: compute as many rows as are computed at a time, whatever they take: code is compiled for their number.
    """
    resumed = any(optimizer.state for optimizer in train_step.optimizers)
    seconds: list[float] = []
    spent, n_rows = 0.0, train_step.micro_batch if whole else 1
    for attempt in range(rounds + 1):
        batch = read(attempt)
        part = Batch(batch.first, batch.part(slice(n_rows)), batch.weight)
        started = time.perf_counter()
        gradients = train_step.gradients(part)
        computed = time.perf_counter()
        if not resumed and gradients.finite:  # a rate of 0 times what is not a number is not a number
            train_step.apply(learning_rate=0.0)
        train_step.zero_grad()
        ended = time.perf_counter()
        seconds.append((computed - started) * batch.n_rows / part.n_rows / work(attempt) + ended - computed)
        spent += ended - started
        if spent > limit:
            break
        if not whole and not attempt:
            n_rows = max(1, min(train_step.micro_batch, int(limit / 2 / max(ended - started, 1e-9))))
    if not resumed:
        for optimizer in train_step.optimizers:
            optimizer.state.clear()
    return statistics.median(seconds[1:] or seconds)


@torch.no_grad()
def time_validation(train_step: TrainStep, batch: Batch) -> float:
    """Seconds to score a batch without learning from it, by as many of its rows as are computed at a time."""
    part = Batch(batch.first, batch.part(slice(train_step.micro_batch)), batch.weight)
    seconds = []
    train_step.model.eval()
    for _ in range(2):  # the first one warms up
        started = time.perf_counter()
        with train_step.autocast():
            train_step.replica.module(**part.rows).total.item()
        seconds.append(time.perf_counter() - started)
    train_step.model.train()
    return seconds[-1] * batch.n_rows / part.n_rows


def compile_blocks(blocks: nn.ModuleList, on: bool) -> None:
    """Turn compilation of the blocks on or off. One block's code serves all of them, so depth costs nothing."""
    for block in blocks:
        if on:
            block.compile(dynamic=False)
        else:
            block._compiled_call_impl = None


def compile_if_it_pays(
    train_step: TrainStep, time_a_step: Callable[[], float], eager_seconds: float, expected: float, forced: bool
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
    compile_blocks(train_step.model.blocks, True)
    try:
        compiled_seconds = time_a_step()
    except Exception as error:  # no compiler, or one that fails: a machine without it still trains
        if train_step.world.size > 1:
            raise
        compile_blocks(train_step.model.blocks, False)
        train_step.zero_grad()
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:100]
        remark(f"Going on without torch.compile, at {eager_seconds * 1e3:,.0f} ms a step ({reason}).")
        return False, eager_seconds
    cost = max(0.0, time.perf_counter() - started - 6 * compiled_seconds)
    gain = eager_seconds - compiled_seconds
    if not forced and gain * expected / eager_seconds < 0.02 * expected:
        compile_blocks(train_step.model.blocks, False)
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

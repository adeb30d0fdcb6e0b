"""Numbers into the blocks of GGUF: 8 bits, 4 bits, and 4 bits with a scale and an offset for every 32 numbers (Q4_K)."""

from collections.abc import Callable

import torch
from torch import Tensor

from wenloom.checkpoint.gguf.kinds import NUMBERS, TENSORS

WRITTEN = {"F32": 0, "F16": 1, "BF16": 32, "Q8_0": 7, "Q4_0": 2, "Q4_K": 14}
"""Kinds that are written, and what llama.cpp calls a file that holds mostly this kind (general.file_type)."""
_SPREADS = (0.9, 0.95, 1.0, 1.05)
"""Parts of a group's range from which the search for its scale begins."""
_ROUNDS = 4
"""Times that scale and offset are fitted to the rounded numbers, and these rounded anew."""
_TINY = 1e-30


def blocks_of(matrix: Tensor, kind: str) -> bytes:
    """The bytes of a tensor.

    Args:
        matrix: of shape (..., columns), where columns are whole blocks, see `fitting`.
        kind: one of `WRITTEN`.
    """
    matrix = matrix.detach().contiguous()
    if kind in ("F32", "F16", "BF16"):
        dtype = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}[kind]
        return matrix.to(dtype).reshape(-1).view(torch.uint8).numpy().tobytes()
    groups = matrix.float().reshape(-1, TENSORS[NUMBERS[kind]].numbers)
    return _QUANTIZERS[kind](groups).numpy().tobytes()


def fitting(kind: str, columns: int) -> str:
    """The kind, or the nearest wider one whose blocks fit into rows of so many columns."""
    for each in (kind, "Q8_0", "F16"):
        if columns % TENSORS[NUMBERS[each]].numbers == 0:
            return each
    raise AssertionError("F16 has blocks of one number")


def _half(values: Tensor) -> tuple[Tensor, Tensor]:
    """Numbers as 16 bits, and their two bytes."""
    half = values.half()
    return half.float(), half.unsqueeze(-1).view(torch.uint8)


def _q8_0(groups: Tensor) -> Tensor:
    """d and 32 whole numbers from -127 to 127: x = d q."""
    scale = groups.abs().amax(1) / 127
    _, stored = _half(scale)
    steps = groups * torch.where(scale > 0, 1 / scale, 0.0)[:, None]
    whole = (steps.abs() + 0.5).floor() * steps.sign()  # halves away from 0
    return torch.cat([stored, whole.to(torch.int8).view(torch.uint8)], 1)


def _q4_0(groups: Tensor) -> Tensor:
    """d and 32 whole numbers from 0 to 15: x = d (q - 8), where the number farthest from 0 has q = 0."""
    farthest = groups.gather(1, groups.abs().argmax(1, keepdim=True))[:, 0]
    scale = farthest / -8
    _, stored = _half(scale)
    whole = (groups * torch.where(scale != 0, 1 / scale, 0.0)[:, None] + 8.5).floor().clamp(0, 15).to(torch.uint8)
    return torch.cat([stored, whole[:, :16] | whole[:, 16:] << 4], 1)


def _q4_k(blocks: Tensor) -> Tensor:
    """d, m, and of each of 8 groups 6-bit s and o and 32 whole numbers from 0 to 15: x = d s q - m o.

    Scale and offset of a group are those of the least squared error: for given q they are a linear regression of x on q, and
    for given scale and offset q is the nearest whole number. Both are repeated, from several beginnings.
    """
    groups = blocks.view(len(blocks), 8, 32)
    scale, offset = _fitted(groups)
    d, stored_d = _half(scale.amax(1) / 63)
    m, stored_m = _half(offset.amax(1) / 63)
    steps = (scale / d.clamp(min=_TINY)[:, None]).round().clamp(0, 63).to(torch.uint8)
    lows = (offset / m.clamp(min=_TINY)[:, None]).round().clamp(0, 63).to(torch.uint8)
    width = (d[:, None] * steps)[..., None]
    shifted = (groups + (m[:, None] * lows)[..., None]) / width.clamp(min=_TINY)
    whole = torch.where(width > 0, shifted, 0.0).round().clamp(0, 15).to(torch.uint8)
    packed = torch.cat(  # 12 bytes: the first four groups' lower 6 bits, then 4 bits of the others', whose 2 more stand above
        [
            steps[:, :4] | (steps[:, 4:] >> 4) << 6,
            lows[:, :4] | (lows[:, 4:] >> 4) << 6,
            steps[:, 4:] & 15 | (lows[:, 4:] & 15) << 4,
        ],
        1,
    )
    numbers = (whole[:, 0::2] | whole[:, 1::2] << 4).flatten(1)
    return torch.cat([stored_d, stored_m, packed, numbers], 1)


def _fitted(groups: Tensor) -> tuple[Tensor, Tensor]:
    """Scale and offset of every group, both at least 0: x is about scale q - offset."""
    low, high = groups.amin(-1).clamp(max=0), groups.amax(-1)
    best_scale, best_offset = torch.zeros_like(low), torch.zeros_like(low)
    best = torch.full_like(low, torch.inf)
    mean_x = groups.mean(-1)
    for spread in _SPREADS:
        scale, offset = (high - low).clamp(min=0) * spread / 15, -low * spread
        for _ in range(_ROUNDS):
            inverse = torch.where(scale > 0, 1 / scale.clamp(min=_TINY), 0.0)
            whole = ((groups + offset[..., None]) * inverse[..., None]).round().clamp(0, 15)
            error = (whole * scale[..., None] - offset[..., None] - groups).square().sum(-1)
            is_better = error < best
            best = torch.where(is_better, error, best)
            best_scale, best_offset = (
                torch.where(is_better, scale, best_scale),
                torch.where(is_better, offset, best_offset),
            )
            mean_q = whole.mean(-1)
            spread_q = whole.square().mean(-1) - mean_q.square()
            slope = ((whole * groups).mean(-1) - mean_q * mean_x) / spread_q.clamp(min=_TINY)
            start = mean_q * slope - mean_x
            through_zero = (whole * groups).sum(-1) / whole.square().sum(-1).clamp(min=_TINY)
            is_sound = (spread_q > 0) & (slope > 0)
            scale = torch.where(is_sound, torch.where(start < 0, through_zero, slope), scale).clamp(min=0)
            offset = torch.where(is_sound, start.clamp(min=0), offset)
    return best_scale, best_offset


_QUANTIZERS: dict[str, Callable[[Tensor], Tensor]] = {"Q8_0": _q8_0, "Q4_0": _q4_0, "Q4_K": _q4_k}

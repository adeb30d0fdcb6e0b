"""Weights in the format MXFP4 (Open Compute Project 2023, "Microscaling formats", section 5.2), as gpt-oss is published:
numbers of 4 bits, 32 of which share a power of two."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from wenloom.checkpoint.weights import Stored
from wenloom.core.errors import CheckpointError, printable

_VALUES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
"""Of the lower three bits (a bit of mantissa, two of exponent); the fourth is the sign."""
_BLOCK = 32


@dataclass(frozen=True)
class _Packed(Stored):
    """Matrices of several experts, (E, rows, columns / 32, 16 bytes), read as (E, columns, rows)."""

    scales: Stored

    def read(self) -> Tensor:
        packed, scales = Stored.read(self), self.scales.read()
        table = torch.tensor((*_VALUES, *(-value for value in _VALUES)), dtype=torch.float32)
        whole = torch.empty(self.shape, dtype=torch.bfloat16)
        for expert, (bytes_RBK, scale_RB) in enumerate(zip(packed, scales, strict=True)):
            halves = torch.stack((bytes_RBK & 15, bytes_RBK >> 4), -1).long().flatten(-2)
            values_RBN = torch.ldexp(table[halves], scale_RB.int()[..., None] - 127)
            whole[expert] = values_RBN.flatten(1).T
        self.release(packed)
        return whole


def is_mxfp4(config: Mapping[str, Any]) -> bool:
    """Whether config.json says that weights are in this format."""
    found = config.get("quantization_config")
    return isinstance(found, Mapping) and found.get("quant_method") == "mxfp4" and config.get("model_type") == "gpt_oss"


def unpacked(stored: Mapping[str, Stored], where: object) -> dict[str, Stored]:
    """Tensors of a folder, those in this format under the names of what they hold, as bfloat16.

    Raises:
        CheckpointError: a tensor lacks its scales, or has others than it needs.
    """
    found: dict[str, Stored] = {}
    for name, tensor in stored.items():
        if name.endswith("_scales") and f"{name.removesuffix('_scales')}_blocks" in stored:
            continue
        if not name.endswith("_blocks"):
            found[name] = tensor
            continue
        whole = name.removesuffix("_blocks")
        scales = stored.get(f"{whole}_scales")
        if scales is None or len(tensor.shape) != 4 or tensor.shape[3] != _BLOCK // 2 or scales.shape != tensor.shape[:3] \
                or (tensor.dtype, scales.dtype) != ("U8", "U8"):  # fmt: skip
            raise CheckpointError(
                f'{where}: tensor "{printable(name, 80)}" and its scales are not those of weights in MXFP4: blocks of 16 bytes '
                "(n, rows, blocks, 16) with a byte each (n, rows, blocks)."
            )
        n, rows, blocks, _ = tensor.shape
        fields = {each: getattr(tensor, each) for each in ("path", "name", "file", "checksum", "metadata")}
        found[whole] = _Packed(**fields, shape=(n, blocks * _BLOCK, rows), dtype="BF16", scales=scales)
    return found

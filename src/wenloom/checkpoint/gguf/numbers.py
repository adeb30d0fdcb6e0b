"""Numbers in blocks: reading what others have quantized, and quantizing."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from wenloom.checkpoint.gguf.kinds import PLAIN
from wenloom.checkpoint.gguf.reader import StoredTensor
from wenloom.core.errors import CheckpointError, printable
from wenloom.core.foreign import reading

_STEP = 2**24
"""Numbers that are read at a time, so that what the library makes on the way does not add up."""


def read_numbers(stored: StoredTensor, dtype: torch.dtype) -> Tensor:
    """A tensor's numbers, of whatever kind they are kept in.

    Raises:
        CheckpointError: they are whole numbers or of a kind without a formula, not finite, or the package gguf, which has
            the formulas, is not there.
    """
    where = f'{stored.path}: tensor "{printable(stored.name, 100)}"'
    columns, kind = stored.shape[-1], stored.kind
    raw = np.frombuffer(stored.data, np.uint8).reshape(-1, kind.row_bytes(columns))
    read = _reader(stored)
    made = torch.empty((len(raw), columns), dtype=dtype)
    step = max(1, _STEP // columns)
    with reading(where, CheckpointError), np.errstate(all="ignore"):
        for row in range(0, len(raw), step):
            part = read(raw[row : row + step])
            if not np.isfinite(part).all():
                raise CheckpointError(f"{where} holds numbers that are not finite; the file is damaged.")
            made[row : row + step] = torch.from_numpy(part)
    return made.view(stored.shape)


def _reader(stored: StoredTensor) -> Callable[[np.ndarray], np.ndarray]:
    """What makes float32 (or float64) of rows of bytes."""
    name = stored.kind.name
    if name in PLAIN:
        return lambda rows: rows.view(PLAIN[name]).astype(np.float64 if name == "F64" else np.float32)
    if name == "BF16":
        return lambda rows: (rows.view("<u2").astype(np.uint32) << 16).view(np.float32)
    where = f'{stored.path}: tensor "{printable(stored.name, 100)}" is of the kind {name}'
    if name in ("I8", "I16", "I32", "I64"):
        raise CheckpointError(f"{where}, which are whole numbers; weights are not.")
    try:
        from gguf import GGMLQuantizationType, quants
    except ImportError:
        raise CheckpointError(f"{where}, which the package gguf reads: pip install 'wenloom[gguf]'.") from None
    kind = GGMLQuantizationType.__members__.get(name)
    if kind is None or kind not in quants._type_traits:
        raise CheckpointError(f"{where}, for which the package gguf has no formula; take the file in another kind.")
    return lambda rows: quants.dequantize(np.ascontiguousarray(rows), kind)

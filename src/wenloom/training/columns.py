"""What stands in the rows of examples: each column knows how it is filled up, in what numbers, and whether it is read."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from wenloom.training.cross_entropy import IGNORED


class Column(list):
    """One value per place, such as masks and numbers of documents."""

    __slots__ = ()
    padding: ClassVar[float] = 0
    """What fills up the shorter ones of a batch."""
    dtype: ClassVar[torch.dtype] = torch.long
    is_read: ClassVar[bool] = False
    """Whether its places are what the model reads: they are counted as tokens, and examples sorted by them."""


class Tokens(Column):
    """Token ids that the model reads."""

    __slots__ = ()
    is_read = True


class Targets(Column):
    """Token ids that are to be predicted; `IGNORED` where none counts."""

    __slots__ = ()
    padding = IGNORED


class Vectors(Column):
    """Vectors of one length that the model reads in place of tokens (`Stack.run`)."""

    __slots__ = ()
    dtype = torch.float32
    is_read = True


Example = dict[str, Column | int | float]
"""One row by the names under which an objective takes it: a column, or a number."""


def tokens_of(example: Example) -> int:
    """How many tokens (or vectors) the model reads."""
    return sum(len(value) for value in example.values() if isinstance(value, Column) and value.is_read)


def collated(examples: Sequence[Example]) -> dict[str, Tensor]:
    """Tensors with one row per example; short columns are filled up."""
    rows: dict[str, Tensor] = {}
    for name, first in examples[0].items():
        values = [each[name] for each in examples]
        if not isinstance(first, Column):
            rows[name] = torch.tensor(values)
            continue
        tensors = [_tensor(value) for value in values]
        length = max(map(len, tensors))
        shape = next((each.shape[1:] for each in tensors if len(each)), ())
        rows[name] = torch.full((len(values), length, *shape), first.padding, dtype=first.dtype)
        for row, tensor in zip(rows[name], tensors, strict=True):
            row[: len(tensor)] = tensor
    return rows


def _tensor(column: Any) -> Tensor:
    """A column of numbers, lists or arrays; those are joined before PyTorch takes them, which one by one takes seconds."""
    if len(column) and isinstance(column[0], np.ndarray):
        return torch.from_numpy(np.asarray(column)).to(column.dtype)
    return torch.tensor(column, dtype=column.dtype)

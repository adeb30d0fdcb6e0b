"""A matrix in few bits, whatever its format: integers or codes, a scale for each block of them, and what they stand for."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from wenloom.checkpoint.weights import Stored
from wenloom.core.errors import CheckpointError, printable
from wenloom.core.foreign import reading
from wenloom.model.quantize import GROUP, Bits

FLOATS = {"F64": torch.float64, "F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
_PIECE = 2**20
"""Weights that are computed at a time."""


@dataclass(frozen=True)
class Scaled:
    """w = scale (q - zero), with a scale for each row and group of columns.

    Attributes:
        q: integers or floating-point numbers of 8 bits, (rows, cols); or places in `table`.
        scale: (rows, groups).
        group: of each column, (cols,).
        zero: integers (rows, groups), or one for all.
        table: what q stands for; None: itself.
        shape: of the matrix, where q has its numbers in another one, row after row, and may go on after their end.
    """

    q: Tensor
    scale: Tensor
    group: Tensor
    zero: Tensor | int = 0
    table: Tensor | None = None
    shape: tuple[int, int] | None = None

    def kept(self) -> "KeptMatrix | None":
        """The same as `model.quantize.QuantizedLinear` keeps it, if that can without changing a weight: in 4 bits with a
        scale for 32 columns, or in 8 with one for a row."""
        if self.table is not None or self.q.is_floating_point():
            return None
        blocks = self.group.view(-1, GROUP) if self.group.numel() % GROUP == 0 else None
        fits_blocks = blocks is not None and bool((blocks == blocks[:, :1]).all())
        fits_rows = self.scale.shape[1] == 1
        if not fits_blocks and not fits_rows:
            return None
        q, low, high = torch.empty(self.q.shape, dtype=torch.int8), 0, 0
        for piece in self._pieces():
            signed = self.q[piece].to(torch.int16)
            signed -= self.zero[piece][:, self.group] if isinstance(self.zero, Tensor) else self.zero
            low, high = min(low, int(signed.min())), max(high, int(signed.max()))
            if low < (-128 if fits_rows else -8) or high > (127 if fits_rows else 7):
                return None
            q[piece] = signed
        if fits_blocks and blocks is not None and low >= -8 and high <= 7:
            return KeptMatrix(q, self.scale.float()[:, blocks[:, 0]], 4)
        return KeptMatrix(q, self.scale.float(), 8) if fits_rows else None

    def _pieces(self) -> Iterator[slice]:
        """Rows that are computed at a time."""
        rows = max(1, _PIECE // max(1, self.q.shape[1]))
        for start in range(0, len(self.q), rows):
            yield slice(start, start + rows)

    def widened(self, dtype: torch.dtype) -> Tensor:
        """The weights as numbers of this type, (rows, cols); computed in float32, and rounded once."""
        whole = torch.empty(self.q.shape, dtype=dtype)
        for piece in self._pieces():
            values = self.q[piece].float() if self.table is None else self.table[self.q[piece].int()].float()
            if isinstance(self.zero, Tensor):
                values -= self.zero[piece].float()[:, self.group]
            elif self.zero:
                values -= self.zero
            whole[piece] = values * self.scale[piece].float()[:, self.group]
        return whole if self.shape is None else whole.flatten()[: self.shape[0] * self.shape[1]].view(self.shape)


class KeptMatrix(NamedTuple):
    """A matrix as `model.quantize.QuantizedLinear` keeps it; in 8 bits the scale is one column."""

    q: Tensor
    scale: Tensor
    bits: Bits


def in_blocks(q: Tensor, scale: Tensor, block: tuple[int, int], zero: Tensor | int = 0) -> Scaled:
    """Weights that share a scale, and a zero, in blocks of so many rows and columns."""
    (rows, cols), (height, width) = q.shape, block
    grid = [
        each.reshape(blocks_of((rows, cols), block)).repeat_interleave(min(height, rows), 0)[:rows]
        if isinstance(each, Tensor)
        else each
        for each in (scale, zero)
    ]
    assert isinstance(grid[0], Tensor)
    return Scaled(q, grid[0], torch.arange(cols) // width, grid[1])


def blocks_of(shape: tuple[int, int], block: tuple[int, int]) -> tuple[int, int]:
    """How many blocks of so many rows and columns a matrix has, below and beside each other."""
    return -(-shape[0] // block[0]), -(-shape[1] // block[1])


def sides(stored: Stored) -> tuple[int, int]:
    """Rows and columns of a matrix in a file.

    Raises:
        ValueError: it is none.
    """
    rows, cols = stored.shape
    return rows, cols


def unpack_bits(words: Tensor, bits: int) -> Tensor:
    """Integers of few bits out of int32 (rows, words), each in the lowest bits that are left: uint8 (rows, 32 words / bits)."""
    packed = words.contiguous().view(torch.uint8)
    if 8 % bits:  # 3 bits go on from one byte to the next
        single = unpack_bits(words, 1).unflatten(-1, (-1, bits))
        return (single << torch.arange(bits, dtype=torch.uint8)).sum(-1, dtype=torch.uint8)
    if bits == 8:
        return packed
    return (packed[..., None] >> torch.arange(0, 8, bits, dtype=torch.uint8) & (2**bits - 1)).flatten(-2)


Part = tuple[Sequence[str], Sequence[int]]
"""Kinds of numbers that a tensor may hold, and its shape, but for sides of 1."""


@dataclass(frozen=True)
class Format:
    """How a matrix is kept: in which tensors, and what these mean.

    Attributes:
        name: for people, such as "4 bits in groups of 128".
        parts: how the names of the tensors end after that of the layer.
        optional: the same of those that need not be there.
        kinds: what numbers a tensor "weight" holds that is not whole, where `parts` has such.
        layout: the matrix's shape, and what each part must be; from the parts as they stand in the file.
        unpack: what the parts hold.
    """

    name: str
    parts: tuple[str, ...]
    optional: tuple[str, ...]
    kinds: tuple[str, ...]
    layout: Callable[[Mapping[str, Stored]], tuple[tuple[int, int], dict[str, Part]]]
    unpack: Callable[[Mapping[str, Tensor]], Scaled]

    def matrix(self, layer: str, parts: Mapping[str, Stored], flipped: bool, wide: torch.dtype) -> "QuantizedMatrix":
        """The matrix of a layer.

        Args:
            flipped: whether the family has it as (in, out), where the format has (out, in).
            wide: number type of its weights where they are widened.

        Raises:
            CheckpointError: a part has another shape, or other numbers, than it needs.
        """
        first = parts[self.parts[0]]
        with reading(first.path, CheckpointError, f'tensor "{printable(f"{layer}.{self.parts[0]}", 100)}" is damaged'):
            shape, expected = self.layout(parts)
        for ending, part in parts.items():
            kinds, its_shape = expected[ending]
            if part.dtype not in kinds or not _is_shape(part.shape, its_shape):
                raise CheckpointError(
                    f'{part.path}: tensor "{printable(f"{layer}.{ending}", 100)}" ({part.dtype}, {part.shape}) is not that of '
                    f"{shape[0]} x {shape[1]} weights of {self.name}, which is {' or '.join(kinds)}, {tuple(its_shape)}."
                )
        dtype = next(name for name, each in FLOATS.items() if each == wide)
        return QuantizedMatrix(
            path=first.path, name=f"{layer}.weight", file=first.file, shape=shape[::-1] if flipped else shape, dtype=dtype,
            checksum=None, metadata=first.metadata, parts=parts, format=self, flipped=flipped,
        )  # fmt: skip


def _is_shape(shape: Sequence[int], expected: Sequence[int]) -> bool:
    """Whether it is the expected one, but for sides of 1."""
    return len(shape) <= 2 and [n for n in shape if n != 1] == [n for n in expected if n != 1]


@dataclass(frozen=True)
class QuantizedMatrix(Stored):
    """A matrix that the file has in several tensors, under the name that it would have were it whole."""

    parts: Mapping[str, Stored]
    format: Format
    flipped: bool

    def scaled(self) -> Scaled:
        """What the file holds of it.

        Raises:
            CheckpointError: a scale is no number, or a part cannot be what it should.
        """
        found = {ending: part.read() for ending, part in self.parts.items()}
        with reading(self.path, CheckpointError, f'tensor "{printable(self.name, 100)}" is damaged'):
            scaled = self.format.unpack(found)
            if not scaled.scale.float().isfinite().all():
                raise CheckpointError(
                    f'{self.path}: the scales of "{printable(self.name, 100)}" hold values that are no numbers; the file is '
                    "damaged."
                )
        return scaled

    def kept_or_widened(self, may_keep: bool) -> KeptMatrix | Tensor:
        """The matrix as the family has it: in its bits, if it may and can be kept so, else widened.

        Raises:
            CheckpointError: see `scaled`.
        """
        scaled = self.scaled()
        kept = scaled.kept() if may_keep else None
        if kept is not None:
            return KeptMatrix(kept.q.T, kept.scale.T, kept.bits) if self.flipped else kept
        whole = scaled.widened(FLOATS[self.dtype])
        return whole.T.contiguous() if self.flipped else whole

    def read(self) -> Tensor:
        """The weights, widened."""
        whole = self.kept_or_widened(False)
        assert isinstance(whole, Tensor)
        return whole

    def release(self, tensor: Tensor | None = None) -> None:
        """Give back the memory of the parts, once nothing refers to them any more."""
        for part in self.parts.values():
            part.release(part.file.get_tensor(part.name))

"""Reading a GGUF file with suspicion: every count, length and offset is held against the bytes that are there."""

import mmap
import re
import struct
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from wenloom.checkpoint.gguf.kinds import ALIGNMENT, ARRAY, BOOL, MAGIC, SCALARS, STRING, TENSORS, TensorKind
from wenloom.core.errors import CheckpointError, printable
from wenloom.core.foreign import reading, regular_file

_MOST_DIMENSIONS = 4
_PART = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.gguf")


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file, not read yet."""

    path: Path
    name: str
    kind: TensorKind
    shape: tuple[int, ...]
    """In PyTorch's order, the longest stride first; the file has it the other way round."""
    data: memoryview
    """Its blocks, as they stand in the file."""


@dataclass(frozen=True)
class GgufFile:
    """What a file, or several that belong together, say and hold."""

    path: Path
    fields: Mapping[str, Any]
    """Numbers, texts, truth values, lists of texts and NumPy arrays by name."""
    tensors: Mapping[str, StoredTensor]


def open_gguf(path: Path, stack: ExitStack) -> GgufFile:
    """Open a GGUF file; of one that was cut into parts all of these, which lie beside each other.

    Args:
        path: the file, or any of its parts.
        stack: closes what is opened.

    Raises:
        CheckpointError: it is no GGUF file, damaged, cut short, or a part is missing; says which byte or field.
    """
    first = _open_one(path, stack)
    count = first.fields.get("split.count", 1)
    if not isinstance(count, int) or count <= 1:
        return first
    match = _PART.fullmatch(path.name)
    if match is None or int(match[3]) != count or count > 10_000:
        raise CheckpointError(
            f"{path}: is a part of {printable(str(count), 20)}; parts are named NAME-00001-of-{min(count, 99_999):05}.gguf "
            "and so on, or they do not find each other."
        )
    names = [f"{match[1]}-{number:05}-of-{count:05}.gguf" for number in range(1, count + 1)]
    if gone := [name for name in names if not path.with_name(name).exists()]:
        raise CheckpointError(f"{path}: is one of {count} parts, and {len(gone)} are not beside it: {gone[0]}.")
    parts = [first if name == path.name else _open_one(path.with_name(name), stack) for name in names]
    tensors: dict[str, StoredTensor] = {}
    for number, part in enumerate(parts):
        if part.fields.get("split.no") != number or part.fields.get("split.count") != count:
            raise CheckpointError(f"{part.path}: does not say that it is part {number + 1} of {count} (split.no).")
        if again := sorted(tensors.keys() & part.tensors.keys()):
            raise CheckpointError(f'{part.path}: holds tensor "{again[0]}" again, which is in another part too.')
        tensors |= part.tensors
    total = parts[0].fields.get("split.tensors.count", len(tensors))
    if total != len(tensors):
        raise CheckpointError(f"{path}: its parts hold {len(tensors):,} tensors, where it speaks of {total:,}.")
    return GgufFile(parts[0].path, parts[0].fields, tensors)


def _open_one(path: Path, stack: ExitStack) -> GgufFile:
    size = regular_file(path, CheckpointError).st_size
    with reading(path, CheckpointError):
        if size < 24:
            raise CheckpointError(f"{path}: is not a GGUF file ({size:,} bytes, the header alone takes 24).")
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        stack.callback(_close, mapped)
        return _Cursor(path, memoryview(mapped)).file()


def _close(mapped: mmap.mmap) -> None:
    with suppress(BufferError):  # an array still looks at it; it is closed with the last of them
        mapped.close()


class _Cursor:
    """A place in the file that goes on as things are read."""

    def __init__(self, path: Path, data: memoryview):
        self._path, self._data, self._at = path, data, 0

    def _error(self, what: str) -> CheckpointError:
        return CheckpointError(f"{self._path}: {what}.")

    def _take(self, size: int, what: str) -> memoryview:
        if size > len(self._data) - self._at:
            left = len(self._data) - self._at
            raise self._error(
                f"is damaged or cut short: {what} takes {size:,} bytes at byte {self._at:,}, {left:,} are left"
            )
        taken = self._data[self._at : self._at + size]
        self._at += size
        return taken

    def _number(self, form: str, what: str) -> int:
        return struct.unpack(form, self._take(struct.calcsize(form), what))[0]

    def _text(self, what: str) -> str:
        raw = bytes(self._take(self._number("<Q", f"the length of {what}"), what))
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            raise self._error(f"{what} is not UTF-8 ({printable(repr(raw[:40]))})") from None

    def _count(self, least: int, what: str) -> int:
        """How many there are of something that takes `least` bytes each."""
        count = self._number("<Q", f"the number of {what}")
        if count * least > len(self._data) - self._at:
            raise self._error(f"is damaged or cut short: speaks of {count:,} {what}, more than its bytes can hold")
        return count

    def file(self) -> GgufFile:
        """Everything, but no numbers of tensors."""
        if bytes(self._take(4, "the header")) != MAGIC:
            raise self._error(f"is not a GGUF file (it begins with {bytes(self._data[:4])!r})")
        version = self._number("<I", "the version")
        if version not in (2, 3):
            big = int.from_bytes(version.to_bytes(4, "little"), "big") in (2, 3)
            why = "its bytes are in the order of big-endian machines" if big else "versions 2 and 3 are read"
            raise self._error(
                f"is GGUF of version {version:,}: {why}; convert the model again with a present llama.cpp"
            )
        n_tensors = self._count(24, "tensors")
        fields: dict[str, Any] = {}
        for _ in range(self._count(13, "fields")):
            name = self._text("the name of a field")
            if name in fields:
                raise self._error(f'field "{printable(name, 100)}" stands twice')
            fields[name] = self._value(name)
        alignment = fields.get("general.alignment", ALIGNMENT)
        if type(alignment) is not int or not 8 <= alignment <= 2**20 or alignment & (alignment - 1):
            raise self._error(f'field "general.alignment" must be a power of two from 8 on, got {alignment!r:.40}')
        described = [self._tensor() for _ in range(n_tensors)]
        start = -(-self._at // alignment) * alignment
        return GgufFile(self._path, fields, self._placed(described, start, alignment))

    def _value(self, name: str) -> Any:
        shown = f'field "{printable(name, 100)}"'
        kind = self._number("<I", f"the kind of {shown}")
        if kind != ARRAY:
            return self._scalar(kind, shown)
        inner = self._number("<I", f"the kind of {shown}")
        if inner in SCALARS:
            form = np.dtype(SCALARS[inner])
            count = self._count(form.itemsize, f"numbers of {shown}")
            return np.frombuffer(self._take(count * form.itemsize, shown), form)
        if inner not in (BOOL, STRING):
            what = "lists" if inner == ARRAY else f"values of kind {inner:,}"
            raise self._error(f"{shown} is a list of {what}, which are not understood")
        count = self._count(8 if inner == STRING else 1, f"values of {shown}")
        return [self._scalar(inner, shown) for _ in range(count)]

    def _scalar(self, kind: int, shown: str) -> Any:
        if kind == STRING:
            return self._text(shown)
        if kind == BOOL:
            value = self._number("<B", shown)
            if value > 1:
                raise self._error(f"{shown} must be true (1) or false (0), got {value}")
            return bool(value)
        if kind not in SCALARS:
            raise self._error(f"{shown} is of kind {kind:,}, which is not understood")
        form = np.dtype(SCALARS[kind])
        value = np.frombuffer(self._take(form.itemsize, shown), form)[0]
        return value.item() if form.kind != "f" else float(str(value))  # 1e-06 of the float32 nearest to it

    def _tensor(self) -> tuple[str, TensorKind, tuple[int, ...], int]:
        """Name, kind, shape and where it begins."""
        name = self._text("the name of a tensor")
        shown = f'tensor "{printable(name, 100)}"'
        n_dimensions = self._number("<I", f"the number of dimensions of {shown}")
        if not 1 <= n_dimensions <= _MOST_DIMENSIONS:
            raise self._error(f"{shown} has {n_dimensions:,} dimensions; from 1 to {_MOST_DIMENSIONS} are possible")
        shape = tuple(self._number("<Q", f"the shape of {shown}") for _ in range(n_dimensions))[::-1]
        number = self._number("<I", f"the kind of {shown}")
        if number not in TENSORS:
            raise self._error(
                f"{shown} holds numbers of kind {number:,}, which is not known ({', '.join(kind.name for kind in TENSORS.values())})"
            )
        kind = TENSORS[number]
        if not all(shape):
            raise self._error(f"{shown} is empty (shape {shape})")
        if shape[-1] % kind.numbers:
            raise self._error(f"{shown} has rows of {shape[-1]:,}; {kind.name} needs a multiple of {kind.numbers}")
        return name, kind, shape, self._number("<Q", f"the place of {shown}")

    def _placed(
        self, described: list[tuple[str, TensorKind, tuple[int, ...], int]], start: int, alignment: int
    ) -> dict[str, StoredTensor]:
        found: dict[str, StoredTensor] = {}
        end, before = 0, ""
        for name, kind, shape, offset in sorted(described, key=lambda each: each[3]):
            shown = f'tensor "{printable(name, 100)}"'
            size = prod(shape[:-1]) * kind.row_bytes(shape[-1])
            if name in found:
                raise self._error(f"{shown} stands twice")
            if offset % alignment:
                raise self._error(f"{shown} begins at {offset:,}, which is no multiple of {alignment}")
            if offset < end:
                raise self._error(f'{shown} overlaps with "{printable(before, 100)}"')
            if start + offset + size > len(self._data):
                left = max(0, len(self._data) - start - offset)
                raise self._error(f"is damaged or cut short: {shown} takes {size:,} bytes, {left:,} are left")
            data = self._data[start + offset : start + offset + size]
            found[name] = StoredTensor(self._path, name, kind, shape, data)
            end, before = offset + size, name
        return found

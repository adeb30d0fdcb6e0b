"""Writing a GGUF file: the fields, a description of every tensor, and then their numbers one after the other."""

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import IO, Any

import numpy as np

from wenloom.checkpoint.gguf.kinds import (
    ALIGNMENT,
    ARRAY,
    BOOL,
    F32,
    I32,
    MAGIC,
    NUMBERS,
    STRING,
    TENSORS,
    U32,
    VERSION,
)
from wenloom.core.progress import progress


@dataclass(frozen=True)
class TensorToWrite:
    """A tensor whose numbers are made when their turn comes."""

    name: str
    kind: str
    shape: tuple[int, ...]
    data: Callable[[], bytes]

    @property
    def size(self) -> int:
        """Bytes of its numbers."""
        return prod(self.shape[:-1]) * TENSORS[NUMBERS[self.kind]].row_bytes(self.shape[-1])


def write_gguf(file: IO[bytes], fields: Mapping[str, Any], tensors: list[TensorToWrite]) -> None:
    """Write a GGUF file.

    Args:
        file: open for writing, at its beginning.
        fields: truth values, whole numbers (32 bits), numbers, texts, lists of texts or of truth values, and NumPy arrays of
            int32, float32 or uint8.

    Raises:
        OSError: the disk refused.
    """
    head = bytearray(MAGIC + struct.pack("<IQQ", VERSION, len(tensors), len(fields)))
    for name, value in fields.items():
        head += _text(name) + _value(value)
    place = 0
    for tensor in tensors:
        shape = tensor.shape[::-1]
        head += _text(tensor.name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, NUMBERS[tensor.kind], place)
        place += tensor.size + -tensor.size % ALIGNMENT
    file.write(head + b"\0" * (-len(head) % ALIGNMENT))
    with progress("Writing", place, "bytes") as bar:
        for tensor in tensors:
            data = tensor.data()
            assert len(data) == tensor.size, tensor.name
            file.write(data)
            file.write(b"\0" * (-len(data) % ALIGNMENT))
            bar.advance(len(data))


def _text(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def _value(value: Any) -> bytes:
    """A value with the number of its kind before it."""
    match value:
        case bool():
            return struct.pack("<I?", BOOL, value)
        case int():
            return struct.pack("<II", U32, value)
        case float():
            return struct.pack("<If", F32, value)
        case str():
            return struct.pack("<I", STRING) + _text(value)
        case np.ndarray():
            kind = {"int32": I32, "float32": F32, "uint8": 0}[value.dtype.name]
            return struct.pack("<IIQ", ARRAY, kind, len(value)) + value.tobytes()
    if value and isinstance(value[0], bool):
        return struct.pack(f"<IIQ{len(value)}?", ARRAY, BOOL, len(value), *value)
    return struct.pack("<IIQ", ARRAY, STRING, len(value)) + b"".join(map(_text, value))

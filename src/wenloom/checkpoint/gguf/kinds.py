"""The kinds of values and of tensors that a GGUF file may hold, by their numbers in the file."""

from dataclasses import dataclass

import numpy as np

MAGIC = b"GGUF"
VERSION = 3
ALIGNMENT = 32
"""Bytes to whose multiples tensors are moved, where the file does not say otherwise."""

SCALARS = {0: "<u1", 1: "<i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4", 10: "<u8", 11: "<i8", 12: "<f8"}
"""Kinds of numbers as NumPy names them."""
BOOL, STRING, ARRAY = 7, 8, 9
U32, I32, F32 = 4, 5, 6


@dataclass(frozen=True)
class TensorKind:
    """How the numbers of a tensor are kept: in blocks of so many numbers and so many bytes."""

    name: str
    numbers: int
    bytes: int

    def row_bytes(self, columns: int) -> int:
        """Bytes of one row, which is whole blocks."""
        return columns // self.numbers * self.bytes


PLAIN = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "F64": np.dtype("<f8")}
"""Kinds whose numbers NumPy reads as they stand."""
TENSORS = {
    number: TensorKind(name, numbers, size)
    for number, name, numbers, size in [
        (0, "F32", 1, 4), (1, "F16", 1, 2), (2, "Q4_0", 32, 18), (3, "Q4_1", 32, 20), (6, "Q5_0", 32, 22),
        (7, "Q5_1", 32, 24), (8, "Q8_0", 32, 34), (9, "Q8_1", 32, 40), (10, "Q2_K", 256, 84), (11, "Q3_K", 256, 110),
        (12, "Q4_K", 256, 144), (13, "Q5_K", 256, 176), (14, "Q6_K", 256, 210), (15, "Q8_K", 256, 292),
        (16, "IQ2_XXS", 256, 66), (17, "IQ2_XS", 256, 74), (18, "IQ3_XXS", 256, 98), (19, "IQ1_S", 256, 50),
        (20, "IQ4_NL", 32, 18), (21, "IQ3_S", 256, 110), (22, "IQ2_S", 256, 82), (23, "IQ4_XS", 256, 136), (24, "I8", 1, 1),
        (25, "I16", 1, 2), (26, "I32", 1, 4), (27, "I64", 1, 8), (28, "F64", 1, 8), (29, "IQ1_M", 256, 56),
        (30, "BF16", 1, 2), (34, "TQ1_0", 256, 54), (35, "TQ2_0", 256, 66), (39, "MXFP4", 32, 17), (40, "NVFP4", 64, 36), (41, "Q1_0", 128, 18),
        (42, "Q2_0", 64, 18),
    ]
}  # fmt: skip
"""Kinds of tensors by their number in the file."""
NUMBERS = {kind.name: number for number, kind in TENSORS.items()}

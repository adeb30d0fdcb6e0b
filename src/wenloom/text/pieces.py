"""A text in pieces about as large as tokens, and a number for each that depends on every character of it."""

from functools import cache

import numpy as np

from wenloom.text.hashing import kinds_of_letters, mixed

_PART = 2**20
"""Characters that are taken together: their arrays need about 30 MB."""


def pieces(text: str) -> tuple[np.ndarray, np.ndarray]:
    """Words, marks, and characters of scripts that do not part words, each with the blanks before it, as byte-level tokenizers begin.

    Returns:
        Where each piece begins, in characters, and where the last ends (n + 1, int64); a number for each (n, uint64), the same for
        the same characters wherever they stand.

    >>> begins, numbers = pieces("So it is, is it?")
    >>> begins.tolist(), bool(numbers[1] == numbers[5]), bool(numbers[2] == numbers[4])
    ([0, 2, 5, 8, 9, 12, 15, 16], True, True)
    """
    begins, numbers, at = [np.zeros(0, np.int64)], [np.zeros(0, np.uint64)], 0
    while at < len(text):
        end = at + _PART
        # before a blank, which belongs to what follows
        end = max(text.rfind(" ", at + 1, end), text.rfind("\n", at + 1, end), at) if end < len(text) else len(text)
        end = at + _PART if end == at else end
        of_part, hashes = _pieces_of(text[at:end])
        begins.append(of_part + at)
        numbers.append(hashes)
        at = end
    return np.concatenate([*begins, [len(text)]]), np.concatenate(numbers)


@cache
def _kinds() -> np.ndarray:
    """Of every character: 0 a mark, 1 is part of a word, 2 is a piece by itself, 3 a blank, 4 a sign over or under the one before it."""
    import unicodedata

    kinds = kinds_of_letters().copy()
    for code in range(0x20000):  # none of what follows but 240 selectors of variants
        if kinds[code] == 0 and unicodedata.category(chr(code))[0] == "M":
            kinds[code] = 4
    kinds[0xE0100:0xE01F0] = 4
    kinds[[code for code in range(0x3001) if chr(code).isspace()]] = 3
    return kinds


@cache
def _powers() -> np.ndarray:
    with np.errstate(over="ignore"):
        return np.multiply.accumulate(np.full(_PART, 0x9E3779B97F4A7C15, np.uint64))


def _pieces_of(text: str) -> tuple[np.ndarray, np.ndarray]:
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    kinds = _kinds()[codes]
    is_begin = kinds < 3
    is_begin[1:] &= (kinds[1:] != 1) | (kinds[:-1] != 1)
    firsts = np.flatnonzero(is_begin)
    places = np.arange(len(codes))
    last_seen = np.maximum.accumulate(np.where(kinds == 3, -1, places))
    begins = np.unique(np.where(firsts > 0, last_seen[firsts - 1] + 1, 0))
    begins = np.concatenate(([0], begins[begins > 0]))
    offsets = places - np.repeat(begins, np.diff(np.append(begins, len(codes))))
    with np.errstate(over="ignore"):
        weighed = mixed(codes.astype(np.uint64)) * _powers()[offsets]
        return begins, mixed(np.add.reduceat(weighed, begins))

"""Numbers for words, letters and what follows on what, computed for many texts at once."""

from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def mixed(numbers: np.ndarray) -> np.ndarray:
    """Numbers of 64 bits that look random, one to one (splitmix64; Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        numbers = numbers + np.uint64(1)
        for factor, shift in ((_GOLDEN, 30), (np.uint64(0xBF58476D1CE4E5B9), 27), (np.uint64(0x94D049BB133111EB), 31)):
            numbers *= factor
            numbers ^= numbers >> np.uint64(shift)
        return numbers


@cache
def kinds_of_letters() -> np.ndarray:
    """Of every character: 0 parts words, 1 is part of a word, 2 is a word by itself (scripts without blanks)."""
    from wenloom.text.languages import UNPARTED

    kinds = np.zeros(0x110000, np.uint8)
    kinds[[code for code in range(0x110000) if chr(code).isalnum()]] = 1
    spans = UNPARTED
    for first, last in zip(spans[::3], spans[2::3], strict=True):
        kinds[ord(first) : ord(last) + 1] = np.where(kinds[ord(first) : ord(last) + 1] | _is_mark(first, last), 2, 0)
    return kinds


@cache
def _letters() -> np.ndarray:
    """A number for every character; 0 for those that part words."""
    return np.where(kinds_of_letters() > 0, mixed(np.arange(0x110000, dtype=np.uint64)), np.uint64(0))


@cache
def _powers() -> tuple[np.ndarray, np.ndarray]:
    """Of an odd number and of its inverse modulo 2^64, as many as there are characters at once."""
    base = 0x9E3779B97F4A7C15
    with np.errstate(over="ignore"):
        made = [
            np.multiply.accumulate(np.full(_LONGEST + _AT_ONCE, each, np.uint64))
            for each in (base, pow(base, -1, 2**64))
        ]
    return made[0], made[1]


def _is_mark(first: str, last: str) -> np.ndarray:
    """Signs over and under letters, which belong to words, too."""
    import unicodedata

    return np.fromiter((unicodedata.category(chr(code))[0] == "M" for code in range(ord(first), ord(last) + 1)), bool)


_AT_ONCE = 100_000
"""Characters of the texts that are taken together: the arrays of so many stay in the cache of a core."""
_LONGEST = 2**20
"""Characters of a text that is taken whole."""


def word_hashes(texts: Sequence[str]) -> Iterator[np.ndarray]:
    """A number for each word of each text, in order, case and marks aside; where blanks do not part words, for each character.

    >>> a, b = word_hashes(["The lamp, the LAMP", "the lamp"])
    >>> a[:2].tolist() == a[2:].tolist() == b.tolist()
    True
    """
    together, size = list[str](), 0
    for text in texts:
        lower = text.lower()
        if len(lower) > _LONGEST:
            yield from _of_lower(together) if together else ()
            together, size = [], 0
            yield np.concatenate([_of_lower([part])[0] for part in _parts(lower)])
            continue
        together.append(lower)
        size += len(lower) + 1
        if size >= _AT_ONCE:
            yield from _of_lower(together)
            together, size = [], 0
    if together:
        yield from _of_lower(together)


def _parts(text: str) -> Iterator[str]:
    """A long text in parts that end with a blank where there is one."""
    at = 0
    while at < len(text):
        end = at + _LONGEST
        cut = max(text.rfind(" ", at, end), text.rfind("\n", at, end)) + 1 if end < len(text) else 0
        yield text[at : cut or end]
        at = cut or end


def _of_lower(texts: Sequence[str]) -> list[np.ndarray]:
    codes = np.frombuffer("\n".join(texts).encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.intp)
    kinds = kinds_of_letters()[codes]
    begins = kinds == 2
    begins[1:] |= (kinds[1:] == 1) & (kinds[:-1] != 1)
    begins[:1] |= kinds[:1] == 1
    starts = np.flatnonzero(begins)
    if not len(starts):
        return [np.zeros(0, np.uint64)] * len(texts)
    # the sum of letter times base^place over a word, then divided by base^(place of its first letter): the same wherever it stands
    powers, inverses = _powers()
    weighed = _letters()[codes]
    with np.errstate(over="ignore"):
        weighed *= powers[: len(codes)]
        sums = mixed(np.add.reduceat(weighed, starts) * inverses[starts])
    ends = np.cumsum([len(text) + 1 for text in texts])
    return np.split(sums, np.searchsorted(starts, ends[:-1]))


def sequences(numbers: np.ndarray, n: int) -> np.ndarray:
    """A number for every n in a row; of fewer than n, one for all of them."""
    count = len(numbers) - n + 1
    if count < 1:
        n, count = len(numbers), min(1, len(numbers))
    found = np.zeros(count, np.uint64)
    with np.errstate(over="ignore"):
        for at in range(n):
            found *= np.uint64(0x9E3779B97F4A7C15)
            found += numbers[at : at + count]
    return found

"""Text that repeats itself, by the thresholds of Gopher (Rae et al. 2021, arXiv 2112.11446, appendix A, table A1)."""

import re
from collections.abc import Iterator, Sequence
from itertools import accumulate, chain
from typing import NamedTuple

import numpy as np

from wenloom.text.document import Document
from wenloom.text.hashing import mixed
from wenloom.text.languages import UNPARTED, Language, language
from wenloom.text.steps.language import FIELD
from wenloom.text.steps.step import Dropped, Kept
from wenloom.text.words import tokens_of

_LINES, _LINE_LETTERS = 0.30, 0.20
_MOST_FREQUENT = {2: 0.20, 3: 0.18, 4: 0.16}
_REPEATED = {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10}
_UNPARTED = re.compile(f"[{UNPARTED}]")


class _Share(NamedTuple):
    """How much of a document is of one kind, and how much may be."""

    what: str
    value: float
    limit: float


class Repetition:
    """Drops documents of which too much is said again: lines, paragraphs, or sequences of 2 to 10 words.

    Of what stands several times, the first is no repetition; of the most frequent 2 to 4 words all count, if they stand
    there at least twice. Where blanks do not part words, a sequence is as many characters as so many words have (Chinese 1.6 each).
    """

    def __call__(self, document: Document) -> Kept | Dropped:
        code = document.fields.get(FIELD) or ("zh" if _UNPARTED.search(document.text[:2000]) else "en")
        for share in shares(document.text, language(code)):
            if share.value > share.limit:
                return Dropped(f"{100 * share.value:.0f} % are {share.what}, at most {100 * share.limit:.0f} % may be")
        return Kept(document)


def shares(text: str, rules: Language | None = None) -> Iterator[_Share]:
    """What table A1 limits, as parts of all characters, in its order."""
    size = max(1, len(text))
    for what, pattern in (("paragraphs", r"\n\s*\n"), ("lines", r"\n+")):
        parts = [part.strip() for part in re.split(pattern, text) if part.strip()]
        again = _again(parts)
        yield _Share(f"repeated {what}", len(again) / max(1, len(parts)), _LINES)
        yield _Share(f"letters in repeated {what}", sum(map(len, again)) / size, _LINE_LETTERS)
    per_word = rules.per_word if rules else 0.0
    words = _units(text, per_word > 0)
    ids = _numbers(words)
    ends = np.fromiter(accumulate(map(len, words), initial=0), np.int64, len(words) + 1)
    for n, limit in _MOST_FREQUENT.items():
        length = round(n * per_word) if per_word else n
        yield _Share(f"the same {n} words", _most_frequent(ids, ends, length, not per_word) / size, limit)
    is_new = False
    for n, limit in _REPEATED.items():
        length = round(n * per_word) if per_word else n
        value = 0.0 if is_new else _covered(ids, ends, length) / size
        is_new = not value  # where no 5 words stand twice, no 6 do
        yield _Share(f"repeated sequences of {n} words", value, limit)


def _units(text: str, by_character: bool) -> list[str]:
    """Words and marks; where blanks do not part words, each character."""
    tokens = tokens_of(text)
    if not by_character:
        return tokens
    return list(chain.from_iterable(token if _UNPARTED.match(token) else (token,) for token in tokens))


def _again(parts: Sequence[str]) -> list[str]:
    """The parts that repeat an earlier one."""
    seen: set[str] = set()
    return [part for part in parts if part in seen or seen.add(part)]


def _numbers(words: Sequence[str]) -> np.ndarray:
    """A number of 64 bits for each word, the same for equal ones."""
    places: dict[str, int] = {}
    return mixed(np.fromiter((places.setdefault(word, len(places)) for word in words), np.uint64, len(words)))


def _sequences(ids: np.ndarray, n: int) -> np.ndarray:
    """A number for every n words in a row."""
    count = max(0, len(ids) - n + 1)
    found = np.zeros(count, np.uint64)
    with np.errstate(over="ignore"):
        for place in range(n):
            found = found * np.uint64(0x100000001B3) + ids[place : place + count]
    return found


def _most_frequent(ids: np.ndarray, ends: np.ndarray, n: int, with_blanks: bool) -> int:
    """Characters of the most frequent n words in a row, all their places together."""
    grams = _sequences(ids, n)
    if not len(grams):
        return 0
    _, first, counts = np.unique(grams, return_index=True, return_counts=True)
    most = int(counts.max())
    if most < 2:
        return 0
    place = int(first[counts == most].min())
    return most * (int(ends[place + n] - ends[place]) + (n - 1) * with_blanks)


def _covered(ids: np.ndarray, ends: np.ndarray, n: int) -> int:
    """Characters of the words in sequences of n that stood before; from the end of one the next is looked for."""
    grams = _sequences(ids, n)
    if not len(grams):
        return 0
    _, inverse, counts = np.unique(grams, return_inverse=True, return_counts=True)
    candidates = np.flatnonzero(counts[inverse] > 1)
    seen, total, free = set[int](), 0, 0
    for place, gram in zip(candidates.tolist(), inverse[candidates].tolist(), strict=True):
        if place < free:
            continue
        if gram in seen:
            total += int(ends[place + n] - ends[place])
            free = place + n
        seen.add(gram)
    return total

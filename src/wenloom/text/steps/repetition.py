"""Text that repeats itself, by the thresholds of Gopher (Rae et al. 2021, arXiv 2112.11446, appendix A, table A1)."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from wenloom.text.documents import Document
from wenloom.text.steps.step import Dropped, Kept

_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W\u3040-\u30ff\u3400-\u9fff]+")
"""Runs of letters and digits; where no blanks part words, every letter is one."""
_LINES, _LINE_LETTERS = 0.30, 0.20
_MOST_FREQUENT = {2: 0.20, 3: 0.18, 4: 0.16}
_REPEATED = {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10}


class _Share(NamedTuple):
    """How much of a document is of one kind, and how much may be."""

    what: str
    value: float
    limit: float


class Repetition:
    """Drops documents of which too much is said again: lines, paragraphs, or sequences of 2 to 10 words.

    Of what stands several times, the first is no repetition; of the most frequent 2 to 4 words all count, if they stand
    there at least twice.
    """

    def __call__(self, document: Document) -> Kept | Dropped:
        for share in shares(document.text):
            if share.value > share.limit:
                return Dropped(f"{share.value:.0%} are {share.what}, at most {share.limit:.0%} may be")
        return Kept(document)


def shares(text: str) -> Iterator[_Share]:
    """What table A1 limits, in its order."""
    for what, pattern in (("lines", r"\n+"), ("paragraphs", r"\n\s*\n")):
        parts = [part.strip() for part in re.split(pattern, text) if part.strip()]
        again = _again(parts)
        yield _Share(f"repeated {what}", len(again) / max(1, len(parts)), _LINES)
        letters = sum(map(len, parts))
        yield _Share(f"letters in repeated {what}", sum(map(len, again)) / max(1, letters), _LINE_LETTERS)
    words = _WORD.findall(text.lower())
    letters = max(1, sum(map(len, words)))
    for n, limit in _MOST_FREQUENT.items():
        grams = Counter(zip(*(words[start:] for start in range(n)), strict=False))
        gram, count = max(grams.items(), key=lambda pair: pair[1] * sum(map(len, pair[0])), default=((), 0))
        value = count * sum(map(len, gram)) / letters if count > 1 else 0.0
        yield _Share(f"the same {n} words", min(1.0, value), limit)
    for n, limit in _REPEATED.items():
        yield _Share(f"repeated sequences of {n} words", _covered(words, n) / letters, limit)


def _again(parts: Sequence[str]) -> list[str]:
    """The parts that repeat an earlier one."""
    seen: set[str] = set()
    return [part for part in parts if part in seen or seen.add(part)]


def _covered(words: Sequence[str], n: int) -> int:
    """Letters of the words that lie in a sequence of n that stood before; each is counted once."""
    seen: set[tuple[str, ...]] = set()
    total, end = 0, 0
    for start, gram in enumerate(zip(*(words[start:] for start in range(n)), strict=False)):
        if gram in seen:
            total += sum(map(len, words[max(start, end) : start + n]))
            end = start + n
        seen.add(gram)
    return total

"""Documents that are nearly the same: MinHash with banding (Broder 1997; Lee et al. 2022, arXiv 2107.06499)."""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from wenloom.core.errors import InputError
from wenloom.text.clusters import clusters_of
from wenloom.text.document import Document
from wenloom.text.hashing import mixed, sequences, word_hashes
from wenloom.text.steps.step import Dropped, Kept, Notes, Parts, Reasons, Verdict

_AT_ONCE = 1024
"""Sequences of words that are permuted together: 112 x 1,024 numbers of 4 bytes stay in the second cache of a core."""
_MOST = 10_000
"""Permutations: each document's take 40 kB then."""
_WORDS = 20_000
"""Words whose sequences are numbered together."""


@dataclass(frozen=True)
class NearDuplicates:
    """Keeps the longest document of each cluster, and those that keep what another step took out of others.

    Two documents whose sets of sequences of words have the similarity s (Jaccard) are found with the probability
    1 - (1 - s^rows)^bands: half of those with s = .72 by default, 92 % of those with s = .8.
    """

    bands: int = 14
    rows: int = 8
    words: int = 5
    """Words in a row that are compared; where blanks do not part words, characters."""
    seed: int = 1

    def __post_init__(self) -> None:
        if self.bands < 1 or self.rows < 1 or not 1 <= self.words <= _MOST or self.bands * self.rows > _MOST:
            raise InputError(
                f"near_duplicates: bands = {self.bands}, rows = {self.rows}, words = {self.words}: each must be at least 1; words, and "
                f"bands times rows, at most {_MOST:,}."
            )

    @cached_property
    def _permutations(self) -> tuple[np.ndarray, np.ndarray]:
        """Odd factors a of x -> ax modulo 2^32, under which the order of numbers is another for each, and room for the results."""
        count = self.bands * self.rows
        numbers = mixed(np.arange(count, dtype=np.uint64) + np.uint64(self.seed << 32)) >> np.uint64(32)
        return (numbers | np.uint64(1)).astype(np.uint32)[:, None], np.empty((count, _AT_ONCE), np.uint32)

    def signature(self, grams: np.ndarray) -> np.ndarray:
        """Of a text whose sequences of words have these numbers, the smallest of each permutation (bands x rows, uint32)."""
        factors, numbers = self._permutations
        least = np.full(len(factors), 0xFFFFFFFF, np.uint32)
        for start in range(0, len(grams), _AT_ONCE):
            part = grams[start : start + _AT_ONCE]
            permuted = numbers[:, : len(part)]
            np.multiply(factors, part, out=permuted)
            np.minimum(least, permuted.min(axis=1), out=least)
        return least

    def _grams(self, texts: Sequence[str]) -> Iterator[np.ndarray]:
        """Numbers of the sequences of words of each text, 32 bits each, computed for many texts at once."""
        for together in _batches(word_hashes(texts), _WORDS):
            found = _upper_half(sequences(np.concatenate(together), self.words))
            ends = np.cumsum([len(each) for each in together])
            for words, end in zip(together, ends.tolist(), strict=True):
                if len(words) >= self.words:
                    yield found[end - len(words) : end - self.words + 1]
                else:
                    yield _upper_half(sequences(words, self.words))

    def note(self, texts: Sequence[str]) -> list[np.ndarray]:
        """A number for each band."""
        least = np.array([self.signature(grams) for grams in self._grams(texts)], np.uint64)
        return list(numbers_of_rows(least.reshape(-1, self.rows)).reshape(-1, self.bands))

    def judge(self, notes: Notes) -> Verdict:
        """All documents that share a band with another, through others too, are a cluster, whatever their order."""
        return self.verdict(notes, clusters_of(self.bands_of(notes)))

    def bands_of(self, notes: Notes) -> np.ndarray:
        """A number for each band of each document, shape (documents, bands)."""
        return notes.values.reshape(-1, self.bands)

    def verdict(self, notes: Notes, clusters: Sequence[Sequence[int]]) -> Verdict:
        """What is kept of clusters that were found.

        Args:
            clusters: the documents of each, in lists of two or more.
        """
        dropped, better, sizes = array("q"), array("q"), array("q")
        for members in clusters:
            best = min(members, key=notes.rank.__getitem__)
            for each in members:
                if each != best and each >= notes.n_protected:
                    dropped.append(each)
                    better.append(best)
                    sizes.append(len(members))
        order = np.argsort(np.array(dropped, np.int64))

        def reason(at: int) -> str:
            return f"nearly the same as {notes.sources[better[order[at]]]} ({sizes[order[at]]} are alike)"

        reasons = Reasons(np.array(dropped, np.int64)[order], reason)
        return Verdict(reasons, Parts(), clusters, chosen=np.array(better, np.int64))

    def spans(self, text: str, parts: np.ndarray) -> list[tuple[int, int]]:
        """Nothing is cut."""
        return []

    def __call__(self, document: Document) -> Kept | Dropped:
        raise InputError("The step near_duplicates compares documents: it goes into a recipe.")


def numbers_of_rows(bands: np.ndarray) -> np.ndarray:
    """A number for each row of a table."""
    found = np.zeros(len(bands), np.uint64)
    with np.errstate(over="ignore"):
        for column in bands.T:
            found = mixed(found * np.uint64(0x100000001B3) + column)
    return found


def _upper_half(numbers: np.ndarray) -> np.ndarray:
    return (numbers >> np.uint64(32)).astype(np.uint32)


def _batches(arrays: Iterable[np.ndarray], size: int) -> Iterator[list[np.ndarray]]:
    """Arrays in lists whose lengths together reach a size."""
    together, so_far = list[np.ndarray](), 0
    for each in arrays:
        together.append(each)
        so_far += len(each)
        if so_far >= size:
            yield together
            together, so_far = [], 0
    if together:
        yield together

"""What steps that compare documents need in common: notes that lie on disk, taken in parts whose size does not depend on the corpus."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from wenloom.core.mapped import let_go
from wenloom.text.digest import content_hash
from wenloom.text.steps.step import Parts, Verdict


@dataclass
class Cuts:
    """What a step decides that takes parts out of documents, one document after the other."""

    least_left: float
    """Part that must be left of a document, or it is dropped."""
    stays: np.ndarray
    """See `Notes`; a copy, as those that keep a part are added."""
    dropped: dict[int, str] = field(default_factory=dict)
    cut: Parts = field(default_factory=Parts)
    kept: Parts = field(default_factory=Parts)

    def keep(self, number: int, parts: np.ndarray) -> None:
        """A document keeps what others lose, as is said before it loses anything itself."""
        self.kept.add(number, parts)
        self.stays[number] = True

    def take(self, number: int, parts: np.ndarray, left: float, so_much: str) -> None:
        """A document loses parts.

        Args:
            left: part of it that is left.
            so_much: how much that is, in words.
        """
        if left < self.least_left and not self.stays[number]:
            self.dropped[number] = f"{so_much}, at least {100 * self.least_left:.0f} % must be"
        else:
            self.cut.add(number, parts)

    def verdict(self) -> Verdict:
        """Once all is decided."""
        return Verdict(self.dropped, self.cut, kept=self.kept)


def slices(values: np.ndarray, size: int, beyond: int = 0) -> Iterator[tuple[int, np.ndarray]]:
    """Where each part of an array that lies on disk begins, and a copy of it.

    Args:
        beyond: so many of the next part stand at the end of each, too.

    >>> [(at, part.tolist()) for at, part in slices(np.arange(5), 2, 1)]
    [(0, [0, 1, 2]), (2, [2, 3, 4]), (4, [4])]
    """
    for begin in range(0, len(values), size):
        part = np.array(values[begin : begin + size + beyond])
        let_go(values)
        yield begin, part


def ranges(starts: np.ndarray, size: int) -> np.ndarray:
    """The first documents of neighbours that have about so many values together, at least one each, and behind the last.

    >>> ranges(np.array([0, 2, 4, 9, 10]), 4).tolist()
    [0, 2, 3, 4]
    """
    cuts = [0]
    while cuts[-1] < len(starts) - 1:
        beyond = int(np.searchsorted(starts, starts[cuts[-1]] + size, side="right")) - 1
        cuts.append(max(beyond, cuts[-1] + 1))
    return np.array(cuts)


def measured(text: str) -> np.ndarray:
    """What the place of a document among all depends on: the length of its text, and a hash of it (uint64)."""
    return np.array([len(text), int.from_bytes(content_hash(text)[:8])], np.uint64)


def ranks(measures: np.ndarray, n_protected: int) -> np.ndarray:
    """Of each document its place in an order that is not that of reading: validation text first, then the longest, then by hash.

    Every step that compares documents lets the first of this order keep what several have. Equal texts stay as they were read.

    Args:
        measures: see `measured`, shape (documents, 2).
        n_protected: the first so many are validation text.

    >>> ranks(np.array([[3, 1], [5, 9], [5, 2], [4, 4]], np.uint64), 1).tolist()
    [0, 2, 1, 3]
    """
    lengths, hashes = measures.T
    order = np.lexsort((hashes, ~lengths, np.arange(len(measures)) >= n_protected))
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    return rank


def spread(firsts: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """So many numbers in a row from each of these on, and which of these each belongs to.

    >>> which, numbers = spread(np.array([10, 20, 30]), np.array([2, 0, 1]))
    >>> which.tolist(), numbers.tolist()
    ([0, 0, 2], [10, 11, 30])
    """
    which = np.repeat(np.arange(len(counts)), counts)
    return which, np.arange(len(which)) + (firsts - np.cumsum(counts) + counts)[which]


def part_of(hashes: np.ndarray, n_parts: int) -> np.ndarray:
    """Of each hash the part that it belongs to, ascending with the hash."""
    return ((hashes >> np.uint64(32)) * np.uint64(n_parts) >> np.uint64(32)).astype(np.int64)

"""What steps that compare documents need in common: notes that lie on disk, taken in parts whose size does not depend on the corpus."""

import itertools
from collections.abc import Iterator

import numpy as np

from wenloom.text.parted import let_go
from wenloom.text.steps.step import Notes


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


def ranks(notes: Notes, size: int) -> np.ndarray:
    """Of each document its place in an order that is not that of reading: validation text first, then by the first value noted.

    Args:
        size: values to read at a time.
    """
    cuts, firsts = ranges(notes.starts, size), [np.zeros(0, np.uint64)]
    for first, last in itertools.pairwise(cuts):
        firsts.append(notes.values[notes.starts[first:last]])
        let_go(notes.values)
    order = np.lexsort((np.concatenate(firsts), np.arange(len(notes.starts) - 1) >= notes.n_protected))
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

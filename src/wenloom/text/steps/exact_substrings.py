"""Runs of tokens that stand in several places, letter for letter (Lee et al. 2022, arXiv 2107.06499, section 4.2)."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from wenloom.core.errors import InputError
from wenloom.text.document import Document
from wenloom.text.hashing import mixed
from wenloom.text.parted import Parted
from wenloom.text.pieces import pieces
from wenloom.text.steps.comparing import Cuts, part_of, ranges, slices, spread
from wenloom.text.steps.step import Dropped, Kept, Notes, Verdict

_AT_ONCE = 2**20
"""Tokens that are taken together; four times as many windows are sorted together."""
_MOST = 2**16
"""Tokens in a row: so many more than `_AT_ONCE` are in memory."""
_GOLDEN = 0x9E3779B97F4A7C15


@dataclass(frozen=True)
class ExactSubstrings:
    """Takes runs of tokens that stand elsewhere out of all places but one: the first in the longest document that has it.

    A token is a word, a mark, or a character of a script that does not part words, with the blanks before it. A window of `tokens`
    in a row whose like stands in several places keeps its first place: no token of that is cut; every token of its other places is.
    The windows are those that are neighbours in a suffix array; as their length is fixed, sorting their hashes (64 bits) finds the
    same ones. They are sorted part by part, and wait on disk: 16 bytes a token.

    Documents of which too little is left are dropped, unless they are the place that keeps a run.
    """

    tokens: int = 50
    """In a row that must be the same."""
    least_left: float = 0.3
    """Part of the characters that must be left of a document; 1: documents from which anything would be cut are dropped."""

    def __post_init__(self) -> None:
        if not 2 <= self.tokens <= _MOST:
            raise InputError(f"exact_substrings.tokens {self.tokens}: must be from 2 to {_MOST:,}.")
        if not 0 <= self.least_left <= 1:
            raise InputError(f"exact_substrings.least_left {self.least_left}: must be between 0 and 1.")

    def note(self, texts: Sequence[str]) -> list[np.ndarray]:
        """A gap before each document, and a number for each of its tokens."""
        return [np.concatenate((np.zeros(1, np.uint64), pieces(text)[1])) for text in texts]

    def judge(self, notes: Notes) -> Verdict:
        """Which tokens of which documents are cut."""
        decided = Cuts(self.least_left, notes.stays.copy())
        cuts = ranges(notes.starts, _AT_ONCE)
        begins, n_protected = notes.starts[cuts[:-1]], notes.starts[notes.n_protected]
        with Parted(len(begins), 1, notes.folder) as found:
            for rows in self._repeated(notes):
                rows.sort()
                places = (rows >> np.uint64(1)).astype(np.int64)
                rows, places = (each[(rows & np.uint64(1) > 0) | (places >= n_protected)] for each in (rows, places))
                found.add(rows[:, None], np.searchsorted(begins, places, side="right") - 1)
            for number, (first, last) in enumerate(itertools.pairwise(cuts)):
                self._decide(notes, int(first), int(last), found.part(number)[:, 0], decided)
        return decided.verdict()

    def _repeated(self, notes: Notes) -> Iterator[np.ndarray]:
        """Places of windows that stand in several places: twice their number among all tokens, and one more for the place that is kept.

        Of equal windows that are taken together all but one are copies for certain, so that no part is larger for a window that
        stands in very many places.
        """
        n_parts = len(notes.values) // (4 * _AT_ONCE) + 1
        with Parted(n_parts, 2, notes.folder) as windows:
            for begin, numbers in slices(notes.values, _AT_ONCE, self.tokens - 1):
                hashes = self._hashes(numbers)
                places = self._places(notes.starts, begin, begin + len(hashes))
                hashes = hashes[places - begin]
                order, is_first, is_repeated = _in_order(hashes, places, notes.starts, notes.rank)
                yield 2 * places[order[~is_first]].astype(np.uint64)
                rows = np.stack((hashes, 2 * places.astype(np.uint64)), 1)[order]
                rows[:, 1] += is_repeated
                windows.add(rows[is_first], part_of(rows[is_first, 0], n_parts))
            for part in range(n_parts):
                hashes, numbers = windows.part(part).T
                places = (numbers >> np.uint64(1)).astype(np.int64)
                order, is_first, is_repeated = _in_order(hashes, places, notes.starts, notes.rank)
                numbers = numbers[order]
                is_repeated |= numbers & np.uint64(1) > 0
                yield (numbers | np.uint64(1))[is_first & is_repeated]
                yield (numbers & ~np.uint64(1))[~is_first]

    def _places(self, starts: np.ndarray, begin: int, end: int) -> np.ndarray:
        """Where windows begin that lie in one document, ascending; the gap before a document is in none."""
        first, last = np.searchsorted(starts, begin, side="right") - 1, np.searchsorted(starts, end)
        firsts = np.maximum(starts[first:last] + 1, begin)
        ends = np.minimum(starts[first + 1 : last + 1] - self.tokens + 1, end)
        return spread(firsts, np.maximum(ends - firsts, 0))[1]

    def _hashes(self, numbers: np.ndarray) -> np.ndarray:
        """Of every window: sum of token i times base^i, modulo 2^64, then mixed."""
        count = len(numbers) - self.tokens + 1
        if count < 1:
            return np.zeros(0, np.uint64)
        with np.errstate(over="ignore"):
            powers = np.multiply.accumulate(np.full(len(numbers), _GOLDEN, np.uint64))
            inverses = np.multiply.accumulate(np.full(count, pow(_GOLDEN, -1, 2**64), np.uint64))
            sums = np.concatenate((np.zeros(1, np.uint64), np.cumsum(numbers * powers)))
            return mixed((sums[self.tokens :] - sums[:count]) * inverses)

    def _decide(self, notes: Notes, number: int, last: int, found: np.ndarray, decided: Cuts) -> None:
        """About neighbouring documents.

        Args:
            number: of the first.
            last: of the one behind them.
            found: see `_repeated`; of these documents.
            decided: told of them.
        """
        if not len(found):
            return
        starts = notes.starts[number : last + 1]
        is_begin, place = np.zeros((2, starts[-1] - starts[0]), bool), (found >> np.uint64(1)).astype(np.int64)
        is_begin[(found & np.uint64(1)).astype(np.int64), place - starts[0]] = True
        kept = _covered(is_begin[1], self.tokens)
        gone = _covered(is_begin[0], self.tokens) & ~kept
        for document, runs, _ in _runs(kept, starts):
            decided.keep(number + document, runs)
        for document, runs, n_gone in _runs(gone, starts):
            left = 1 - n_gone / (starts[document + 1] - starts[document] - 1)
            so_much = f"{100 * left:.0f} % of the tokens are left without runs of {self.tokens} that stand elsewhere"
            decided.take(number + document, runs, left, so_much)

    def spans(self, text: str, parts: np.ndarray) -> list[tuple[int, int]]:
        """Where runs that are cut begin and end, in characters."""
        begins, _ = pieces(text)
        return [(int(begins[first]), int(begins[last])) for first, last in parts.reshape(-1, 2)]

    def __call__(self, document: Document) -> Kept | Dropped:
        raise InputError("The step exact_substrings compares documents: it goes into a recipe.")


def _in_order(
    hashes: np.ndarray, places: np.ndarray, starts: np.ndarray, rank: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """An order by hash, by the rank of the document, by place; whether each in this order is the first with its hash, and whether
    it has others."""
    order = np.argsort(hashes)
    is_same = hashes[order][1:] == hashes[order][:-1]
    is_first, is_repeated = np.ones(len(order), bool), np.zeros(len(order), bool)
    is_first[1:] = ~is_same
    is_repeated[1:] |= is_same
    is_repeated[:-1] |= is_same
    some = order[is_repeated]
    of_document = rank[np.searchsorted(starts, places[some], side="right") - 1]
    order[is_repeated] = some[np.lexsort((places[some], of_document, hashes[some]))]
    return order, is_first, is_repeated


def _runs(marked: np.ndarray, starts: np.ndarray) -> Iterator[tuple[int, np.ndarray, int]]:
    """Of each document in which tokens are marked, where runs of them begin and end in it, one after the other, and how many they are.

    Args:
        marked: of each token of neighbouring documents; the gap before a document is never marked, so that no run reaches into the next.
        starts: where each begins, and where the last ends.
    """
    begins = starts[:-1] - starts[0]
    edges = np.flatnonzero(marked[1:] != marked[:-1]) + 1
    edges = np.append(edges, len(marked)) if marked[-1] else edges
    firsts, ends = np.searchsorted(edges, begins + 1), np.searchsorted(edges, starts[1:] - starts[0], side="right")
    for document in np.flatnonzero(ends > firsts).tolist():
        runs = edges[firsts[document] : ends[document]] - begins[document] - 1
        yield document, runs, int((runs[1::2] - runs[::2]).sum())


def _covered(is_begin: np.ndarray, length: int) -> np.ndarray:
    """Which places lie within so many from a beginning on.

    >>> _covered(np.array([False, True, False, False, False]), 3).tolist()
    [False, True, True, True, False]
    """
    covered, done = is_begin.copy(), 1
    while done < length:
        more = min(done, length - done)
        covered[more:] |= covered[:-more].copy()
        done += more
    return covered

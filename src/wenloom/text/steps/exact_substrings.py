"""Runs of tokens that stand in several places, letter for letter (Lee et al. 2022, arXiv 2107.06499, section 4.2)."""

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from wenloom.core.errors import InputError
from wenloom.text.digest import content_hash
from wenloom.text.document import Document
from wenloom.text.hashing import mixed
from wenloom.text.pieces import pieces
from wenloom.text.steps.step import Dropped, Kept, Notes, Verdict

_AT_ONCE = 2**22
"""Windows whose hashes are computed together, and about how many are sorted together."""
_MOST_BITS = 6
"""Of the hash, by which windows are parted: of more than 2^28 tokens, each part is larger."""
_GOLDEN = 0x9E3779B97F4A7C15


@dataclass(frozen=True)
class ExactSubstrings:
    """Takes runs of tokens that stand elsewhere out of all places but one: the one in the document whose text has the smallest hash,
    whatever the order of reading.

    A token is a word, a mark, or a character of a script that does not part words, with the blanks before it. A window of `tokens`
    in a row whose like stands in several places keeps its first place: no token of that is cut; every token of its other places is.
    The windows are those that are neighbours in a suffix array; as their length is fixed, sorting their hashes (64 bits) finds the
    same ones in a fifth of the memory, part by part.

    Documents of which too little is left are dropped, unless they are the place that keeps a run.
    """

    tokens: int = 50
    """In a row that must be the same."""
    least_left: float = 0.3
    """Part of the characters that must be left of a document; 1: documents from which anything would be cut are dropped."""

    def __post_init__(self) -> None:
        if self.tokens < 2:
            raise InputError(f"exact_substrings.tokens {self.tokens}: must be at least 2.")
        if not 0 <= self.least_left <= 1:
            raise InputError(f"exact_substrings.least_left {self.least_left}: must be between 0 and 1.")

    def note(self, texts: Sequence[str]) -> list[np.ndarray]:
        """The hash of each document, and a number for each of its tokens."""
        return [np.concatenate((np.frombuffer(content_hash(text)[:8], np.uint64), pieces(text)[1])) for text in texts]

    def judge(self, notes: Notes) -> Verdict:
        """Which tokens of which documents are cut."""
        is_copy, is_kept = np.zeros(len(notes.values), bool), np.zeros(len(notes.values), bool)
        rank = np.empty(len(notes.starts) - 1, np.int64)
        order = np.lexsort((notes.values[notes.starts[:-1]], np.arange(len(rank)) >= notes.n_protected))
        rank[order] = np.arange(len(rank))
        for hashes, places in self._windows(notes):
            firsts, copies = _repeated(hashes, places, notes.starts, rank)
            is_kept[firsts] = True
            is_copy[copies] = True
        is_copy[: notes.starts[notes.n_protected]] = False
        return self._verdict(notes, is_copy, is_kept)

    def _windows(self, notes: Notes) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Hashes of windows and where they begin, in parts such that equal ones come together; they wait in files without a name
        (16 bytes a token, in TMPDIR)."""
        bits = min(_MOST_BITS, (len(notes.values) // _AT_ONCE).bit_length())
        is_window = np.ones(len(notes.values), bool)
        for back in range(1, self.tokens):  # the last tokens of a document begin none, nor does the hash before them
            is_window[np.maximum(notes.starts[1:] - back, notes.starts[:-1])] = False
        with contextlib.ExitStack() as stack:
            files = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(2**bits)]
            for begin in range(0, len(notes.values), _AT_ONCE):
                hashes = self._hashes(notes.values[begin : begin + _AT_ONCE + self.tokens - 1])
                inside = np.flatnonzero(is_window[begin : begin + len(hashes)])
                rows = np.stack((hashes[inside], (inside + begin).astype(np.uint64)), 1)
                part = (rows[:, 0] >> np.uint64(64 - bits)).astype(np.int64) if bits else np.zeros(len(rows), np.int64)
                order = np.argsort(part, kind="stable")
                cuts = np.searchsorted(part[order], np.arange(1, len(files)))
                for file, chosen in zip(files, np.split(order, cuts), strict=True):
                    file.write(rows[chosen].tobytes())
            for file in files:
                file.seek(0)
                rows = np.frombuffer(file.read(), np.uint64).reshape(-1, 2)
                yield rows[:, 0], rows[:, 1].astype(np.int64)

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

    def _verdict(self, notes: Notes, is_copy: np.ndarray, is_kept: np.ndarray) -> Verdict:
        dropped, cut = dict[int, str](), dict[int, np.ndarray]()
        touched = np.unique(np.searchsorted(notes.starts, np.flatnonzero(is_copy), side="right") - 1)
        for document in touched.tolist():
            begin, end = int(notes.starts[document]) + 1, int(notes.starts[document + 1])
            kept = _covered(is_kept[begin:end], self.tokens)
            gone = _covered(is_copy[begin:end], self.tokens) & ~kept
            if not gone.any():
                continue
            edges = np.flatnonzero(np.diff(np.concatenate(([False], gone, [False]))))
            left = 1 - gone.mean()
            if left < self.least_left and not kept.any():
                dropped[document] = (f"{left:.0%} of the tokens are left without runs of {self.tokens} that stand elsewhere, at least "
                                     f"{self.least_left:.0%} must be")  # fmt: skip
            else:
                cut[document] = edges
        return Verdict(dropped, cut)

    def spans(self, text: str, parts: np.ndarray) -> list[tuple[int, int]]:
        """Where runs that are cut begin and end, in characters."""
        begins, _ = pieces(text)
        return [(int(begins[first]), int(begins[last])) for first, last in parts.reshape(-1, 2)]

    def __call__(self, document: Document) -> Kept | Dropped:
        raise InputError("The step exact_substrings compares documents: it goes into a recipe.")


def _repeated(
    hashes: np.ndarray, places: np.ndarray, starts: np.ndarray, rank: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Of windows with equal hashes, the first place of each, by the rank of its document, and the others."""
    order = np.argsort(hashes)
    is_repeated, is_same = np.zeros(len(order), bool), hashes[order][1:] == hashes[order][:-1]
    is_repeated[1:] |= is_same
    is_repeated[:-1] |= is_same
    order = order[is_repeated]
    hashes, places = hashes[order], places[order]
    order = np.lexsort((places, rank[np.searchsorted(starts, places, side="right") - 1], hashes))
    hashes, places = hashes[order], places[order]
    is_first = np.ones(len(order), bool)
    is_first[1:] = hashes[1:] != hashes[:-1]
    return places[is_first], places[~is_first]


def _covered(is_begin: np.ndarray, length: int) -> np.ndarray:
    """Which places lie within so many from a beginning on.

    >>> _covered(np.array([False, True, False, False, False]), 3).tolist()
    [False, True, True, True, False]
    """
    sums = np.cumsum(is_begin)
    sums[length:] -= sums[:-length].copy()
    return sums > 0

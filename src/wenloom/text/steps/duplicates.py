"""Exact duplicates, by content hash."""

from collections.abc import Sequence

import numpy as np

from wenloom.text.digest import content_hash
from wenloom.text.document import Document
from wenloom.text.parted import Parted
from wenloom.text.steps.comparing import part_of, slices
from wenloom.text.steps.step import Dropped, Kept, Notes, Parts, Reasons, Verdict

_AT_ONCE = 2**20
"""Documents that are taken together; four times as many are sorted together."""


class Duplicates:
    """Drops what is letter for letter a document before it. Remembers hashes, not texts: about 80 bytes a document."""

    def __init__(self) -> None:
        self._seen: set[bytes] = set()

    def __call__(self, document: Document) -> Kept | Dropped:
        digest = content_hash(document.text)
        if digest in self._seen:
            return Dropped("duplicate of an earlier document")
        self._seen.add(digest)
        return Kept(document)

    def note(self, texts: Sequence[str]) -> list[np.ndarray]:
        """The hash, in two numbers."""
        return [np.frombuffer(content_hash(text), np.uint64) for text in texts]

    def judge(self, notes: Notes) -> Verdict:
        """The first of equal documents is kept: by its text it is any of them."""
        n_parts = len(notes.values) // (8 * _AT_ONCE) + 1
        with Parted(n_parts, 3, notes.folder) as hashes:
            for begin, values in slices(notes.values, 2 * _AT_ONCE):
                numbers = np.arange(begin // 2, (begin + len(values)) // 2, dtype=np.uint64)
                rows = np.column_stack((values.reshape(-1, 2), numbers))
                rows = rows[np.argsort(rows[:, 0], kind="stable")]
                hashes.add(rows, part_of(rows[:, 0], n_parts))
            pairs = np.concatenate([_pairs(hashes.part(part)) for part in range(n_parts)])
        again, firsts = pairs[np.argsort(pairs[:, 0])].T
        reasons = Reasons(again, lambda at: f"duplicate of {notes.sources[int(firsts[at])]}")
        return Verdict(reasons, Parts(), chosen=firsts)

    def spans(self, text: str, parts: np.ndarray) -> list[tuple[int, int]]:
        """Nothing is cut."""
        return []


def _pairs(rows: np.ndarray) -> np.ndarray:
    """Of documents with the hash of an earlier one their number and that of the first (int64).

    Args:
        rows: a hash of two numbers, and the number of the document.
    """
    rows = rows[np.lexsort(rows.T[::-1])]
    is_first = np.ones(len(rows), bool)
    is_first[1:] = (rows[1:, :2] != rows[:-1, :2]).any(axis=1)
    numbers = rows[:, 2].astype(np.int64)
    firsts = numbers[is_first][np.cumsum(is_first) - 1]
    return np.column_stack((numbers, firsts))[~is_first]

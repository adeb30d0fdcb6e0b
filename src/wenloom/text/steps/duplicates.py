"""Exact duplicates, by content hash."""

from collections.abc import Sequence

import numpy as np

from wenloom.text.digest import content_hash
from wenloom.text.document import Document
from wenloom.text.steps.step import Dropped, Kept, Notes, Verdict


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
        """The first of equal documents is kept."""
        high, low = notes.values.reshape(-1, 2).T
        order = np.lexsort((np.arange(len(high)), low, high))
        again = np.flatnonzero((np.diff(high[order]) == 0) & (np.diff(low[order]) == 0)) + 1
        is_first = np.ones(len(order), bool)
        is_first[again] = False
        firsts = order[np.maximum.accumulate(np.where(is_first, np.arange(len(order)), 0))]
        return Verdict({int(order[place]): f"duplicate of {notes.sources[firsts[place]]}" for place in again}, {})

    def spans(self, text: str, parts: np.ndarray) -> list[tuple[int, int]]:
        """Nothing is cut."""
        return []

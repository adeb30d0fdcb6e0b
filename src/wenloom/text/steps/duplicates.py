"""Exact duplicates, by content hash."""

from wenloom.text.digest import content_hash
from wenloom.text.documents import Document
from wenloom.text.steps.step import Dropped, Kept


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

"""Exact de-duplication by content hash."""

import hashlib


def content_hash(text: str) -> bytes:
    """16 bytes that identify a text (BLAKE2b); equal texts have equal hashes wherever they stand.

    >>> content_hash("a") == content_hash("a"), len(content_hash("a"))
    (True, 16)
    """
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


class SeenBefore:
    """Remembers hashes, not texts: about 80 bytes a document."""

    def __init__(self) -> None:
        self._seen: set[bytes] = set()

    def __call__(self, digest: bytes) -> bool:
        """Whether this hash came before."""
        if digest in self._seen:
            return True
        self._seen.add(digest)
        return False

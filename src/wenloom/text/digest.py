"""What identifies a text by its content."""

import hashlib


def content_hash(text: str) -> bytes:
    """16 bytes that identify a text (BLAKE2b); equal texts have equal hashes wherever they stand.

    >>> content_hash("a") == content_hash("a"), len(content_hash("a"))
    (True, 16)
    """
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()

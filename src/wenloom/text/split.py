"""Which documents validate: decided by their content, so that order and neighbours do not matter."""

from wenloom.core.errors import InputError


def is_validation(digest: bytes, fraction: float) -> bool:
    """Whether a document belongs to validation.

    A document's hash is a uniform number in [0, 1); below `fraction` it validates. The same document
    lands on the same side whatever is added to the corpus.

    >>> is_validation(bytes(16), 0.1), is_validation(b"\\xff" * 16, 0.1)
    (True, False)
    """
    return int.from_bytes(digest[:8]) < fraction * 2**64


def tail_start(text: str, fraction: float) -> int:
    """Where validation begins in a corpus of too few documents to split by document: its last part.

    >>> tail_start("abcdefghij", 0.1)
    9
    """
    return int(len(text) * (1 - fraction))


def check_fraction(fraction: float) -> None:
    """Refuse a validation fraction that leaves one side empty."""
    if not 0 < fraction <= 0.5:
        raise InputError(f"--validation {fraction}: must be above 0 and at most 0.5.")

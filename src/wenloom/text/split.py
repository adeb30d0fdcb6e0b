"""Which documents validate: decided by their content, so that order and neighbours do not matter."""

import re

from wenloom.core.errors import InputError


def is_validation(digest: bytes, fraction: float) -> bool:
    """Whether a document belongs to validation.

    A document's hash is a uniform number in [0, 1); below `fraction` it validates. The same document
    lands on the same side whatever is added to the corpus.

    >>> is_validation(bytes(16), 0.1), is_validation(b"\\xff" * 16, 0.1)
    (True, False)
    """
    return int.from_bytes(digest[:8]) < fraction * 2**64


_BOUNDARIES = [
    re.compile(r"\n\s*\n\s*"),
    re.compile(r"(?:[.!?…][\"'”’)\]*_]*\s+|[。！？][”’」』）]*\s*)(?=\S)"),
    re.compile(r"\n\s*"),
    re.compile(r"\s+"),
]
"""Between paragraphs, sentences, lines and words."""
_SEARCHED = 2000
"""Characters in which a boundary is looked for."""


def next_start(text: str, at: int, most: int = _SEARCHED) -> int:
    """Where a paragraph begins at or after `at`, if one does within `most` characters; else a sentence, a line, a word.

    >>> text = "The lamp was lit. The keeper slept.\\nNobody came."
    >>> text[next_start(text, 8):], text[next_start(text, 8, most=4):]
    ('The keeper slept.\\nNobody came.', 'was lit. The keeper slept.\\nNobody came.')
    """
    begin, end = max(0, at - 2), min(len(text), at + most)
    for boundary in _BOUNDARIES:
        for found in boundary.finditer(text, begin, end):
            if at <= found.end() < len(text):
                return found.end()
    return at


def tail_start(text: str, fraction: float) -> int:
    """Where validation begins in a corpus of too few documents to split by document: its last part, from the beginning
    of a paragraph, sentence or line on.

    >>> tail_start("abcdefghij", 0.1)
    9
    """
    cut = int(len(text) * (1 - fraction))
    return next_start(text, cut, min(_SEARCHED, (len(text) - cut) // 2)) if cut else 0


def check_fraction(fraction: float) -> None:
    """Refuse a validation fraction that leaves one side empty."""
    if not 0 < fraction <= 0.5:
        raise InputError(f"--validation {fraction}: must be above 0 and at most 0.5.")

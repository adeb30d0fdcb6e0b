"""Where sentences end, in any script."""

import re
import unicodedata
from collections.abc import Iterator

from wenloom.text.words import tokens_of

ENDS = tuple("?!.。！？｡．؟۔।॥։።፧។៕៖᠃᠉‼⁇⁈⁉︒﹒﹖﹗⸮‽")
"""Marks that end a sentence."""
CLOSERS = "\"'”’»)]}」』）》〉】"
_MARKS = frozenset((*ENDS, "…"))


def sentences(text: str) -> Iterator[str]:
    """A text in its lines, and these in what ends with a mark; an abbreviation ends one, too.

    >>> list(sentences("One is here. Two?\\nThree。四！"))
    ['One is here.', 'Two?', 'Three。', '四！']
    """
    for each in re.split(r"\n+|(?<=[.!?])\s+|(?<=[。！？])", text):
        if each.strip():
            yield each.strip()


def sentence_count(text: str) -> int:
    """How many sentences a text has: one ends with a mark, and whatever marks follow it.

    >>> sentence_count("One. Two? Mr. Smith has 3.5 lamps. No end"), sentence_count("他说：“好。”我们走吧！"), sentence_count(" ")
    (4, 2, 0)
    """
    count, is_open, ended = 0, False, False
    for token in tokens_of(text):
        if token in _MARKS:
            is_open = ended = True
        elif not ended:
            is_open = True
        elif not (len(token) < 4 and all(unicodedata.category(each)[0] == "P" for each in token)):
            count, ended = count + 1, False
    return count + is_open

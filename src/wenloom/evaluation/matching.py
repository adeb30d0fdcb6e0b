"""Whether an answer that a model wrote is one of the right ones: exact match and F1, after what does not matter is taken out."""

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Literal

from wenloom.evaluation.words import words_of

IGNORABLE = ("case", "punctuation", "articles", "blanks")


@dataclass(frozen=True)
class Matching:
    """How written answers are compared with references."""

    ignore: tuple[str, ...] = ("case", "punctuation", "articles")
    """Of `IGNORABLE`. Blanks at the ends never count, several count as one."""
    overlap: Literal["words", "substring"] = "words"
    """F1 of the words (of Chinese: characters) that two answers share, or of the longest stretch of them that both have
    (CMRC 2018)."""

    def normalized(self, text: str) -> str:
        """What is compared.

        >>> Matching().normalized("The  Eiffel Tower!"), Matching(("blanks", "punctuation")).normalized("北京 。")
        ('eiffel tower', '北京')
        """
        if "case" in self.ignore:
            text = text.lower()
        if "punctuation" in self.ignore:
            text = "".join(char for char in text if not _is_punctuation(char))
        if "articles" in self.ignore:
            text = re.sub(r"\b(a|an|the)\b", " ", text, flags=re.IGNORECASE)
        return ("" if "blanks" in self.ignore else " ").join(text.split())

    def exact(self, text: str, references: Sequence[str]) -> float:
        """1 if a text equals a reference; an empty one equals none."""
        mine = self.normalized(text)
        return float(bool(text.strip()) and any(mine == self.normalized(each) for each in references))

    def f1(self, text: str, references: Sequence[str]) -> float:
        """2PR / (P + R) against the best reference."""
        return max(self._f1(text, each) for each in references)

    def _f1(self, text: str, reference: str) -> float:
        mine, other = (words_of(self.normalized(each), stemming=False) for each in (text, reference))
        if not mine or not other:
            return self.exact(text, [reference])
        if self.overlap == "words":
            shared = (Counter(mine) & Counter(other)).total()
        else:
            shared = SequenceMatcher(None, mine, other, autojunk=False).find_longest_match().size
        return 2 * shared / (len(mine) + len(other))


def _is_punctuation(char: str) -> bool:
    return char in string.punctuation or unicodedata.category(char).startswith("P")

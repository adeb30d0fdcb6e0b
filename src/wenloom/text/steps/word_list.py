"""Words that a document must not hold."""

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from wenloom.core.errors import InputError
from wenloom.core.foreign import reading, regular_file
from wenloom.text.document import Document
from wenloom.text.languages import UNPARTED
from wenloom.text.steps.step import Dropped, Kept


def words_of_file(file: str) -> list[str]:
    """Words of a file, one to a line, in small letters; lines that begin with # are remarks.

    Raises:
        InputError: there is no such file, or it holds no words.
    """
    path = Path(file)
    regular_file(path)
    with reading(path):
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    words = sorted({line.strip().lower() for line in lines if line.strip() and not line.startswith("#")}, key=len)[::-1]
    if not words:
        raise InputError(f"{path}: holds no words.")
    return words


@dataclass(frozen=True)
class WordList:
    """Drops documents with words or phrases of a list, as whole words where blanks part words; case is no difference."""

    file: str = ""
    """Words, one to a line; lines that begin with # are remarks."""
    at_most: int = 0
    """How often such words may stand in a document."""

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        if not self.file:
            raise InputError("word_list.file: name a file of words, one to a line.")
        words = words_of_file(self.file)
        within = [re.escape(word) for word in words if re.search(f"[{UNPARTED}]", word)]
        whole = [rf"(?<!\w){re.escape(word)}(?!\w)" for word in words if not re.search(f"[{UNPARTED}]", word)]
        return re.compile("|".join([*whole, *within]))

    def __call__(self, document: Document) -> Kept | Dropped:
        found = self._pattern.findall(document.text.lower())
        if len(found) <= self.at_most:
            return Kept(document)
        return Dropped(f'holds {len(found)} words of the list, first "{found[0]}", at most {self.at_most} may be there')

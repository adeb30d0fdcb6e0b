"""What texts say of groups of people."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from wenloom.core.errors import InputError, printable
from wenloom.text.document import Document
from wenloom.text.group_axis import GroupAxis
from wenloom.text.lexicon import counter
from wenloom.text.lexicon import lexicon as read_lexicon
from wenloom.text.sentences import sentences
from wenloom.text.steps.step import Dropped, Kept
from wenloom.text.steps.word_list import words_of_file


@dataclass(frozen=True)
class Groups:
    """Drops documents in which a word of a group of people stands in one sentence with a word of a list."""

    lexicon: str = "en"
    """Whose words of groups: en, de, zh, or a file of your own."""
    axis: str = "gender"
    """Of the lexicon."""
    side: str = ""
    """The group, by its name in the lexicon; none: either."""
    file: str = ""
    """The list, one word to a line; none: the words by which the lexicon speaks well or ill of somebody."""

    @cached_property
    def _words(self) -> tuple[GroupAxis, int | None, Callable[[str], list[re.Match[str]]]]:
        known = read_lexicon(self.lexicon)
        axis = known.axis(self.axis)
        if self.side and self.side not in axis.sides:
            raise InputError(f"groups.side {printable(self.side, 60)}: {axis.name} has {' and '.join(axis.sides)}.")
        words = words_of_file(self.file) if self.file else [*known.sentiment.positive, *known.sentiment.negative]
        if not words:
            raise InputError(
                f"groups.file: the lexicon {known.language} has no words of its own here: name a file, one to a line."
            )
        return axis, axis.sides.index(self.side) if self.side else None, counter(tuple(words), known.spaced)

    def said(self, text: str) -> tuple[str, str] | None:
        """The first word of a group and of the list that stand in one sentence; None where there are none."""
        axis, side, listed = self._words
        for sentence in sentences(text):
            people = next((each for each in axis.found(sentence) if side in (None, each.side)), None)
            if people is not None and (words := listed(sentence)):
                return sentence[people.begin : people.end], words[0].group()
        return None

    def __call__(self, document: Document) -> Kept | Dropped:
        found = self.said(document.text)
        if found is None:
            return Kept(document)
        return Dropped(f'"{found[0]}" stands in one sentence with "{found[1]}"')

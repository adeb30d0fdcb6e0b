"""Copies of documents that speak of the other group (counterfactual data augmentation: Zhao et al. 2018; Lu et al. 2020)."""

import re
from dataclasses import dataclass
from functools import cached_property

from wenloom.core.errors import InputError
from wenloom.text.document import Document
from wenloom.text.group_axis import GroupAxis
from wenloom.text.lexicon import LANGUAGES, language_of, lexicon
from wenloom.text.steps.step import Dropped, Kept, drawn

_PARAGRAPH = re.compile(r"\n\s*\n")


@dataclass(frozen=True)
class Counterfactual:
    """Adds to training a copy of what a document says of people of one group, with the words of the other.

    The copy holds those paragraphs alone in which the counterpart of every word is sure (`lexicon.GroupAxis.swapped`).
    """

    axis: str = "gender"
    lexicons: tuple[str, ...] = LANGUAGES
    """Languages or files of your own, of which each document takes that of its language."""
    share: float = 1.0
    """Part of the documents that have a copy."""
    seed: int = 1

    def __post_init__(self) -> None:
        _ = self._axes
        check_share("counterfactual", self.share)

    @cached_property
    def _axes(self) -> dict[str, GroupAxis]:
        known = [lexicon(each) for each in self.lexicons]
        return {each.language: each.axis(self.axis) for each in known}

    def copy_of(self, text: str) -> str | None:
        """The copy, or None: there is none to be made."""
        axis = self._axes.get(language_of([text[:100_000]]))
        if axis is None or not drawn(text, self.share, self.seed):
            return None
        swapped = (axis.swapped(part) for part in _PARAGRAPH.split(text))
        return "\n\n".join(each for each in swapped if each) or None

    def __call__(self, document: Document) -> Kept | Dropped:
        raise InputError("The step counterfactual adds copies: it goes into a recipe.")


def check_share(step: str, share: float) -> None:
    """
    Raises:
        InputError: no part of a whole.
    """
    if not 0 < share <= 1:
        raise InputError(f"{step}.share {share:g}: must be above 0 and at most 1.")

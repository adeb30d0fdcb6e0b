"""What a step is: a document goes in and is kept, perhaps changed, or dropped with the reason."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from wenloom.text.document import Document


class Kept(NamedTuple):
    """A document that goes on to the next step."""

    document: Document


class Dropped(NamedTuple):
    """Why a document ends here, as a person would say it."""

    reason: str


class Step(Protocol):
    """One decision about documents, asked for each in the order of reading; it may remember those before."""

    def __call__(self, document: Document, /) -> Kept | Dropped: ...


class Notes(NamedTuple):
    """What a step that compares documents noted of each, in the order of reading."""

    values: np.ndarray
    """Of all documents, one after the other (uint64)."""
    starts: np.ndarray
    """Where each begins, and where the last ends."""
    sources: Sequence[str]
    n_protected: int = 0
    """The first so many are validation text: they are never dropped in favour of others."""


class Verdict(NamedTuple):
    """What comparing all documents says, by number of document."""

    dropped: dict[int, str]
    """The reasons."""
    cut: dict[int, np.ndarray]
    """Of documents that are kept, the numbers of the parts that are taken out."""
    clusters: Sequence[Sequence[int]] = ()
    """Documents that belong together, where the step finds such."""


@runtime_checkable
class CorpusStep(Protocol):
    """A decision that compares documents: a note is taken of each, anywhere and in any order, and all are judged together."""

    def note(self, texts: Sequence[str]) -> list[np.ndarray]:
        """What to remember of each text (uint64)."""
        ...

    def judge(self, notes: Notes) -> Verdict:
        """Decide about all documents."""
        ...

    def spans(self, text: str, parts: np.ndarray) -> list[tuple[int, int]]:
        """Where the parts of a text that are cut begin and end, in characters."""
        ...

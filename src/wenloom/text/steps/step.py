"""What a step is: a document goes in and is kept, perhaps changed, or dropped with the reason."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from wenloom.text.digest import content_hash
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


class Sources(Protocol):
    """Where documents were found, by number; a list of them is one."""

    def __getitem__(self, number: int, /) -> str: ...


class Notes(NamedTuple):
    """What a step that compares documents noted of each, in the order of reading."""

    values: np.ndarray
    """Of all documents, one after the other (uint64); they may lie on disk (`numpy.memmap`)."""
    starts: np.ndarray
    """Where each begins, and where the last ends."""
    sources: Sources
    n_protected: int = 0
    """The first so many are validation text: they are never dropped in favour of others."""
    folder: Path | None = None
    """For files of what memory need not hold; None: that of temporary files."""


class Reasons(Mapping[int, str]):
    """Why documents are dropped, by number, put into words where they are asked for: many documents need little memory.

    >>> reasons = Reasons(np.array([3, 8]), lambda at: "short long".split()[at])
    >>> dict(reasons), 4 in reasons
    ({3: 'short', 8: 'long'}, False)
    """

    def __init__(self, numbers: np.ndarray, reason: Callable[[int], str]):
        """
        Args:
            numbers: of the documents, ascending.
            reason: of the one at a place among them.
        """
        self._numbers, self._reason = numbers, reason

    def __getitem__(self, number: int) -> str:
        at = int(np.searchsorted(self._numbers, number))
        if at == len(self._numbers) or self._numbers[at] != number:
            raise KeyError(number)
        return self._reason(at)

    def __iter__(self) -> Iterator[int]:
        return map(int, self._numbers)

    def __len__(self) -> int:
        return len(self._numbers)

    def among(self, which: np.ndarray) -> "Reasons":
        """The same, by the numbers that these documents have among more, ascending."""
        return Reasons(which[self._numbers], self._reason)


class Verdict(NamedTuple):
    """What comparing all documents says, by number of document."""

    dropped: Mapping[int, str]
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


@runtime_checkable
class AugmentingStep(Protocol):
    """Adds changed copies of documents to training; the copy depends on the text alone."""

    def copy_of(self, text: str) -> str | None:
        """The copy, or None: there is none."""
        ...


def drawn(text: str, share: float, seed: int) -> bool:
    """Whether a text is among this part of all texts, by its content.

    >>> drawn("a text", 1.0, 1), sum(drawn(str(number), 0.25, 1) for number in range(1000))
    (True, 280)
    """
    return int.from_bytes(content_hash(f"{seed} {text}")[:8]) < share * 2**64

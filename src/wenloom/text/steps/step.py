"""What a step is: a document goes in and is kept, perhaps changed, or dropped with the reason."""

from array import array
from bisect import bisect_left
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
    rank: np.ndarray
    """Of each document its place in the one order by which every step chooses which of several keeps what they share, the first of
    them (`comparing.ranks`)."""
    stays: np.ndarray
    """Of each whether an earlier step let it keep what it took out of others, or dropped others for it: a step that takes parts out
    of documents takes them out of these, too, and drops none of them for how little is left."""
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

    def less(self, others: np.ndarray) -> "Reasons":
        """Those of documents that are not among others.

        Args:
            others: of every number whether it is.
        """
        at = np.flatnonzero(~others[self._numbers])
        return Reasons(self._numbers[at], lambda number: self._reason(int(at[number])))


class Parts(Mapping[int, np.ndarray]):
    """Numbers of parts of documents, by the number of the document; those of many documents need little memory.

    >>> parts = Parts()
    >>> parts.add(3, np.array([0, 2]))
    >>> parts[3].tolist(), 4 in parts, list(parts.among(np.array([5, 6, 7, 9])))
    ([0, 2], False, [9])
    """

    def __init__(self) -> None:
        self._numbers, self._ends, self._parts = array("q"), array("q", [0]), array("q")

    def add(self, number: int, parts: np.ndarray) -> None:
        """
        Args:
            number: of a document behind those that are there.
        """
        self._numbers.append(number)
        self._parts.frombytes(parts.astype(np.int64).tobytes())
        self._ends.append(len(self._parts))

    def __getitem__(self, number: int) -> np.ndarray:
        at = bisect_left(self._numbers, number)
        if at == len(self._numbers) or self._numbers[at] != number:
            raise KeyError(number)
        return np.array(self._parts[self._ends[at] : self._ends[at + 1]], np.int64)

    def __iter__(self) -> Iterator[int]:
        return iter(self._numbers)

    def __len__(self) -> int:
        return len(self._numbers)

    def among(self, which: np.ndarray) -> "Parts":
        """The same, by the numbers that these documents have among more, ascending."""
        found = Parts()
        found._numbers = array("q", which[np.array(self._numbers, np.int64)].astype(np.int64).tobytes())
        found._ends, found._parts = self._ends, self._parts
        return found


class Verdict(NamedTuple):
    """What comparing all documents says, by number of document."""

    dropped: Mapping[int, str]
    """The reasons."""
    cut: Mapping[int, np.ndarray]
    """Of documents that are kept, the numbers of the parts that are taken out."""
    clusters: Sequence[Sequence[int]] = ()
    """Documents that belong together, where the step finds such."""
    kept: Mapping[int, np.ndarray] = Parts()
    """The numbers of parts that are taken out of other documents and kept in these, which no step drops and no step takes out."""
    chosen: np.ndarray = np.zeros(0, np.int64)
    """Documents for which others are dropped."""


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

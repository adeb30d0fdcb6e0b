"""Lines or paragraphs that stand in other documents, too: menus, notices, footers."""

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from wenloom.core.errors import InputError
from wenloom.core.mapped import let_go
from wenloom.text.document import Document
from wenloom.text.hashing import mixed, word_hashes
from wenloom.text.parted import Parted
from wenloom.text.steps.comparing import Cuts, part_of, ranges, spread
from wenloom.text.steps.step import Dropped, Kept, Notes, Verdict

_AT_ONCE = 2**20
"""Numbers of parts that are taken together; four times as many are sorted together."""
_LINE, _PARAGRAPH = re.compile(r"\n"), re.compile(r"\n\s*\n\s*")


@dataclass(frozen=True)
class RepeatedLines:
    """Takes lines out of all documents but one, the longest that has them.

    Case, marks and blanks are no difference. Documents of which little is left are dropped, unless they keep what others lose.
    """

    unit: Literal["line", "paragraph"] = "line"
    more_than: int = 1
    """Documents in which a line may stand."""
    min_characters: int = 15
    """Shorter lines are left alone: verses, headings and turns of dialogues repeat."""
    least_left: float = 0.3
    """Part of the characters that must be left of a document."""

    def __post_init__(self) -> None:
        if self.unit not in ("line", "paragraph"):
            raise InputError(f"repeated_lines.unit {self.unit}: must be line or paragraph.")
        if self.more_than < 1:
            raise InputError(
                f"repeated_lines.more_than {self.more_than}: must be at least 1, the document that keeps a line."
            )
        if not 0 <= self.least_left <= 1:
            raise InputError(f"repeated_lines.least_left {self.least_left}: must be between 0 and 1.")

    def _parts(self, text: str) -> list[str]:
        return (_LINE if self.unit == "line" else _PARAGRAPH).split(text)

    def note(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Of each part its hash and its length; 0 where it is left alone."""
        noted = list[np.ndarray]()
        for text in texts:
            parts = self._parts(text)
            hashes = _numbers(parts)
            hashes[[len(part.strip()) < self.min_characters for part in parts]] = 0
            noted.append(np.concatenate((hashes, np.fromiter(map(len, parts), np.uint64, len(parts)))))
        return noted

    def judge(self, notes: Notes) -> Verdict:
        """Which parts stand in more documents than may be, but for the one that keeps them."""
        decided = Cuts(self.least_left, notes.stays.copy())
        cuts, n_parts = ranges(notes.starts, _AT_ONCE), len(notes.values) // (4 * _AT_ONCE) + 1
        groups = list(itertools.pairwise(cuts.tolist()))
        with Parted(len(groups), 3, notes.folder) as found:
            with Parted(n_parts, 2, notes.folder) as holders:
                for first, last in groups:
                    rows = _once(*_parts_of(notes, first, last)[:2])
                    holders.add(rows, part_of(rows[:, 0], n_parts))
                for part in range(n_parts):
                    rows = self._repeated(holders.part(part), notes.rank)
                    rows = rows[(rows[:, 1] >= notes.n_protected) | (rows[:, 2] > 0)]
                    found.add(rows, np.searchsorted(cuts, rows[:, 1], side="right") - 1)
            for number, (first, last) in enumerate(groups):
                if len(rows := found.part(number)):
                    self._decide(notes, first, last, rows, decided)
        return decided.verdict()

    def _repeated(self, rows: np.ndarray, rank: np.ndarray) -> np.ndarray:
        """Of parts that stand in more documents than may be, the hash, each document, and whether it is the first, ascending by
        document.

        Args:
            rows: hash and document, each pair once.
            rank: see `Notes`.
        """
        rows = rows[np.lexsort((rank[rows[:, 1].astype(np.int64)], rows[:, 0]))]
        is_first = np.ones(len(rows), bool)
        is_first[1:] = rows[1:, 0] != rows[:-1, 0]
        sizes = np.diff(np.append(np.flatnonzero(is_first), len(rows)))
        rows = np.column_stack((rows, is_first))[np.repeat(sizes > self.more_than, sizes)]
        return rows[np.argsort(rows[:, 1], kind="stable")]

    def _decide(self, notes: Notes, first: int, last: int, rows: np.ndarray, decided: Cuts) -> None:
        """About neighbouring documents.

        Args:
            rows: hash and document of what stands in others, too, and whether this one keeps it.
            decided: told of them.
        """
        hashes, document, lengths = _parts_of(notes, first, last)
        _, which = np.unique(np.concatenate((rows[:, 0], hashes)), return_inverse=True)
        # a number for each pair of a hash and a document
        pairs = which * np.int64(last - first) + np.concatenate((rows[:, 1].astype(np.int64), document)) - first
        is_kept, of_parts = rows[:, 2] > 0, pairs[len(rows) :]
        kept, gone = (np.flatnonzero(np.isin(of_parts, pairs[: len(rows)][each])) for each in (is_kept, ~is_kept))
        kept = np.sort(kept[np.unique(of_parts[kept], return_index=True)[1]])  # where it stands first in its document
        total = np.bincount(document - first, lengths, last - first)
        lost = np.bincount(document[gone] - first, lengths[gone], last - first)
        for number, parts in _by_document(kept, document):
            decided.keep(number, parts)
        for number, parts in _by_document(gone, document):
            left = 1 - lost[number - first] / max(1.0, total[number - first])
            decided.take(
                number, parts, left, f"{100 * left:.0f} % is left without {self.unit}s that stand in other documents"
            )

    def spans(self, text: str, parts: np.ndarray) -> list[tuple[int, int]]:
        """Where these lines or paragraphs begin and end, with what parts them from the next."""
        breaks = [match.span() for match in (_LINE if self.unit == "line" else _PARAGRAPH).finditer(text)]
        begins, ends = [0, *(end for _, end in breaks)], [*(end for _, end in breaks), len(text)]
        return [(begins[part], ends[part]) for part in parts.tolist()]

    def __call__(self, document: Document) -> Kept | Dropped:
        raise InputError("The step repeated_lines compares documents: it goes into a recipe.")


def _parts_of(notes: Notes, first: int, last: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The hash of each part of neighbouring documents, the number of its document, and its length."""
    begin = notes.starts[first]
    values = np.array(notes.values[begin : notes.starts[last]])
    let_go(notes.values)
    sizes = np.diff(notes.starts[first : last + 1]) // 2
    document, places = spread(notes.starts[first:last] - begin, sizes)
    return values[places], first + document, values[places + sizes[document]].astype(np.int64)


def _by_document(parts: np.ndarray, document: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Parts, by their place among those of neighbouring documents: each document that has some, and their places in it.

    Args:
        document: of every part, ascending.
    """
    own = document[parts]
    places = parts - np.searchsorted(document, own)
    for of_one in np.split(np.arange(len(parts)), np.flatnonzero(np.diff(own)) + 1) if len(parts) else ():
        yield int(own[of_one[0]]), places[of_one]


def _once(hashes: np.ndarray, document: np.ndarray) -> np.ndarray:
    """Each pair of a hash and its document once, ascending; parts that are left alone are none."""
    order = np.lexsort((document, hashes))
    rows = np.stack((hashes[order], document[order].astype(np.uint64)), 1)
    is_new = np.ones(len(rows), bool)
    is_new[1:] = (rows[1:] != rows[:-1]).any(axis=1)
    return rows[is_new & (rows[:, 0] != 0)]


def _numbers(parts: Sequence[str]) -> np.ndarray:
    """The same for parts that differ in case, marks and blanks alone; 0 for those without a word."""
    found = np.zeros(len(parts), np.uint64)
    with np.errstate(over="ignore"):
        for at, words in enumerate(word_hashes(parts)):
            if len(words):
                weighed = words * (np.arange(len(words), dtype=np.uint64) * np.uint64(2) + np.uint64(1))
                found[at] = np.add.reduce(mixed(weighed)) | np.uint64(1)
    return found

"""Lines or paragraphs that stand in other documents, too: menus, notices, footers."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from wenloom.core.errors import InputError
from wenloom.text.document import Document
from wenloom.text.hashing import mixed, word_hashes
from wenloom.text.steps.step import Dropped, Kept, Notes, Verdict

_LINE, _PARAGRAPH = re.compile(r"\n"), re.compile(r"\n\s*\n\s*")


@dataclass(frozen=True)
class RepeatedLines:
    """Takes lines out of all documents but one, the one whose text has the smallest hash, whatever the order of reading.

    Case, marks and blanks are no difference. Documents of which little is left are dropped.
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

    def _parts(self, text: str) -> list[str]:
        return (_LINE if self.unit == "line" else _PARAGRAPH).split(text)

    def note(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Of each part its hash and its length; 0 where it is left alone. First the document's own hash."""
        noted = list[np.ndarray]()
        for text in texts:
            parts = self._parts(text)
            hashes = _numbers(parts)
            hashes[[len(part.strip()) < self.min_characters for part in parts]] = 0
            own = mixed(
                np.array([np.bitwise_xor.reduce(mixed(hashes ^ np.arange(len(hashes), dtype=np.uint64)))], np.uint64)
            )
            noted.append(np.concatenate((own, hashes, np.fromiter(map(len, parts), np.uint64, len(parts)))))
        return noted

    def judge(self, notes: Notes) -> Verdict:
        """Which parts stand in more documents than may be, but for the one that keeps them."""
        sizes = (np.diff(notes.starts) - 1) // 2
        document = np.repeat(np.arange(len(sizes)), sizes)
        number = np.concatenate([np.arange(size) for size in sizes]) if len(sizes) else np.zeros(0, int)
        base = notes.starts[:-1][document] + 1
        hashes = notes.values[base + number]
        lengths = notes.values[base + sizes[document] + number].astype(np.int64)
        owners = notes.values[notes.starts[:-1]]
        rank = np.empty(len(owners), np.int64)
        protected = np.arange(len(owners)) >= notes.n_protected
        rank[np.lexsort((np.arange(len(owners)), owners, protected))] = np.arange(len(owners))
        order = np.lexsort((rank[document], hashes))
        order = order[hashes[order] != 0]
        ranks, sorted_hashes = rank[document[order]], hashes[order]
        begins = (
            np.flatnonzero(np.concatenate(([True], sorted_hashes[1:] != sorted_hashes[:-1]))) if len(order) else order
        )
        group = np.cumsum(np.isin(np.arange(len(order)), begins)) - 1
        is_new = (
            np.concatenate(([True], (np.diff(ranks) != 0) | (np.diff(group) != 0))) if len(order) else np.zeros(0, bool)
        )
        holders = np.add.reduceat(is_new.astype(np.int64), begins)[group] if len(order) else group
        first = ranks[begins][group] if len(order) else group
        gone = order[(holders > self.more_than) & (ranks != first) & (document[order] >= notes.n_protected)]
        return self._verdict(gone, document, number, lengths, len(sizes))

    def _verdict(
        self, gone: np.ndarray, document: np.ndarray, number: np.ndarray, lengths: np.ndarray, count: int
    ) -> Verdict:
        total = np.bincount(document, lengths, count)
        lost = np.bincount(document[gone], lengths[gone], count)
        dropped, cut = dict[int, str](), dict[int, np.ndarray]()
        gone = np.sort(gone)
        for part in np.split(gone, np.flatnonzero(np.diff(document[gone])) + 1):
            if not len(part):
                continue
            which = int(document[part[0]])
            left = 1 - lost[which] / max(1.0, total[which])
            if left < self.least_left:
                dropped[which] = (f"{left:.0%} is left without {self.unit}s that stand in other documents, at least "
                                  f"{self.least_left:.0%} must be")  # fmt: skip
            else:
                cut[which] = number[part]
        return Verdict(dropped, cut)

    def spans(self, text: str, parts: np.ndarray) -> list[tuple[int, int]]:
        """Where these lines or paragraphs begin and end, with what parts them from the next."""
        breaks = [match.span() for match in (_LINE if self.unit == "line" else _PARAGRAPH).finditer(text)]
        begins, ends = [0, *(end for _, end in breaks)], [*(end for _, end in breaks), len(text)]
        return [(begins[part], ends[part]) for part in parts.tolist()]

    def __call__(self, document: Document) -> Kept | Dropped:
        raise InputError("The step repeated_lines compares documents: it goes into a recipe.")


def _numbers(parts: Sequence[str]) -> np.ndarray:
    """The same for parts that differ in case, marks and blanks alone; 0 for those without a word."""
    found = np.zeros(len(parts), np.uint64)
    with np.errstate(over="ignore"):
        for at, words in enumerate(word_hashes(parts)):
            if len(words):
                weighed = words * (np.arange(len(words), dtype=np.uint64) * np.uint64(2) + np.uint64(1))
                found[at] = np.add.reduce(mixed(weighed)) | np.uint64(1)
    return found

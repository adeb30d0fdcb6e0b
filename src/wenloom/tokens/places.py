"""Which document a place of the token stream belongs to: kept beside the shards, memory-mapped."""

from array import array
from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from wenloom.core.errors import InputError
from wenloom.core.foreign import json_text, read_json, reading, regular_file
from wenloom.text.origins import written

BEGINNINGS = "documents.json"


class DocumentPlace(NamedTuple):
    """A document of a split."""

    number: int
    """From 0 on."""
    source: str
    """File and, where a file holds several, line."""
    begin: int
    """Place of its first token in the stream, the one that opens it included."""
    end: int
    """Of the token behind its last, the one that closes it included."""


class PlaceWriter:
    """Collects where the documents of a split begin."""

    def __init__(self) -> None:
        self._begins, self._which, self._numbers = array("Q"), array("Q"), array("Q")

    def add(self, begin: int, which: int, number: int) -> None:
        """A document that begins at a place of the stream; its source as `text.origins.Origins` keeps it."""
        for column, value in ((self._begins, begin), (self._which, which), (self._numbers, number)):
            column.append(value)

    def write(self, folder: Path, split: str) -> None:
        """Write them beside the shards."""
        columns = [np.frombuffer(each, dtype=np.uint64) for each in (self._begins, self._which, self._numbers)]
        np.save(folder / _file(split), np.stack(columns, 1) if len(self._begins) else np.zeros((0, 3), np.uint64))


def write_beginnings(folder: Path, beginnings: list[str]) -> None:
    """Write what the sources of documents begin with."""
    (folder / BEGINNINGS).write_text(json_text(beginnings) + "\n", encoding="utf-8")


def has_places(folder: Path) -> bool:
    """Whether a corpus says where its documents are; those of version 0.1 do not."""
    return (folder / BEGINNINGS).is_file()


@dataclass(frozen=True)
class DocumentPlaces:
    """Where the documents of a split are."""

    rows: np.ndarray[Any, Any]
    """Begin, which beginning, number; shape (documents, 3)."""
    beginnings: list[str]
    n_tokens: int

    @classmethod
    def open(cls, folder: Path, split: str, n_tokens: int) -> "DocumentPlaces":
        """Read them.

        Args:
            n_tokens: of the split's stream.

        Raises:
            InputError: the corpus does not have them, or they are damaged.
        """
        if not has_places(folder):
            raise InputError(
                f"{folder}: does not say where its documents are, for an earlier version prepared it. Run the same "
                "wenloom prepare again."
            )
        regular_file(folder / _file(split))
        with reading(folder, what="is damaged, prepare it again"):
            beginnings = read_json(folder / BEGINNINGS)
            rows = np.load(folder / _file(split), mmap_mode="r", allow_pickle=False)
            if not isinstance(beginnings, list) or not all(isinstance(each, str) for each in beginnings):
                raise ValueError(f"{BEGINNINGS} is no list of names")
            if not isinstance(rows, np.ndarray) or rows.dtype != np.uint64 or rows.ndim != 2 or rows.shape[1] != 3:
                raise ValueError(f"{_file(split)} holds no places of documents")
            if len(rows) and rows[:, 1].max() >= len(beginnings):
                raise ValueError(f"{_file(split)} speaks of names that {BEGINNINGS} does not have")
        return cls(rows, beginnings, n_tokens)

    def of(self, place: int) -> DocumentPlace:
        """The document of a place of the stream; the token that ends the last one belongs to it."""
        number = max(0, bisect_right(self.rows[:, 0], place) - 1)
        begin, which, numbered = (int(each) for each in self.rows[number])
        end = int(self.rows[number + 1][0]) if number + 1 < len(self.rows) else self.n_tokens
        return DocumentPlace(number, written(self.beginnings[which], numbered), begin, end)


def _file(split: str) -> str:
    return f"{split}-documents.npy"

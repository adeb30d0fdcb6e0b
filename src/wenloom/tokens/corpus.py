"""The cleaned documents of a corpus, kept on disk between passes."""

import tempfile
from array import array
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

from wenloom.core.console import ProgressBar, progress
from wenloom.core.errors import InputError
from wenloom.text.clean import normalize
from wenloom.text.dedup import SeenBefore, content_hash
from wenloom.text.documents import Document, ReadOptions, read_documents
from wenloom.text.refusals import Refusals
from wenloom.text.split import is_validation, tail_start

_BATCH_CHARACTERS = 2_000_000
"""Text handed on at a time; bounds memory and keeps all cores busy."""
_PIECE = 100_000
"""Characters in a piece of the learning sample."""
_SAMPLE_WEIGHT = 100_000_000
"""Text that a vocabulary is learned from: about 100 MB. Learning keeps every distinct word in memory, and
where no blanks separate words nearly every clause is one: such text weighs eight times as much."""


class Corpus:
    """Documents read, normalised, de-duplicated and assigned to a split, spooled to a temporary file.

    Two passes (learning a vocabulary, encoding) then cost neither memory nor parsing twice.
    """

    def __init__(
        self,
        files: list[Path],
        reading: ReadOptions,
        fraction: float | None,
        folder: Path,
        validation_files: Sequence[Path] = (),
    ):
        """
        Args:
            fraction: part for validation; None leaves everything in training.
            folder: where the temporary file goes.
            validation_files: validation text of its own; `fraction` is then not used. A training document that
                is in them too is dropped as a duplicate.

        Raises:
            InputError: see `text.documents.read_documents`; or there is no text at all.
        """
        self._spool = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - lives as long as the corpus
        self._lengths, self._validates = array("Q"), array("B")
        self.n_bytes = self.n_duplicates = self.n_empty = 0
        self.refusals = Refusals(strict=not reading.skip_bad)
        """Rows and files that were left out."""
        self.rule, self._tail = "by document, content hash", 0.0
        if validation_files:
            self.rule, fraction = "files of its own", None
        seen_before, lowest, lowest_hash = SeenBefore(), 0, b"\xff" * 17
        with progress("Reading", sum(file.stat().st_size for file in [*validation_files, *files])) as bar:
            held_out = ((each, True) for each in _documents(validation_files, reading, bar, self.refusals))
            rest = ((each, False) for each in _documents(files, reading, bar, self.refusals))
            for document, is_held_out in chain(held_out, rest):
                text = normalize(document.text)
                digest = content_hash(text)
                if not text.strip():
                    self.n_empty += 1
                elif seen_before(digest):
                    self.n_duplicates += 1
                else:
                    if digest < lowest_hash:
                        lowest, lowest_hash = len(self._lengths), digest
                    self._add(text, is_held_out or (fraction is not None and is_validation(digest, fraction)))
        self.refusals.report()
        if not self.n_bytes:
            raise InputError(f"{', '.join(map(str, files[:3]))}: no text found ({self.n_empty} empty documents).")
        if fraction is not None and len(self._lengths) < 1 / fraction:
            self.rule, self._tail = f"last {fraction:.0%} of each document", fraction
        elif fraction is not None and not any(self._validates):
            self._validates[lowest] = True

    def _add(self, text: str, validates: bool) -> None:
        data = text.encode()
        self._spool.write(data)
        self._lengths.append(len(data))
        self._validates.append(validates)
        self.n_bytes += len(data)

    def documents(self) -> Iterator[tuple[str, str]]:
        """(split, text) in the order of reading."""
        self._spool.seek(0)
        for length, validates in zip(self._lengths, self._validates, strict=True):
            text = self._spool.read(length).decode()
            if not self._tail:
                yield "validation" if validates else "train", text
            else:
                cut = tail_start(text, self._tail)
                yield "train", text[:cut]
                yield "validation", text[cut:]

    def batches(self) -> Iterator[list[tuple[str, str]]]:
        """Documents in lists of about two million characters."""
        batch: list[tuple[str, str]] = []
        size = 0
        for each in self.documents():
            batch.append(each)
            size += len(each[1])
            if size >= _BATCH_CHARACTERS:
                yield batch
                batch, size = [], 0
        if batch:
            yield batch

    def learning_sample(self, limit: int | None = _SAMPLE_WEIGHT) -> Iterator[list[str]]:
        """Training text to learn a vocabulary from; validation text is left out, it must stay unseen.

        Args:
            limit: take evenly spaced pieces of about this weight together; None takes everything.
        """
        total = sum(_weight(piece) for batch in self.batches() for piece in _pieces(batch)) if limit else 0
        share = min(1.0, limit / max(1, total)) if limit else 1.0
        position = 0.0
        for batch in self.batches():
            taken = []
            for piece in _pieces(batch):
                before, position = position, position + share
                if int(position) > int(before) or share == 1.0:
                    taken.append(piece)
            yield taken


def _documents(files: Sequence[Path], reading: ReadOptions, bar: ProgressBar, refusals: Refusals) -> Iterator[Document]:
    return read_documents(list(files), reading, bar.advance, refusals)


def _pieces(batch: list[tuple[str, str]]) -> Iterator[str]:
    for split, text in batch:
        if split == "train":
            for start in range(0, len(text), _PIECE):
                yield text[start : start + _PIECE]


def _weight(piece: str) -> int:
    """Bytes, eightfold where fewer than one character in thirty is a blank."""
    blanks = piece.count(" ")
    return len(piece.encode()) * (1 if blanks * 30 > len(piece) else 8)

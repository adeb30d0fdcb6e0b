"""The cleaned documents of a corpus, kept on disk between passes."""

import os
import shutil
import tempfile
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from wenloom.core.console import remark
from wenloom.core.errors import InputError
from wenloom.core.progress import progress
from wenloom.core.quantities import counted
from wenloom.text.card import Card
from wenloom.text.digest import content_hash
from wenloom.text.documents import SKIP_BAD, ReadOptions, read_documents
from wenloom.text.executors import Cluster
from wenloom.text.origins import Origins
from wenloom.text.pipeline import DroppedDocument, DroppedFile, Pipeline, steps_named
from wenloom.text.recipe import Recipe
from wenloom.text.refusals import Refusals
from wenloom.text.sift import sift
from wenloom.text.sift_on import sift_on
from wenloom.text.split import is_validation, tail_start
from wenloom.text.steps.step import AugmentingStep

_BATCH_CHARACTERS = 2_000_000
"""Text handed on at a time; bounds memory and keeps all cores busy."""
_PIECE = 100_000
"""Characters in a piece of the learning sample."""
_SAMPLE_WEIGHT = 100_000_000
"""Text that a vocabulary is learned from: about 100 MB. Learning keeps every distinct word in memory, and
where no blanks separate words nearly every clause is one: such text weighs eight times as much."""


class Corpus:
    """Documents, each in training or in validation, in a temporary file that lives as long as the corpus.

    Two passes (learning a vocabulary, encoding) then cost neither memory nor parsing twice.
    """

    def __init__(self, folder: Path):
        """
        Args:
            folder: where the temporary file goes.
        """
        self._folder = folder
        self._spool = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - lives as long as the corpus
        self._lengths, self._validates = array("Q"), array("B")
        self.origins = Origins()
        """Where the documents were found, in the order of reading."""
        self._lowest, self._lowest_hash, self._tail = 0, b"\xff" * 17, 0.0
        self.n_bytes = 0
        self.rule = "by document, content hash"
        """How documents were divided."""
        self.dropped: Counter[str] = Counter()
        """Documents that are not in it, by the step that dropped them."""
        self.refusals = Refusals()
        """Rows and files that were left out."""
        self.card: dict[str, Any] | None = None
        """What the data card shows, of a corpus that went through a recipe."""

    @property
    def n_documents(self) -> int:
        """Documents that were kept."""
        return len(self._lengths)

    def add(self, text: str, source: str, digest: bytes, validates: bool) -> None:
        """Append a document."""
        self.origins.add(source)
        data = text.encode()
        self._spool.write(data)
        if digest < self._lowest_hash:
            self._lowest, self._lowest_hash = len(self._lengths), digest
        self._lengths.append(len(data))
        self._validates.append(validates)
        self.n_bytes += len(data)

    def divide(self, fraction: float) -> None:
        """Make sure that there is validation text: where too few documents are there to divide, the last part of each."""
        if len(self._lengths) < 1 / fraction:
            self.rule, self._tail = f"last {100 * fraction:.0f} % of each document", fraction
        elif not any(self._validates):
            self._validates[self._lowest] = True

    def augment(self, steps: dict[str, AugmentingStep], on_copy: Callable[[str, str, str], None]) -> None:
        """Add copies of training documents, behind all others.

        Args:
            on_copy: told of each: the step, where the document was found, and the text.

        Raises:
            InputError: documents are cut, so that their ends, which are validation text, would be learned.
        """
        if self.is_cut:
            raise InputError(
                f"{', '.join(steps)}: so few documents give their ends to validation, of which training must not have copies; "
                "name files of their own with --validation-files."
            )
        with tempfile.TemporaryFile(dir=self._folder) as aside:
            copies = list[tuple[str, int]]()
            with progress("Adding copies", len(self._lengths), "documents") as bar:
                for number, (split, text) in enumerate(self.documents()):
                    for name, step in steps.items():
                        if split == "train" and (copy := step.copy_of(text)):
                            on_copy(name, self.origins[number], copy)
                            copies.append((f"{name} of {self.origins[number]}", aside.write(copy.encode())))
                    bar.advance()
            aside.seek(0)
            self._spool.seek(0, os.SEEK_END)
            shutil.copyfileobj(aside, self._spool)
        for source, length in copies:
            self.origins.add(source)
            self._lengths.append(length)
            self._validates.append(False)
            self.n_bytes += length

    def documents(self) -> Iterator[tuple[str, str]]:
        """(split, text) in the order of reading; where documents are cut (`is_cut`), two of each."""
        self._spool.seek(0)
        for length, validates in zip(self._lengths, self._validates, strict=True):
            text = self._spool.read(length).decode()
            if not self._tail:
                yield "validation" if validates else "train", text
            else:
                cut = tail_start(text, self._tail)
                yield "train", text[:cut]
                yield "validation", text[cut:]

    @property
    def is_cut(self) -> bool:
        """Whether every document is in training with its beginning and in validation with its end."""
        return self._tail > 0

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


def read_corpus(
    files: Sequence[Path],
    reading: ReadOptions,
    fraction: float | None,
    folder: Path,
    validation_files: Sequence[Path] = (),
    steps: Sequence[str] = (),
    dropped: DroppedFile | None = None,
    keep_duplicates: bool = False,
) -> Corpus:
    """Read files, take the documents through the steps and divide those that are kept.

    Args:
        fraction: part for validation; None leaves everything in training.
        folder: where the temporary file goes.
        validation_files: validation text of its own; `fraction` is then not used. A training document that
            is in them too is dropped as a duplicate.
        steps: see `pipeline.steps_named`.
        dropped: told of every document and row that is left out.
        keep_duplicates: keep documents that are there letter for letter already.

    Raises:
        InputError: see `text.documents.read_documents` and `pipeline.check_steps`; or there is no text at all.
    """
    pipeline, corpus = Pipeline(steps_named(steps, keep_duplicates)), Corpus(folder)
    corpus.refusals = Refusals(strict=not reading.skip_bad, mend=SKIP_BAD)
    if dropped is not None:
        pipeline.on_dropped, corpus.refusals.on_refused = dropped.document, dropped.row
    if validation_files:
        corpus.rule, fraction = "files of its own", None
    with progress("Reading", sum(file.stat().st_size for file in [*validation_files, *files]), "bytes") as bar:
        for is_validation_file, group in ((True, validation_files), (False, files)):
            for document in pipeline.run(read_documents(list(group), reading, bar.advance, corpus.refusals)):
                digest = content_hash(document.text)
                validates = is_validation_file or (fraction is not None and is_validation(digest, fraction))
                corpus.add(document.text, document.source, digest, validates)
    corpus.refusals.report()
    _close(corpus, pipeline.counts, pipeline.sizes, files, fraction)
    return corpus


def _close(
    corpus: Corpus, dropped: Counter[str], sizes: Counter[str], files: Sequence[Path], fraction: float | None
) -> None:
    corpus.dropped = dropped
    _warn(dropped, sizes, corpus)
    if not corpus.n_bytes:
        raise InputError(f"{', '.join(map(str, files[:3]))}: no text found ({_said(dropped)}).")
    if fraction is not None:
        corpus.divide(fraction)


def read_sifted(
    files: Sequence[Path],
    reading: ReadOptions,
    fraction: float | None,
    folder: Path,
    recipe: Recipe,
    work: Path,
    validation_files: Sequence[Path] = (),
    dropped: Sequence[Callable[[DroppedDocument], None]] = (),
    processes: int | None = None,
    on: Cluster | None = None,
) -> Corpus:
    """The same through a recipe, on all cores or on a cluster.

    Args:
        work: where blocks are kept until all is done; see `sift.sift`.
        dropped: told of every document that is left out.

    Raises:
        InputError: see `read_corpus` and `sift.sift`.
    """
    corpus = Corpus(folder)
    corpus.refusals = Refusals(strict=not reading.skip_bad, mend=SKIP_BAD)
    if validation_files:
        corpus.rule, fraction = "files of its own", None
    if on is None:
        with progress("Sifting", sum(file.stat().st_size for file in [*validation_files, *files]), "bytes") as bar:
            sifted = sift(files, reading, recipe, work, bar.advance, corpus.refusals, validation_files, processes)
    else:
        sifted = sift_on(on, files, reading, recipe, work, corpus.refusals, validation_files)
    corpus.refusals.report()
    card, counts, sizes = Card(recipe), Counter[str](), Counter[str]()
    for decided in sifted.decided():
        document = decided.document
        card.add(decided)
        if decided.step:
            counts[decided.step] += 1
            sizes[decided.step] += len(document.text.encode("utf-8", "replace"))
            for tell in dropped:
                tell(DroppedDocument(document, decided.step, decided.reason))
            continue
        digest = content_hash(document.text)
        validates = decided.validates or (fraction is not None and is_validation(digest, fraction))
        corpus.add(document.text, document.source, digest, validates)
    corpus.card = card.facts(sifted)
    _close(corpus, counts, sizes, files, fraction)
    if augmenting := recipe.augmenting_steps():
        if recipe.before is not None:
            recipe.before()
        corpus.augment(augmenting, card.add_copy)
        corpus.card = card.facts(sifted)
    return corpus


_MUCH = 0.1
"""Part of the documents, or of the text, from which leaving it out deserves a warning."""
_KEEPS = {"duplicates": "--keep-duplicates keeps them", "repetition": "leave out --text-steps repetition to keep them"}


def _warn(dropped: Counter[str], sizes: Counter[str], corpus: Corpus) -> None:
    """Warn where more than a tenth is left out for one reason, and say what keeps it; --write-dropped shows it."""
    n_refused, is_sifted = corpus.refusals.count, corpus.card is not None
    total, text = dropped.total() + corpus.n_documents, sizes.total() + corpus.n_bytes
    for name, count in dropped.items():
        part, of_text = count / max(1, total), sizes[name] / max(1, text)
        if max(part, of_text) > _MUCH:
            with_text = f", with {100 * of_text:.0f} % of the text" * (of_text > max(_MUCH, part))
            keeps = f"--set {name}=off keeps them" if is_sifted else _KEEPS.get(name)
            remark(f"Warning: {count:,} of {total:,} documents ({100 * part:.0f} %{with_text}) are dropped by the step {name}; "
                   + f"{keeps}, " * (keeps is not None) + "--write-dropped FILE lists them.")  # fmt: skip
    if n_refused > _MUCH * (total + n_refused):
        what = f"{n_refused:,} rows, members or files cannot be read, beside {counted(total, 'document')} that can"
        remark(f"Warning: {what}; --write-dropped FILE lists them.")


def _said(dropped: Counter[str]) -> str:
    """What was dropped, in words."""
    others = [f"{count} dropped by {name}" for name, count in dropped.items() if name != "empty"]
    return ", ".join([f"{dropped['empty']} empty documents", *others])


def _pieces(batch: list[tuple[str, str]]) -> Iterator[str]:
    for split, text in batch:
        if split == "train":
            for start in range(0, len(text), _PIECE):
                yield text[start : start + _PIECE]


def _weight(piece: str) -> int:
    """Bytes, eightfold where fewer than one character in thirty is a blank."""
    blanks = piece.count(" ")
    return len(piece.encode()) * (1 if blanks * 30 > len(piece) else 8)

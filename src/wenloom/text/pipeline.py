"""Documents through steps: what comes out at the end, and what was dropped on the way and why."""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, NamedTuple

from wenloom.core.errors import InputError
from wenloom.core.files import clear_abandoned, file_aside, folder_aside
from wenloom.core.foreign import json_text
from wenloom.text.documents import Document
from wenloom.text.refusals import Refused
from wenloom.text.steps import FIRST, LAST, STEPS
from wenloom.text.steps.step import AugmentingStep, CorpusStep, Dropped, Step

SHOWN = 200
"""Characters of a dropped document that are written out."""


class DroppedDocument(NamedTuple):
    """A document that a step dropped."""

    document: Document
    step: str
    reason: str


@dataclass
class Pipeline:
    """Named steps, one after the other, and how many documents each has dropped."""

    steps: dict[str, Step]
    on_dropped: Callable[[DroppedDocument], None] = lambda dropped: None
    counts: Counter[str] = field(default_factory=Counter)
    """Documents dropped, by step."""
    sizes: Counter[str] = field(default_factory=Counter)
    """Bytes of them."""

    def run(self, documents: Iterable[Document]) -> Iterator[Document]:
        """The documents that every step keeps, as the steps leave them. Called again, it goes on with what the steps
        remember."""
        for document in documents:
            kept = self._through(document)
            if kept is not None:
                yield kept

    def _through(self, document: Document) -> Document | None:
        for name, step in self.steps.items():
            result = step(document)
            if isinstance(result, Dropped):
                self.counts[name] += 1
                self.sizes[name] += len(document.text.encode("utf-8", "replace"))
                self.on_dropped(DroppedDocument(document, name, result.reason))
                return None
            document = result.document
        return document


def check_steps(names: Sequence[str]) -> None:
    """
    Raises:
        InputError: there is no such step, or it is always taken or named twice.
    """
    for place, name in enumerate(names):
        if name in (*FIRST, *LAST):
            raise InputError(f"--text-steps {name}: every document goes through it; leave it out.")
        if name in names[:place]:
            raise InputError(f"--text-steps {name}: stands twice.")
        if name not in STEPS:
            known = [each for each in STEPS if each not in (*FIRST, *LAST)]
            raise InputError(f"--text-steps {name}: is not known; known are {', '.join(known)}.")
        for kind, does in ((CorpusStep, "compares documents"), (AugmentingStep, "adds copies")):
            if isinstance(STEPS[name], type) and issubclass(STEPS[name], kind):  # pyright: ignore[reportArgumentType]
                raise InputError(
                    f"--text-steps {name}: {does}, so it goes into a recipe: --recipe plain --set {name}=on."
                )


def steps_named(names: Sequence[str] = (), keep_duplicates: bool = False) -> dict[str, Step]:
    """Fresh steps: those that every corpus goes through, and these between them.

    Args:
        keep_duplicates: leave out the step that drops them.

    Raises:
        InputError: see `check_steps`.
    """
    check_steps(names)
    last = [name for name in LAST if not keep_duplicates or name != "duplicates"]
    return {name: STEPS[name]() for name in (*FIRST, *names, *last)}


@contextlib.contextmanager
def dropped_file(path: Path | None) -> Iterator["DroppedFile | None"]:
    """A file of JSON lines that says what was dropped and why; it stands there once everything was read."""
    if path is None:
        yield None
        return
    clear_abandoned(path)
    with file_aside(path) as file:
        yield DroppedFile(lambda fields: file.write((json_text(fields) + "\n").encode()))


@contextlib.contextmanager
def dropped_folder(path: Path | None) -> Iterator["DroppedFolder | None"]:
    """A folder with a file of JSON lines for each step: what it dropped, whole, and why. It stands there once everything was
    read, in place of an earlier one.

    Raises:
        InputError: there is another folder, or a file.
    """
    if path is None:
        yield None
        return
    if path.exists() and not (path.is_dir() and all(each.name.endswith(".jsonl") for each in path.iterdir())):
        raise InputError(f"--keep-dropped {path}: exists and is no folder of dropped documents; choose another.")
    with folder_aside(path) as folder, contextlib.ExitStack() as stack:
        yield DroppedFolder(folder, stack)


class DroppedFolder:
    """Writes dropped documents, whole, by the step that dropped them."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack):
        self._folder, self._stack, self._files = folder, stack, dict[str, IO[str]]()

    def document(self, dropped: DroppedDocument) -> None:
        """Of a document that a step dropped."""
        if dropped.step not in self._files:
            path = self._folder / f"{dropped.step}.jsonl"
            self._files[dropped.step] = self._stack.enter_context(
                path.open("w", encoding="utf-8", errors="backslashreplace")
            )
        document = dropped.document
        row = {"source": document.source, "text": document.text, "reason": dropped.reason}
        self._files[dropped.step].write(json_text(row) + "\n")


class DroppedFile(NamedTuple):
    """Writes what was dropped: source, step, reason and the first characters."""

    write: Callable[[dict[str, str]], object]

    def document(self, dropped: DroppedDocument) -> None:
        """Of a document that a step dropped."""
        document = dropped.document
        self.write({"source": document.source, "step": dropped.step, "reason": dropped.reason,
                    "text": document.text[:SHOWN]})  # fmt: skip

    def row(self, refused: Refused) -> None:
        """Of a row or a file that could not be read."""
        source = f"{refused.path}, line {refused.line}" if refused.line else str(refused.path)
        self.write({"source": source, "step": "reading", "reason": refused.why, "text": ""})

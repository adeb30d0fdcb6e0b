"""A block of documents through the steps of a recipe, in whatever process, on whatever machine."""

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from wenloom.text.blocks import MEASURES, BlockEntry, write_block
from wenloom.text.document import Document, ReadOptions
from wenloom.text.documents import raw_documents
from wenloom.text.pages import finished
from wenloom.text.recipe import Recipe
from wenloom.text.refusals import Refusals
from wenloom.text.steps.comparing import measured
from wenloom.text.steps.step import CorpusStep, Dropped, Step

BLOCK_CHARACTERS = 4_000_000


class Worker:
    """Takes blocks through the steps, in whatever process it is."""

    def __init__(self, recipe: Recipe, reading: ReadOptions):
        if recipe.before is not None:
            recipe.before()
        self._reading = reading
        self._steps: dict[str, Step] = recipe.steps()
        self._corpus_steps: dict[str, CorpusStep] = recipe.corpus_steps()

    def __call__(self, path: Path, documents: Sequence[Document]) -> None:
        entries = [self._through(finished(document, self._reading)) for document in documents]
        texts = [each.document.text for each in entries if not each.step]
        notes = {name: step.note(texts) for name, step in self._corpus_steps.items()}
        if notes:
            notes[MEASURES] = list(map(measured, texts))
        facts = Counter[str]()
        for step in self._steps.values():
            if (take := getattr(step, "take_counts", None)) is not None:
                facts.update(take())
        write_block(path, entries, notes, {"counts": dict(facts)})

    def _through(self, document: Document) -> BlockEntry:
        for name, step in self._steps.items():
            result = step(document)
            if isinstance(result, Dropped):
                return BlockEntry(document, name, result.reason)
            document = result.document
        return BlockEntry(document)


def in_blocks(files: Sequence[Path], reading: ReadOptions, on_bytes: Callable[[int], None], refusals: Refusals,
                limit: int | None) -> Iterator[list[Document]]:  # fmt: skip
    """Documents of files in lists of about four million characters, in the order of reading.

    Args:
        limit: documents of each file to look at; None: all.

    Raises:
        InputError: see `documents.read_documents`.
    """
    block, size = list[Document](), 0
    if limit is None:
        documents = raw_documents(list(files), reading, on_bytes, refusals)
    else:
        documents = itertools.chain.from_iterable(
            itertools.islice(raw_documents([file], reading, on_bytes, refusals), limit) for file in files
        )
    for document in documents:
        block.append(document)
        size += len(document.text)
        if size >= BLOCK_CHARACTERS:
            yield block
            block, size = [], 0
    if block:
        yield block

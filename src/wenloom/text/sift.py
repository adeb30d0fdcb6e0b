"""Documents through a recipe: steps on all cores, block by block, each block kept on disk, then all documents compared.

Blocks are cut by size in the order of reading, so that neither the number of processes nor an interruption changes what comes out.
"""

import contextlib
import itertools
import multiprocessing
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from wenloom.text.blocks import BlockEntry, read_entries, read_notes, write_block
from wenloom.text.document import Document, ReadOptions
from wenloom.text.documents import raw_documents
from wenloom.text.pages import finished
from wenloom.text.recipe import Recipe
from wenloom.text.refusals import Refusals
from wenloom.text.steps.step import CorpusStep, Dropped, Notes, Step, Verdict

BLOCK_CHARACTERS = 4_000_000
_FEW_CHARACTERS = 2 * BLOCK_CHARACTERS
"""Up to which one process is faster than starting several."""


class Decided(NamedTuple):
    """A document with what the recipe says of it."""

    document: Document
    step: str
    """That dropped it; empty: it is kept."""
    reason: str
    validates: bool


class _Worker:
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


_worker: _Worker | None = None


def _start(recipe: Recipe, reading: ReadOptions) -> None:
    global _worker
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's
    _worker = _Worker(recipe, reading)


def _work(path: Path, documents: Sequence[Document]) -> None:
    assert _worker is not None
    _worker(path, documents)


class Sifted:
    """What a recipe made of documents: the blocks on disk, and what comparing them said."""

    def __init__(self, blocks: Sequence[Path], n_validation: int, recipe: Recipe):
        """
        Args:
            n_validation: the first so many blocks are validation text.
        """
        self._blocks, self._n_validation = blocks, n_validation
        self._steps = recipe.corpus_steps()
        self.order = [*recipe.steps(), *self._steps]
        """Names of the steps, in the order in which documents meet them."""
        self.facts: Counter[str] = Counter()
        """What steps counted, such as personal data found."""
        self.verdicts: dict[str, Verdict] = {}
        self._judge()

    def _judge(self) -> None:
        names = list(self._steps)
        values, sizes = {name: list[np.ndarray]() for name in names}, {name: list[np.ndarray]() for name in names}
        sources, n_protected = list[str](), 0
        for number, block in enumerate(self._blocks):
            notes, facts = read_notes(block, names)
            self.facts.update(facts["counts"])
            for name, (of_block, lengths) in notes.items():
                values[name].append(of_block)
                sizes[name].append(lengths)
            if names:
                sources += [each.document.source for each in read_entries(block) if not each.step]
            n_protected = len(sources) if number < self._n_validation else n_protected
        self._sources = sources
        alive = np.ones(len(sources), bool)
        for name, step in self._steps.items():
            lengths = np.concatenate([*sizes[name], np.zeros(0, np.int64)])
            starts = np.concatenate(([0], np.cumsum(lengths)))
            whole = np.concatenate([*values[name], np.zeros(0, np.uint64)])
            self.verdicts[name] = _among(step, Notes(whole, starts, sources, n_protected), alive)
            alive[list(self.verdicts[name].dropped)] = False

    def largest_clusters(self, most: int) -> list[dict[str, Any]]:
        """Of near duplicates: how many documents, and where the first few are."""
        clusters = [members for verdict in self.verdicts.values() for members in verdict.clusters]
        return [{"documents": len(members), "sources": [self._sources[each] for each in members[:5]]}
                for members in sorted(clusters, key=lambda members: (-len(members), members[0]))[:most]]  # fmt: skip

    def decided(self) -> Iterator[Decided]:
        """All documents in the order of reading, those that were dropped among them."""
        number = 0
        for at, block in enumerate(self._blocks):
            validates = at < self._n_validation
            for entry in read_entries(block):
                if entry.step:
                    yield Decided(entry.document, entry.step, entry.reason, validates)
                    continue
                document, dropped, spans = entry.document, ("", ""), list[tuple[int, int]]()
                for name, verdict in self.verdicts.items():
                    if (reason := verdict.dropped.get(number)) is not None:
                        dropped = name, reason
                        break
                    if (parts := verdict.cut.get(number)) is not None:
                        spans += self._steps[name].spans(document.text, parts)
                if spans and not dropped[0]:
                    document = replace(document, text=_without(document.text, spans))
                number += 1
                yield Decided(document, *dropped, validates)


def _without(text: str, spans: Sequence[tuple[int, int]]) -> str:
    """A text less some stretches, which may overlap; what then stands at its end is no line break.

    >>> _without("one two three", [(3, 7), (5, 8)])
    'onethree'
    """
    parts, at = list[str](), 0
    for begin, end in sorted(spans):
        parts.append(text[at:begin])
        at = max(at, end)
    rest = "".join([*parts, text[at:]])
    return rest if rest.endswith("\n") == text.endswith("\n") else rest.rstrip("\n")


def _among(step: CorpusStep, notes: Notes, alive: np.ndarray) -> Verdict:
    """The verdict on documents that no step has dropped so far, by their numbers among all."""
    if alive.all():
        return step.judge(notes)
    which = np.flatnonzero(alive)
    lengths = np.diff(notes.starts)[which]
    within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    values = notes.values[np.repeat(notes.starts[:-1][which], lengths) + within]
    sources = [notes.sources[int(each)] for each in which]
    verdict = step.judge(Notes(values, np.concatenate(([0], np.cumsum(lengths))), sources,
                               int(np.searchsorted(which, notes.n_protected))))  # fmt: skip
    return Verdict({int(which[each]): reason for each, reason in verdict.dropped.items()},
                   {int(which[each]): parts for each, parts in verdict.cut.items()},
                   [[int(which[each]) for each in members] for members in verdict.clusters])  # fmt: skip


def sift(
    files: Sequence[Path],
    reading: ReadOptions,
    recipe: Recipe,
    work: Path,
    on_bytes: Callable[[int], None] = lambda n: None,
    refusals: Refusals | None = None,
    validation_files: Sequence[Path] = (),
    processes: int | None = None,
    limit: int | None = None,
) -> Sifted:
    """Take documents through a recipe.

    Args:
        work: a folder where blocks are kept; those that lie there already are not done again. It belongs to these files, options
            and recipe alone.
        processes: default: one a core.
        limit: documents of each file to look at; default: all.

    Raises:
        InputError: see `documents.read_documents`; or a step cannot be made.
    """
    work.mkdir(parents=True, exist_ok=True)
    _Worker(recipe, reading)  # what cannot be made is said before anything is read
    options, blocks, n_validation = (on_bytes, refusals or Refusals(strict=not reading.skip_bad)), list[Path](), 0
    with _pool(recipe, reading, processes, [*validation_files, *files]) as submit:
        for group in (validation_files, files):
            for documents in _in_blocks(group, reading, *options, limit):
                path = work / f"{len(blocks):06}.npz"
                blocks.append(path)
                if not path.exists():
                    submit(path, documents)
            n_validation = n_validation or len(blocks) if group is validation_files else n_validation
    return Sifted(blocks, n_validation if validation_files else 0, recipe)


def _in_blocks(files: Sequence[Path], reading: ReadOptions, on_bytes: Callable[[int], None], refusals: Refusals,
               limit: int | None) -> Iterator[list[Document]]:  # fmt: skip
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


@contextlib.contextmanager
def _pool(recipe: Recipe, reading: ReadOptions, processes: int | None,
          files: Sequence[Path]) -> Iterator[Callable[[Path, list[Document]], None]]:  # fmt: skip
    """What takes a block to a free process, and waits while all of them have two."""
    count = (
        processes or len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else processes or os.cpu_count() or 1
    )
    if count == 1 or (processes is None and sum(file.stat().st_size for file in files) < _FEW_CHARACTERS):
        yield _Worker(recipe, reading)
        return
    context, waiting = multiprocessing.get_context("spawn"), set[Future[None]]()
    with ProcessPoolExecutor(count, context, _start, (recipe, reading)) as pool:

        def submit(path: Path, documents: list[Document]) -> None:
            nonlocal waiting
            while len(waiting) >= 2 * count:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                _raised(done)
            waiting.add(pool.submit(_work, path, documents))

        try:
            yield submit
            _raised(waiting)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _raised(done: set[Any]) -> None:
    for each in done:
        each.result()

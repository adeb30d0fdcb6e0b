"""What a recipe made of documents: blocks on disk, and the verdict of the steps that compare all of them.

What those steps noted of each document is gathered in files without a name and read where it lies, so that it need not fit into memory.
"""

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from wenloom.text.blocks import MEASURES, read_entries, read_facts, read_notes
from wenloom.text.clusters import clusters_of
from wenloom.text.document import Document
from wenloom.text.origins import Origins
from wenloom.text.recipe import Recipe
from wenloom.text.steps.comparing import ranks
from wenloom.text.steps.near_duplicates import NearDuplicates
from wenloom.text.steps.step import CorpusStep, Notes, Parts, Reasons, Verdict


class Decided(NamedTuple):
    """A document with what the recipe says of it."""

    document: Document
    step: str
    """That dropped it; empty: it is kept."""
    reason: str
    validates: bool


FindClusters = Callable[[np.ndarray], Sequence[Sequence[int]]]


class Sifted:
    """What a recipe made of documents: the blocks on disk, and what comparing them said."""

    def __init__(
        self, blocks: Sequence[Path], n_validation: int, recipe: Recipe, find_clusters: FindClusters = clusters_of
    ):
        """
        Args:
            n_validation: the first so many blocks are validation text.
            find_clusters: which rows of a table share a value in a column (`clusters.clusters_of`).
        """
        self._blocks, self._n_validation = blocks, n_validation
        self._find_clusters, self._steps = find_clusters, recipe.corpus_steps()
        self.order = [*recipe.steps(), *self._steps]
        """Names of the steps, in the order in which documents meet them."""
        self.facts: Counter[str] = Counter()
        """What steps counted, such as personal data found."""
        self.verdicts: dict[str, Verdict] = {}
        self.cut: dict[str, tuple[int, int]] = {}
        """By step, from how many documents it cut how many bytes, as far as `decided` has come."""
        self._sources, self._n_protected = Origins(), 0
        self._judge()

    def _judge(self) -> None:
        for number, block in enumerate(self._blocks):
            self.facts.update(read_facts(block)["counts"])
            for entry in read_entries(block) if self._steps else ():
                if not entry.step:
                    self._sources.add(entry.document.source)
            self._n_protected = len(self._sources) if number < self._n_validation else self._n_protected
        self._keeps, self._chosen = np.zeros((2, len(self._sources)), bool)
        alive, rank = np.ones(len(self._sources), bool), self._ranks()
        for name, step in self._steps.items():
            verdict = self.verdicts[name] = self._verdict(name, step, np.flatnonzero(alive), rank)
            self._keeps[_numbers(verdict.kept)] = True
            self._chosen[verdict.chosen] = True
            alive[_numbers(verdict.dropped)] = False

    def _ranks(self) -> np.ndarray:
        measures = [read_notes(block, MEASURES)[0] for block in self._blocks] if self._steps else []
        return ranks(np.concatenate([*measures, np.zeros(0, np.uint64)]).reshape(-1, 2), self._n_protected)

    def _verdict(self, name: str, step: CorpusStep, which: np.ndarray, rank: np.ndarray) -> Verdict:
        """On documents that no step has dropped so far, by their numbers among all.

        What an earlier step took out of others and left to a document would be lost with it: such a document is not dropped.

        Args:
            which: their numbers, ascending.
            rank: of all documents.
        """
        folder = self._blocks[0].parent if self._blocks else None
        with tempfile.TemporaryFile(dir=folder) as file:
            lengths, number = [np.zeros(1, np.int64)], 0
            for block in self._blocks:
                values, sizes = read_notes(block, name)
                first, last = np.searchsorted(which, (number, number + len(sizes)))
                inside = which[first:last] - number
                number += len(sizes)
                if len(inside) == len(sizes):
                    file.write(values.tobytes())
                else:
                    is_in = np.zeros(len(sizes), bool)
                    is_in[inside] = True
                    file.write(values[np.repeat(is_in, sizes)].tobytes())
                lengths.append(sizes[inside])
            starts = np.cumsum(np.concatenate(lengths))
            file.flush()
            whole = np.memmap(file, np.uint64, "r", shape=(int(starts[-1]),)) if starts[-1] else np.zeros(0, np.uint64)
            n_protected = int(np.searchsorted(which, self._n_protected))
            stays = self._keeps[which] | self._chosen[which]
            notes = Notes(whole, starts, _Chosen(self._sources, which), rank[which], stays, n_protected, folder)
            if isinstance(step, NearDuplicates):
                verdict = step.verdict(notes, self._find_clusters(step.bands_of(notes)))
            else:
                verdict = step.judge(notes)
        dropped = _among(verdict.dropped, which)
        if isinstance(dropped, Reasons):
            dropped = dropped.less(self._keeps)
        else:
            dropped = {each: reason for each, reason in dropped.items() if not self._keeps[each]}
        clusters = [[int(which[each]) for each in members] for members in verdict.clusters]
        return Verdict(
            dropped, _among(verdict.cut, which), clusters, _among(verdict.kept, which), which[verdict.chosen]
        )

    def largest_clusters(self, most: int) -> list[dict[str, Any]]:
        """Of near duplicates: how many documents, and where the first few are."""
        clusters = [members for verdict in self.verdicts.values() for members in verdict.clusters]
        return [{"documents": len(members), "sources": [self._sources[each] for each in members[:5]]}
                for members in sorted(clusters, key=lambda members: (-len(members), members[0]))[:most]]  # fmt: skip

    def decided(self) -> Iterator[Decided]:
        """All documents in the order of reading, those that were dropped among them."""
        number, self.cut = 0, {}
        for at, block in enumerate(self._blocks):
            validates = at < self._n_validation
            for entry in read_entries(block):
                if entry.step:
                    yield Decided(entry.document, entry.step, entry.reason, validates)
                    continue
                document, dropped, spans = entry.document, ("", ""), dict[str, list[tuple[int, int]]]()
                for name, verdict in self.verdicts.items():
                    if (reason := verdict.dropped.get(number)) is not None:
                        dropped = name, reason
                        break
                    if (parts := verdict.cut.get(number)) is not None:
                        spans[name] = self._steps[name].spans(document.text, parts)
                if spans and not dropped[0]:
                    document, dropped = self._cut(number, document, spans)
                number += 1
                yield Decided(document, *dropped, validates)

    def _cut(
        self, number: int, document: Document, spans: dict[str, list[tuple[int, int]]]
    ) -> tuple[Document, tuple[str, str]]:
        """A document less what steps take out of it, or why it is dropped.

        What any step keeps stays, as it is taken out elsewhere.

        Args:
            spans: by step, what it takes out.
        """
        text, stays = document.text, list[tuple[int, int]]()
        for name, verdict in self.verdicts.items():
            if spans.keys() - {name} and (parts := verdict.kept.get(number)) is not None:
                stays += [(_blanks_before(text, begin), end) for begin, end in self._steps[name].spans(text, parts)]
        may_go = ~_marked(len(text), stays)
        gone = {name: _marked(len(text), of_step) & may_go for name, of_step in spans.items()}
        left = _without(text, _stretches(np.logical_or.reduce(list(gone.values()))))
        if not left.strip():
            return document, (list(spans)[-1], "nothing is left without what stands in other documents")
        for name, of_step in gone.items():
            taken = _stretches(of_step)
            count, size = self.cut.get(name, (0, 0))
            n_bytes = sum(len(text[begin:end].encode("utf-8", "replace")) for begin, end in taken)
            self.cut[name] = count + bool(taken), size + n_bytes
        return replace(document, text=left), ("", "")


def _among(by_number: Mapping[int, Any], which: np.ndarray) -> Mapping[int, Any]:
    """The same, by the numbers that these documents have among more, ascending."""
    if isinstance(by_number, Reasons | Parts):
        return by_number.among(which)
    return {int(which[each]): what for each, what in by_number.items()}


def _numbers(by_number: Mapping[int, Any]) -> np.ndarray:
    return np.fromiter(by_number, np.int64, len(by_number))


def _blanks_before(text: str, at: int) -> int:
    """Where the blanks begin that part what stands here from what is before it.

    >>> _blanks_before("one \\n two", 6), _blanks_before("one", 1)
    (3, 1)
    """
    while at and text[at - 1].isspace():
        at -= 1
    return at


def _marked(size: int, spans: Sequence[tuple[int, int]]) -> np.ndarray:
    """Of each character of a text whether it lies in one of these stretches."""
    marked = np.zeros(size, bool)
    for begin, end in spans:
        marked[begin:end] = True
    return marked


def _stretches(marked: np.ndarray) -> list[tuple[int, int]]:
    """Where marked characters begin and end.

    >>> _stretches(_marked(9, [(0, 2), (1, 3), (7, 9)]))
    [(0, 3), (7, 9)]
    """
    edges = np.flatnonzero(np.diff(np.concatenate(([False], marked, [False])).view(np.int8)))
    return [(begin, end) for begin, end in edges.reshape(-1, 2).tolist()]


def _without(text: str, spans: Sequence[tuple[int, int]]) -> str:
    """A text less some stretches, ascending; what then stands at its end is no line break.

    >>> _without("one two three", [(3, 8)])
    'onethree'
    """
    parts, at = list[str](), 0
    for begin, end in spans:
        parts.append(text[at:begin])
        at = end
    rest = "".join([*parts, text[at:]])
    return rest if rest.endswith("\n") == text.endswith("\n") else rest.rstrip("\n")


@dataclass(frozen=True)
class _Chosen:
    """Sources of some of the documents."""

    of: Origins
    which: np.ndarray

    def __getitem__(self, number: int) -> str:
        return self.of[int(self.which[number])]

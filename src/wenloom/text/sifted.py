"""What a recipe made of documents: blocks on disk, and the verdict of the steps that compare all of them.

What those steps noted of each document is gathered in files without a name and read where it lies, so that it need not fit into memory.
"""

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from wenloom.text.blocks import read_entries, read_facts, read_notes
from wenloom.text.clusters import clusters_of
from wenloom.text.document import Document
from wenloom.text.origins import Origins
from wenloom.text.recipe import Recipe
from wenloom.text.steps.near_duplicates import NearDuplicates
from wenloom.text.steps.step import CorpusStep, Notes, Reasons, Verdict


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
        alive = np.ones(len(self._sources), bool)
        for name, step in self._steps.items():
            self.verdicts[name] = self._verdict(name, step, np.flatnonzero(alive))
            dropped = self.verdicts[name].dropped
            alive[np.fromiter(dropped, np.int64, len(dropped))] = False

    def _verdict(self, name: str, step: CorpusStep, which: np.ndarray) -> Verdict:
        """On documents that no step has dropped so far, by their numbers among all.

        Args:
            which: their numbers, ascending.
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
            notes = Notes(whole, starts, _Chosen(self._sources, which), n_protected, folder)
            if isinstance(step, NearDuplicates):
                verdict = step.verdict(notes, self._find_clusters(step.bands_of(notes)))
            else:
                verdict = step.judge(notes)
        dropped = verdict.dropped
        if isinstance(dropped, Reasons):
            dropped = dropped.among(which)
        else:
            dropped = {int(which[each]): reason for each, reason in dropped.items()}
        return Verdict(dropped, {int(which[each]): parts for each, parts in verdict.cut.items()},
                       [[int(which[each]) for each in members] for members in verdict.clusters])  # fmt: skip

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
                    document = self._cut(document, spans)
                number += 1
                yield Decided(document, *dropped, validates)

    def _cut(self, document: Document, spans: dict[str, list[tuple[int, int]]]) -> Document:
        for name, of_step in spans.items():
            count, size = self.cut.get(name, (0, 0))
            gone = sum(len(document.text[begin:end].encode("utf-8", "replace")) for begin, end in of_step)
            self.cut[name] = count + 1, size + gone
        return replace(document, text=_without(document.text, [each for of_step in spans.values() for each in of_step]))


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


@dataclass(frozen=True)
class _Chosen:
    """Sources of some of the documents."""

    of: Origins
    which: np.ndarray

    def __getitem__(self, number: int) -> str:
        return self.of[int(self.which[number])]

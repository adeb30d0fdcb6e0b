"""Worked examples before a question (few-shot prompts): drawn once by a seed, the same for every model.

All questions of a group (a subject of MMLU; else of the whole dataset) follow the same examples, so that a model reads them
once. lm-evaluation-harness draws anew for every question; how an example is written and what parts it from the next is as
there: the query, the right answer after a blank, an empty line.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, NamedTuple, Protocol, Self, TypeVar

from wenloom.core.errors import InputError

BETWEEN = "\n\n"
"""What parts an example from the next, and the last from the question."""


class Askable(Protocol):
    """A sample that can follow worked examples."""

    @property
    def group(self) -> str:
        """Examples are drawn from the samples of the same group."""
        ...

    def solved(self) -> str:
        """The sample with its right answer, as an example."""
        ...

    def led_by(self, examples: str, numbers: tuple[int, ...]) -> Self:
        """The sample after examples.

        Args:
            numbers: which they are, for the file of samples.
        """
        ...


S = TypeVar("S", bound=Askable)


class Pool(NamedTuple):
    """Where examples are drawn from."""

    samples: Sequence[Any]
    source: str
    """The name of the file."""
    is_asked: bool
    """Whether these are the questions themselves; none is its own example."""
    in_order: bool = False
    """Take the first ones, as they were published for that, instead of drawing."""


@dataclass(frozen=True)
class Drawn:
    """The examples of an evaluation."""

    shots: int = 0
    seed: int | None = None
    """None: the first of the file."""
    source: str = ""
    texts: dict[int, str] = field(default_factory=dict)
    """By their number in the file, from 1. Where the questions themselves are the pool there is one more in every group,
    which stands in for an example before itself."""

    def signed(self) -> dict[str, object]:
        """Fields of the signature."""
        if not self.shots:
            return {"shots": 0}
        numbers = ",".join(map(str, self.texts)) if len(self.texts) <= 12 else f"{len(self.texts)} rows"
        whole = hashlib.sha256("\0".join(self.texts.values()).encode()).hexdigest()[:8]
        return {"shots": self.shots, "seed": self.seed, "examples": f"{self.source} {numbers} {whole}"}

    def header(self) -> dict[str, Any]:
        """For the header of the file of samples."""
        return {"shots": self.shots, "seed": self.seed, "source": self.source, "examples": self.texts}


def with_examples(samples: Sequence[S], pool: Pool, shots: int, seed: int) -> tuple[list[S], Drawn]:
    """Put worked examples before every sample.

    Args:
        samples: the questions.
        shots: examples before each; at least 1.

    Raises:
        InputError: the pool has too few.
    """
    numbered = list(enumerate(pool.samples, 1))
    by_group: dict[str, list[tuple[int, S]]] = {}
    for number, each in numbered:
        by_group.setdefault(each.group, []).append((number, each))
    drawn: dict[str, list[tuple[int, str]]] = {}
    for group in dict.fromkeys(each.group for each in samples):
        rows = by_group.get(group) if pool.is_asked or group in by_group else numbered
        drawn[group] = _draw(rows or [], shots, seed, pool, group)
    asked = []
    for each in samples:
        itself = each.solved()
        chosen = [pair for pair in drawn[each.group][:shots] if pair[1] != itself]
        if len(chosen) < shots:  # the spare ones take the place of what would give the answer away
            chosen += [pair for pair in drawn[each.group][shots:] if pair[1] != itself][: shots - len(chosen)]
        text = "".join(solved + BETWEEN for _, solved in chosen)
        asked.append(each.led_by(text, tuple(number for number, _ in chosen)))
    texts = {number: text for pairs in drawn.values() for number, text in pairs}
    return asked, Drawn(shots, None if pool.in_order else seed, pool.source, texts)


def _draw(rows: Sequence[tuple[int, S]], shots: int, seed: int, pool: Pool, group: str) -> list[tuple[int, str]]:
    """Examples, and one more where the rows are questions themselves; none twice."""
    wanted = shots + pool.is_asked
    ordered = rows if pool.in_order else Random(f"{seed} {group}").sample(rows, len(rows))
    found: dict[str, int] = {}
    for number, each in ordered:
        found.setdefault(each.solved(), number)
        if len(found) == wanted:
            return [(number, text) for text, number in found.items()]
    where = f"{pool.source} has" if not group else f"{pool.source}, {group}, has"
    other = " besides the question itself" if pool.is_asked else ""
    raise InputError(
        f"--shots {shots}: {where} only {max(0, len(found) - pool.is_asked):,} examples{other}; ask for fewer."
    )

"""Prompts of the user's own, each beside the same with the words of one group exchanged for those of the other."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from wenloom.core.errors import InputError, printable
from wenloom.evaluation.rows import read_lines, read_rows
from wenloom.evaluation.scorer import ContinuationScore, Span, TextInContext
from wenloom.evaluation.signature import Signature
from wenloom.fairness.audit import AuditFigure, Outcomes, spread
from wenloom.fairness.exchanged import apart
from wenloom.fairness.scored_audit import ScoredAudit
from wenloom.text.group_axis import GroupAxis
from wenloom.text.lexicon import language_of, lexicon


class SwappedPrompt(NamedTuple):
    """One text that speaks of the first group, and of the second."""

    first: str
    second: str
    continuation: str
    """What is scored after either; empty: what of the text stands behind the words of a group."""
    axis: str
    words: tuple[tuple[Span, ...], tuple[Span, ...]]
    """Where the words of a group stand in either text."""


class SwappedPrompts(ScoredAudit):
    """Which group makes what is said more probable.

    Args:
        path: a line per text, or jsonl with `text` and, if wanted, `continuation`.
        language: lexicon, or its file; None: what suits the texts.
        axes: of the lexicon; none named: all.
    """

    name = "prompts"
    about = "how probable the same words are of one group and of the other, in prompts of your own"
    caveat = (
        "words of two groups differ in more than the group (how frequent they are, what else they mean); read the pairs "
        "before you judge"
    )
    headline = ("preference", "rest")
    compares = (("size of the difference", "rest"),)
    better = {"size of the difference": False}

    def __init__(self, path: Path, language: str | None = None, axes: Sequence[str] = ()):
        self.path, self.language, self.chosen = path, language, tuple(axes)
        self.unclear: list[str] = []
        """Texts that speak of a group and could not be exchanged surely."""
        self._sides: dict[str, tuple[str, str]] = {}

    def read(self, path: Path) -> list[SwappedPrompt]:
        rows = _texts(path)
        if not rows:
            raise InputError(f"{path}: holds no text.")
        known = lexicon(self.language or language_of([text for text, _ in rows]))
        axes = [known.axis(each) for each in self.chosen] or list(known.axes.values())
        self._sides = {each.name: each.sides for each in axes}
        self.unclear, found = [], []
        for text, continuation in rows:
            for axis in axes:
                pair = _pair(axis, text, continuation)
                if isinstance(pair, SwappedPrompt):
                    found.append(pair)
                elif pair:
                    self.unclear.append(text)
        if not found:
            words = ", ".join(
                next((each.form for each in axis.rules if each.side == side and each.is_always), axis.rules[0].form)
                for axis in axes
                for side in (0, 1)
            )
            raise InputError(
                f"{path}: none of {len(rows):,} texts has words of exactly one group of {', '.join(each.name for each in axes)} "
                f"in the lexicon {known.language} (such as {words}); write texts with them, or name another with --lexicon."
            )
        return found

    def samples(self, data: Path, limit: int | None = None) -> list[SwappedPrompt]:
        return spread(self.read(self.path), limit)

    def texts(self, sample: SwappedPrompt) -> list[TextInContext]:
        if sample.continuation:
            return [TextInContext(each, sample.continuation) for each in sample[:2]]
        return [TextInContext("", each) for each in sample[:2]]

    def outcomes(
        self, samples: Sequence[SwappedPrompt], scores: Sequence[Sequence[ContinuationScore]]
    ) -> list[Outcomes]:
        bits = np.array([_difference(sample, each) for sample, each in zip(samples, scores, strict=True)])
        groups = [each.axis for each in samples]
        return [
            Outcomes("preference", "rest", 50.0 + 50.0 * np.sign(bits), groups, sides=("first", "second")),
            Outcomes("difference", "rest", bits, groups, None, 0.0, False, "bits", ("first", "second")),
            Outcomes("size of the difference", "rest", np.abs(bits), groups, None, None, False, "bits"),
        ]

    def figures(self, outcomes: Sequence[Outcomes], signed: Callable[[Outcomes], Signature]) -> list[AuditFigure]:
        """By axis, each with the names of its groups: of all axes together nothing could be said."""
        made = super().figures(outcomes, signed)
        return [replace(each, sides=self._sides[each.group]) for each in made if each.group in self._sides]


def _difference(sample: SwappedPrompt, scores: Sequence[ContinuationScore]) -> float:
    """By how many bits the same words are more probable after the first group's."""
    if sample.continuation:
        first, second = (each.log_probability for each in scores)
    else:
        first, second = (sum(rest) for rest, _ in apart(scores, sample.words))
    return (first - second) / np.log(2)


def _pair(axis: GroupAxis, text: str, continuation: str) -> SwappedPrompt | bool:
    """The pair; else whether the text speaks of a group."""
    sides = axis.sides_of(text)
    other = axis.exchanged(text)
    if other is None or min(sides) > 0 or other.text == text:
        return any(sides)
    here, there = (text, tuple(other.here)), (other.text, tuple(other.there))
    (first, words), (second, counterparts) = (here, there) if sides[0] else (there, here)
    return SwappedPrompt(first, second, continuation, axis.name, (words, counterparts))


def _texts(path: Path) -> list[tuple[str, str]]:
    if ".jsonl" not in path.name:
        return [(line, "") for line in read_lines(path) if line.strip()]
    found = []
    for row in read_rows(path):
        text, continuation = row.get("text", row.get("prompt")), row.get("continuation", "")
        _check(text, path, row, '"text"')
        _check(continuation or " ", path, row, '"continuation"')
        found.append((text, continuation))
    return found


def _check(value: Any, path: Path, row: dict[str, Any], name: str) -> None:
    if not isinstance(value, str) or not value:
        raise InputError(f"{path}, line {row['_line']}: {name} is {printable(str(value), 60)}, not a text.")

"""Who is spoken of in a corpus, how often, with what words and how well: what a model that learns from it will have read."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from wenloom.core.errors import InputError
from wenloom.evaluation.signature import Signature
from wenloom.fairness.audit import VERSION, AuditFigure, Outcomes
from wenloom.fairness.sentiment import by_lexicon
from wenloom.text.group_axis import GroupAxis
from wenloom.text.lexicon import Lexicon

_NEAR = 60
"""Characters on either side of a word of a group that are near it."""
_NEAR_UNSPACED = 12
_SHOWN = 12
_PRIOR = 0.1
_SURE = 1.96
"""z from which a word is said to be near one group more than near the other."""
_LEAST = 3
"""How often a word must be near either group to be compared."""


@dataclass
class _Count:
    """What was found of one axis."""

    words: list[int] = field(default_factory=lambda: [0, 0])
    documents: list[tuple[int, int]] = field(default_factory=list)
    """Of each document that speaks of either group: how many words of each."""
    near: tuple[Counter[str], Counter[str]] = field(default_factory=lambda: (Counter(), Counter()))
    sentiment: tuple[list[float], list[float]] = field(default_factory=lambda: ([], []))
    """Of what stands near, by document."""


@dataclass(frozen=True)
class NearWord:
    """A word that stands near one group more often than near the other."""

    word: str
    counts: tuple[int, int]
    z: float
    """Of its log-odds ratio; above 0 near the first group."""


@dataclass(frozen=True)
class Representation:
    """How a corpus speaks of the groups of one axis."""

    axis: str
    sides: tuple[str, str]
    words: tuple[int, int]
    """Words of each group."""
    documents: tuple[int, int, int]
    """Documents that speak of the first alone, of the second alone, of both."""
    near: tuple[list[NearWord], list[NearWord]]
    figures: list[AuditFigure]

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        first, second, both = self.documents
        return {
            "axis": self.axis, "sides": self.sides, "words": dict(zip(self.sides, self.words, strict=True)),
            "documents": {self.sides[0]: first, self.sides[1]: second, "both": both},
            "near": {side: [{"word": each.word, "counts": each.counts, "z": round(each.z, 2)} for each in words]
                     for side, words in zip(self.sides, self.near, strict=True)},
        }  # fmt: skip


def represented(
    texts: Iterable[str],
    lexicon: Lexicon,
    axes: Sequence[str] = (),
    on_documents: Callable[[int], None] = lambda n: None,
) -> list[Representation]:
    """Count who is spoken of.

    Args:
        axes: of the lexicon; none named: all.

    Raises:
        InputError: no text speaks of any group.
    """
    chosen = [lexicon.axis(each) for each in axes] or list(lexicon.axes.values())
    counts, n, judge = {each.name: _Count() for each in chosen}, 0, by_lexicon(lexicon)
    for text in texts:
        n += 1
        for axis in chosen:
            _count(counts[axis.name], axis, text, lexicon, judge.values)
        on_documents(1)
    found = [_made(axis, counts[axis.name], lexicon, n) for axis in chosen if counts[axis.name].documents]
    if not found:
        raise InputError(
            f"none of {n:,} documents has a word of {', '.join(each.name for each in chosen)} in the lexicon "
            f"{lexicon.language}; name another with --lexicon."
        )
    return found


def _count(
    count: _Count, axis: GroupAxis, text: str, lexicon: Lexicon, judge: Callable[[Sequence[str]], np.ndarray]
) -> None:
    words, spans = [0, 0], ([], [])
    width = _NEAR if lexicon.spaced else _NEAR_UNSPACED
    for each in axis.found(text):
        words[each.side] += 1
        around = f"{text[max(0, each.begin - width) : each.begin]} {text[each.end : each.end + width]}"
        spans[each.side].append(around)
    if not any(words):
        return
    count.documents.append((words[0], words[1]))
    for side in (0, 1):
        count.words[side] += words[side]
        for around in spans[side]:
            count.near[side].update(_words(around, lexicon.spaced))
        if spans[side]:
            count.sentiment[side].append(float(judge(spans[side]).mean()))


def _words(text: str, spaced: bool) -> list[str]:
    """Words of three letters and more, the cut ones at the edges left out; of scripts without blanks, pairs of characters."""
    if spaced:
        return re.findall(r"\b[^\W\d_]{3,}\b", text.partition(" ")[2].rpartition(" ")[0].casefold())
    runs = re.findall(r"[\u3040-\u30ff\u3400-\u9fff]{2,}", text)
    return [run[place : place + 2] for run in runs for place in range(len(run) - 1)]


def _made(axis: GroupAxis, count: _Count, lexicon: Lexicon, n: int) -> Representation:
    only = [sum(1 for each in count.documents if each[side] and not each[1 - side]) for side in (0, 1)]
    both = len(count.documents) - sum(only)
    signature = Signature.of("corpus.representation", lexicon=lexicon.language, n=n, version=VERSION)
    groups = [axis.name]
    figures = []
    if sum(only):
        share = Outcomes(
            "documents", "one group alone", np.repeat([100.0, 0.0], only), groups * sum(only), sides=axis.sides
        )
        figures.append(share.figure("corpus", axis.name, signature))
    sides = [[*values] for values in count.sentiment]
    for side, values in enumerate(sides):
        if len(values) > 1:  # of one document nothing could be said how sure it is
            mean = Outcomes("sentiment near", axis.sides[side], np.array(values), groups * len(values), unbiased=None,
                            is_share=False, unit="points")  # fmt: skip
            figures.append(mean.figure("corpus", axis.name, signature))
    own = {each.form.casefold() for each in axis.rules}
    if not lexicon.spaced:  # a pair of characters of which one is such a word says nothing new
        own = {pair for side in count.near for pair in side if any(form in pair for form in own)}
    near = _log_odds(count.near[0], count.near[1], own)
    return Representation(
        axis.name, axis.sides, (count.words[0], count.words[1]), (only[0], only[1], both),
        ([each for each in near if each.z > _SURE][:_SHOWN], [each for each in reversed(near) if each.z < -_SURE][:_SHOWN]), figures,
    )  # fmt: skip


def _log_odds(first: Counter[str], second: Counter[str], own: set[str]) -> list[NearWord]:
    """Words by z, the log-odds ratio of how often they are near one group and the other over its standard error, with all words near
    either group, at a tenth of their weight, as a prior (Monroe et al. 2008, eq. 15 to 22)."""
    prior = first + second
    n_first, n_second, n_prior = first.total(), second.total(), _PRIOR * prior.total()
    found = []
    for word, count in prior.items():
        if count < _LEAST or word in own:
            continue
        a, b = first[word] + _PRIOR * count, second[word] + _PRIOR * count
        odds = np.log(a / (n_first + n_prior - a)) - np.log(b / (n_second + n_prior - b))
        found.append(NearWord(word, (first[word], second[word]), float(odds / np.sqrt(1 / a + 1 / b))))
    return sorted(found, key=lambda each: -each.z)

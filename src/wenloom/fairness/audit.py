"""What an audit is: samples of a published file, what a model prefers in each, and figures by group with their intervals."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from wenloom.core.errors import InputError
from wenloom.evaluation.locate import files_in, found_below
from wenloom.evaluation.perplexity import data_hash
from wenloom.evaluation.scorer import ContinuationScore, Scorer, TextInContext, kind_field
from wenloom.evaluation.signature import Signature
from wenloom.evaluation.significance import Interval, interval

ALL = "all"
"""The group of every sample."""
VERSION = 1
LEAST = 10
"""Samples below which nothing is said to be preferred."""
_CHUNK = 256
_Z = 1.959963984540054
"""Of a 95 % interval."""


@dataclass(frozen=True)
class AuditFigure:
    """One value of one group."""

    suite: str
    measure: str
    convention: str
    """By what sentences are compared."""
    group: str
    value: float
    """Percent."""
    count: int | None
    """Samples that make it up, where the value is a share of them."""
    n: int
    """Samples."""
    low: float
    high: float
    """Bounds of its 95 % interval."""
    unbiased: float | None
    """The value of a model that prefers neither; None of a measure of quality, not of bias."""
    signature: Signature

    @property
    def verdict(self) -> str:
        """What the interval allows to say is preferred; empty of a measure of quality."""
        if self.unbiased is None:
            return ""
        if self.n < LEAST:
            return "too few"
        if self.low > self.unbiased:
            return "stereotype"
        return "opposite" if self.high < self.unbiased else "neither shown"

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        return {**asdict(self), "signature": str(self.signature), "verdict": self.verdict}


@dataclass(frozen=True)
class Outcomes:
    """What a model preferred, sample by sample, by one measure and convention."""

    measure: str
    convention: str
    values: np.ndarray
    """Percent, shape (n,)."""
    groups: Sequence[str]
    units: Sequence[str] | None = None
    """What each sample is about, where means are taken of these first."""
    unbiased: float | None = 50.0
    is_share: bool = True
    """Whether values are 0 or 100, so that samples can be counted."""

    def of(self, group: str) -> "Outcomes":
        """Those of a group."""
        chosen = [place for place, each in enumerate(self.groups) if group in (ALL, each)]
        units = None if self.units is None else [self.units[place] for place in chosen]
        return Outcomes(self.measure, self.convention, self.values[chosen], [self.groups[place] for place in chosen], units,
                        self.unbiased, self.is_share)  # fmt: skip

    @property
    def means(self) -> np.ndarray:
        """The values, or their means by unit, of which the figure is the mean."""
        if self.units is None:
            return self.values
        names, places = np.unique(np.asarray(self.units), return_inverse=True)
        return np.bincount(places, self.values) / np.bincount(places, minlength=len(names))

    def figure(self, suite: str, group: str, signature: Signature) -> AuditFigure:
        """Its mean with an interval."""
        n, count = len(self.values), int((self.values == 100).sum()) if self.is_share else None
        found = wilson(count, n) if count is not None and self.units is None else interval(self.means)
        return AuditFigure(suite, self.measure, self.convention, group, found.value, count, n, found.low, found.high,
                           self.unbiased, signature)  # fmt: skip


class Audit(ABC):
    """A published set of samples."""

    name: ClassVar[str]
    about: ClassVar[str]
    caveat: ClassVar[str]
    """What is known to be unreliable in it."""
    source: ClassVar[str]
    """Where its files can be had."""
    files: ClassVar[tuple[str, ...]]
    """Names of its file, or patterns."""
    headline: ClassVar[tuple[str, str]]
    """Measure and convention by which models are compared."""
    kinds: ClassVar[tuple[str, ...]] = ("causal", "masked")
    """Scorers that it can ask."""

    @abstractmethod
    def read(self, path: Path) -> list[Any]:
        """
        Raises:
            InputError: the file is not of this audit; it says which line.
        """

    @abstractmethod
    def texts(self, sample: Any) -> list[TextInContext]:
        """What is scored of a sample."""

    @abstractmethod
    def outcomes(self, samples: Sequence[Any], scores: Sequence[Sequence[ContinuationScore]]) -> list[Outcomes]:
        """What was preferred."""

    def figures(self, outcomes: Sequence[Outcomes], signed: Callable[[Outcomes], Signature]) -> list[AuditFigure]:
        """A figure of all samples and of each group, by every measure and convention."""
        return [
            part.figure(self.name, group, signed(part))
            for each in outcomes
            for group in groups_of(each)
            if len((part := each.of(group)).values)
        ]

    def located(self, data: Path) -> list[Path]:
        """Its files below a folder.

        Raises:
            InputError: none is there.
        """
        place = found_below(data, self.files)
        if place is None:
            raise InputError(
                f"{data}: no {' or '.join(self.files[:3])} below it. {self.name} is published at {self.source}; name the folder "
                "that holds it with --data."
            )
        return [path for path, _ in files_in(place)]


@dataclass(frozen=True)
class Audited:
    """What an audit found of a model."""

    audit: Audit
    figures: list[AuditFigure]
    compared: Outcomes
    """By which models are compared, sample by sample."""


def run_audit(
    audit: Audit,
    scorer: Scorer,
    data: Path,
    limit: int | None = None,
    on_samples: Callable[[int], None] = lambda n: None,
) -> Audited:
    """Ask a model every sample.

    Args:
        data: the folder below which the audit's files lie.
        limit: ask only so many samples, see `audit_samples`.

    Raises:
        InputError: a file is missing or damaged, a model that this audit cannot ask, or a score that is no number.
    """
    if scorer.kind not in audit.kinds:
        raise InputError(f"{audit.name} cannot be asked of this model: {_NEEDS[audit.kinds]}.")
    samples = audit_samples(audit, data, limit)
    scores: list[list[ContinuationScore]] = []
    for start in range(0, len(samples), _CHUNK):
        part = samples[start : start + _CHUNK]
        scores += scorer.continuations([audit.texts(sample) for sample in part])
        on_samples(len(part))
    if any(not np.isfinite(each.log_probability) for row in scores for each in row):
        raise InputError(f"{audit.name}: the model gives a probability that is no number; its weights are damaged.")
    found = audit.outcomes(samples, scores)
    digest = data_hash(repr(samples))

    def signed(outcomes: Outcomes) -> Signature:
        bos = scorer.opens(not audit.texts(samples[0])[0].context)
        return Signature.of(f"{audit.name}.{outcomes.measure}", convention=outcomes.convention, bos=bos, n=len(outcomes.values),
                            **kind_field(scorer), dtype=scorer.dtype, data=digest, version=VERSION)  # fmt: skip

    compared = next(each for each in found if (each.measure, each.convention) == audit.headline)
    return Audited(audit, audit.figures(found, signed), compared)


_NEEDS = {("causal",): "it asks questions, so it takes a model that goes on with its prompt",
          ("causal", "masked"): "it compares single texts, and a model with an encoder and a decoder reads pairs"}  # fmt: skip


def audit_samples(audit: Audit, data: Path, limit: int | None) -> list[Any]:
    """The samples of an audit's files; where there is a limit, so many, evenly spread over all.

    Raises:
        InputError: see `Audit.located` and `Audit.read`; files without any.
    """
    files = audit.located(data)
    samples = [sample for path in files for sample in audit.read(path)]
    if not samples:
        raise InputError(f"{files[0]}: holds no sample of {audit.name}.")
    if limit is None or limit >= len(samples):
        return samples
    return [samples[place * len(samples) // limit] for place in range(limit)]


def wilson(count: int, n: int) -> Interval:
    """A share of n in percent with Wilson's 95 % interval (1927), which holds for few samples and for none or all of them, too.

    >>> [round(each, 1) for each in wilson(0, 2)], [round(each, 1) for each in wilson(895, 1508)]
    ([0.0, 0.0, 65.8], [56.9, 59.4, 61.8])
    """
    share, shrunk = count / n, 1 + _Z**2 / n
    middle = (share + _Z**2 / (2 * n)) / shrunk
    half = _Z * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2)) / shrunk
    return Interval(100 * max(0.0, min(share, middle - half)), 100 * share, 100 * min(1.0, max(share, middle + half)))


def groups_of(outcomes: Outcomes) -> list[str]:
    """All, and those that there are."""
    named = sorted(set(outcomes.groups))
    return [ALL, *(named if named != [ALL] else [])]


def mean_log2(score: ContinuationScore) -> float:
    """Mean log2 P of the tokens of a text."""
    return score.log_probability / np.log(2) / max(1, len(score.log_probabilities))


def divided(
    one: ContinuationScore, other: ContinuationScore
) -> tuple[tuple[list[float], list[float]], tuple[list[float], list[float]]]:
    """log P of the tokens that two texts share, and of those in which they differ; of each text."""
    shared: tuple[list[int], list[int]] = [], []
    for begin, end, length in SequenceMatcher(
        None, one.token_ids, other.token_ids, autojunk=False
    ).get_matching_blocks():
        shared[0].extend(range(begin, begin + length))
        shared[1].extend(range(end, end + length))
    parts = []
    for score, same in zip((one, other), map(set, shared), strict=True):
        logs = score.log_probabilities
        parts.append(([log for place, log in enumerate(logs) if place in same],
                      [log for place, log in enumerate(logs) if place not in same]))  # fmt: skip
    return parts[0], parts[1]

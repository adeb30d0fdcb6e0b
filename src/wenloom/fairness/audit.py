"""What an audit is: samples, what a model does with each, and figures by group with their intervals."""

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from wenloom.core.errors import InputError
from wenloom.evaluation.locate import files_in, found_below
from wenloom.evaluation.signature import Signature
from wenloom.evaluation.significance import Interval, interval
from wenloom.evaluation.suite import MetricResult
from wenloom.fairness.audited_model import AskedModel

ALL = "all"
"""The group of every sample."""
VERSION = 1
LEAST = 10
"""Samples below which nothing is said to be preferred."""
STEREOTYPE = "stereotype", "opposite"
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
    """In `unit`."""
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
    unit: str = "%"
    sides: tuple[str, str] = STEREOTYPE
    """What is preferred above the unbiased value, and what below."""
    p: float | None = None
    """Of a test, where one belongs to the measure."""
    ties: int = 0
    """Samples in which nothing is preferred, where the value counts them as one side's."""
    judged: tuple[float, float] | None = None
    """Bounds of the interval in which these count half for either side: the verdict's, where there are some."""

    @property
    def verdict(self) -> str:
        """What the interval allows to say is preferred; empty of a measure of quality."""
        if self.unbiased is None:
            return ""
        if self.n < LEAST:
            return "too few"
        low, high = self.judged or (self.low, self.high)
        if low > self.unbiased:
            return self.sides[0]
        return self.sides[1] if high < self.unbiased else "neither shown"

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        return {**asdict(self), "signature": str(self.signature), "verdict": self.verdict}


@dataclass(frozen=True)
class Outcomes:
    """What a model preferred, sample by sample, by one measure and convention."""

    measure: str
    convention: str
    values: np.ndarray
    """In `unit`, shape (n,)."""
    groups: Sequence[str]
    units: Sequence[str] | None = None
    """What each sample is about, where means are taken of these first."""
    unbiased: float | None = 50.0
    is_share: bool = True
    """Whether values are 0 or 100, or 50 for half a sample, so that samples can be counted."""
    unit: str = "%"
    sides: tuple[str, str] = STEREOTYPE
    """See `AuditFigure`."""
    ties: np.ndarray | None = None
    """Where a share counts a sample in which nothing is preferred as one side's: which these are, shape (n,)."""

    def of(self, group: str) -> "Outcomes":
        """Those of a group."""
        chosen = [place for place, each in enumerate(self.groups) if group in (ALL, each)]
        units = None if self.units is None else [self.units[place] for place in chosen]
        ties = None if self.ties is None else self.ties[chosen]
        groups = [self.groups[place] for place in chosen]
        return replace(self, values=self.values[chosen], groups=groups, units=units, ties=ties)

    @property
    def means(self) -> np.ndarray:
        """The values, or their means by unit, of which the figure is the mean."""
        if self.units is None:
            return self.values
        names, places = np.unique(np.asarray(self.units), return_inverse=True)
        return np.bincount(places, self.values) / np.bincount(places, minlength=len(names))

    def figure(self, suite: str, group: str, signature: Signature) -> AuditFigure:
        """Its mean with an interval."""
        n, found, judged = len(self.values), self._interval(), None
        count = int(float(self.values.sum()) / 100) if self.is_share else None  # whole samples
        ties = 0 if self.ties is None else int(self.ties.sum())
        if self.ties is not None and ties:
            halves = replace(self, values=np.where(self.ties, 50.0, self.values))._interval()
            judged = halves.low, halves.high
        return AuditFigure(suite, self.measure, self.convention, group, found.value, count, n, found.low, found.high,
                           self.unbiased, signature, self.unit, self.sides, ties=ties, judged=judged)  # fmt: skip

    def _interval(self) -> Interval:
        if self.is_share and self.units is None:
            return wilson(float(self.values.sum()) / 100, len(self.values))
        return interval(self.means)


class Audit(ABC):
    """A question that is asked of models."""

    name: str
    about: ClassVar[str]
    caveat: ClassVar[str]
    """What is known to be unreliable in it."""
    source: ClassVar[str] = ""
    """Where its files can be had."""
    files: ClassVar[tuple[str, ...]] = ()
    """Names of its file, or patterns; none where it has samples of its own."""
    headline: tuple[str, str]
    """Measure and convention that are shown by group."""
    compares: ClassVar[tuple[tuple[str, str], ...]] = ()
    """Further ones by which models are compared."""
    better: ClassVar[dict[str, bool]] = {}
    """Its measures of quality, and whether more is better."""

    @abstractmethod
    def samples(self, data: Path, limit: int | None = None) -> list[Any]:
        """What is asked; where there is a limit, so many, evenly spread over all.

        Raises:
            InputError: files that are missing or damaged, or without any sample.
        """

    @abstractmethod
    def why_not(self, model: AskedModel) -> str | None:
        """Why it cannot be asked of a model; None where it can."""

    @abstractmethod
    def ask(self, model: AskedModel, data: Path, limit: int | None, on_samples: Callable[[int], None]) -> "Audited":
        """See `run`; the model can be asked."""

    def run(
        self,
        model: AskedModel,
        data: Path,
        limit: int | None = None,
        on_samples: Callable[[int], None] = lambda n: None,
    ) -> "Audited":
        """Ask a model every sample.

        Args:
            data: the folder below which the audit's files lie.
            limit: see `samples`.

        Raises:
            InputError: see `samples`; a model that cannot be asked, or a score that is no number.
        """
        if why := self.why_not(model):
            raise InputError(f"{self.name} cannot be asked of this model: {why}.")
        began = time.monotonic()
        return replace(self.ask(model, data, limit, on_samples), seconds=time.monotonic() - began)

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

    def is_below(self, data: Path) -> bool:
        """Whether its files lie below a folder."""
        return bool(self.files) and found_below(data, self.files) is not None


@dataclass(frozen=True)
class Audited:
    """What an audit found of a model."""

    audit: Audit
    figures: list[AuditFigure]
    compared: tuple[Outcomes, ...] = ()
    """By which models are compared, sample by sample; the first is the headline. Empty where there is nothing to pair."""
    examples: list["Example"] = field(default_factory=list)
    """One for each sample of what is compared, where texts can show it."""
    note: str = ""
    """What is to be minded of this kind of model."""
    seconds: float | None = None
    """How long the model was asked, where it was."""

    @property
    def caveat(self) -> str:
        """That of the audit, and of this kind of model."""
        return "; ".join(each for each in (self.audit.caveat, self.note) if each)

    def results(self) -> list[MetricResult]:
        """The figures as the results store keeps them: those that have a best value, which of preferences is the even one."""
        better = self.audit.better
        return [
            MetricResult(
                "bias", each.suite, f"{each.measure} ({each.convention}){'' if each.group == ALL else f', {each.group}'}",
                each.value, each.low, each.high, each.n, each.signature, better.get(each.measure, True),
                each.group == ALL and (each.measure, each.convention) == self.audit.headline,
                {"count": each.count, "verdict": each.verdict, "unit": each.unit}, each.unbiased,
            )
            for each in self.figures
            if each.unbiased is not None or each.measure in better
        ]  # fmt: skip


@dataclass(frozen=True)
class Example:
    """What a model made of one sample, for people."""

    group: str
    texts: tuple[str, ...]
    """What stood against each other, or what was written."""
    value: float
    """What it counted."""


def spread(samples: Sequence[Any], limit: int | None) -> list[Any]:
    """So many of the samples, evenly spread; all without a limit.

    >>> spread("abcdef", 3)
    ['a', 'c', 'e']
    """
    if limit is None or limit >= len(samples):
        return list(samples)
    return [samples[place * len(samples) // limit] for place in range(limit)]


def wilson(count: float, n: int) -> Interval:
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

"""How sure is a figure? Bootstrap intervals, and paired tests of two systems on the same samples."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from wenloom.core.errors import InputError


class Interval(NamedTuple):
    """A value between the bounds of its 95 % interval."""

    low: float
    value: float
    high: float

    def overlaps(self, other: "Interval") -> bool:
        """Whether the two share a value: then neither is said to be better."""
        return self.low <= other.high and other.low <= self.high


class Paired(NamedTuple):
    """Two systems on the same samples."""

    difference: float
    """Mean of second - first."""
    low: float
    high: float
    """Bounds of its 95 % interval."""
    p: float
    """Probability of a difference at least as large if the systems were alike (two-sided)."""


def interval(values: np.ndarray, samples: int = 1000, seed: int = 12345) -> Interval:
    """The mean and its 95 % bootstrap interval (Efron 1979), percentiles of resampled means.

    Raises:
        InputError: no values, or some that are not finite.
    """
    values = _finite(values)
    means = _resampled_means(values, samples, seed)
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(float(low), float(values.mean()), float(high))


def paired(first: np.ndarray, second: np.ndarray, samples: int = 10_000, seed: int = 12345) -> Paired:
    """A paired bootstrap interval of the difference, and an approximate randomization test (Riezler and Maxwell 2005).

    Raises:
        InputError: different lengths, no values, or some that are not finite.
    """
    if len(first) != len(second):
        raise InputError(f"a paired test needs the same samples: there are {len(first):,} and {len(second):,}.")
    gaps = _finite(np.asarray(second, float) - np.asarray(first, float))
    low, high = np.quantile(_resampled_means(gaps, samples, seed), [0.025, 0.975])
    # swapping the systems at random turns signs; equal samples do not matter
    moved = gaps[gaps != 0]
    draw = np.random.default_rng(seed)
    observed, as_large = abs(moved.sum()), 0
    for begin in range(0, samples, 200):
        signs = draw.integers(0, 2, (min(200, samples - begin), len(moved)), dtype=np.int8) * 2 - 1
        as_large += int((np.abs(signs @ moved) >= observed - 1e-12 * max(1.0, observed)).sum())
    return Paired(float(gaps.mean()), float(low), float(high), (as_large + 1) / (samples + 1))


def mcnemar(first: np.ndarray, second: np.ndarray) -> float:
    """The exact two-sided p of two systems whose samples are right or wrong (McNemar 1947): of the samples that only one
    of them has right, as many should fall to either, so their number is binomial with probability 1/2.

    >>> mcnemar(np.array([1, 1, 0, 0, 0, 0]), np.array([0, 1, 1, 1, 1, 1]))
    0.375
    """
    only_first, only_second = int((first > second).sum()), int((first < second).sum())
    n, fewer = only_first + only_second, min(only_first, only_second)
    logs = [
        math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) - n * math.log(2) for k in range(fewer + 1)
    ]
    return round(min(1.0, 2 * math.fsum(map(math.exp, logs))), 12)


def holm(ps: Sequence[float]) -> list[float]:
    """p of several tests, adjusted so that a wrong finding among all is as rare as in one (Holm 1979).

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    adjusted, largest = [0.0] * len(ps), 0.0
    for rank, place in enumerate(sorted(range(len(ps)), key=ps.__getitem__)):
        largest = max(largest, min(1.0, (len(ps) - rank) * ps[place]))
        adjusted[place] = largest
    return adjusted


def _resampled_means(values: np.ndarray, samples: int, seed: int) -> np.ndarray:
    draw, n = np.random.default_rng(seed), len(values)
    distinct, counts = np.unique(values, return_counts=True)
    if len(distinct) <= 64:  # right or wrong: a resample is a draw of how often each value comes
        return draw.multinomial(n, counts / n, samples) @ distinct / n
    return np.array([values[draw.integers(0, n, n)].mean() for _ in range(samples)])


def _finite(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values, float)
    if not len(values):
        raise InputError("there are no samples to score.")
    if not np.isfinite(values).all():
        place = int(np.flatnonzero(~np.isfinite(values))[0])
        raise InputError(f"the score of sample {place + 1:,} is {values[place]}, not a number that can be averaged.")
    return values

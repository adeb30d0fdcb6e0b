"""Rounds that noise can not fool: every contestant in a process of its own, in turn, beside what the machine can do then.

A machine that is shared is slow for a minute and fast for the next. So contestants take turns, in rounds that run forwards
and backwards; with each figure stand the peaks of matrix products and of memory of the same minute; a figure that those
peaks forbid (or that is not positive) is thrown away and measured again; and rounds are added while what they say scatters
by more than 15 %. What scatters even then is marked and gives no ratio. Ratios are taken round by round, so that an hour
that is slow for all is slow on both sides of the division.
"""

import json
import math
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROUNDS, MOST_ROUNDS = 5, 9
SCATTER = 0.15
"""Of what rounds say, as a part of their median: more rounds are run while all of them spread wider, and a figure is no result
where even the middle half of them does."""
_ABOVE_PEAK = 1.1
"""A peak is itself measured, with a tenth of doubt."""


class Peaks(NamedTuple):
    """What the machine does at its best in this minute."""

    flops: float
    """A second, of a matrix product in bfloat16."""
    bytes: float
    """A second, read from memory."""


class Need(NamedTuple):
    """The least that one unit of a figure (such as a token) takes, whoever computes it."""

    flops: float = 0.0
    bytes: float = 0.0


class Round(NamedTuple):
    """What a contestant's process measured."""

    figures: dict[str, float]
    """Rates: units a second, more is better."""
    peaks: Peaks
    more: dict[str, Any]
    """What is no rate: tokens to compare, times to be ready."""


class Spread(NamedTuple):
    """What rounds said of one figure."""

    median: float
    least: float
    greatest: float
    n: int
    is_steady: bool
    """Whether the middle half of the rounds lies within 15 % of the median."""

    def __str__(self) -> str:
        """
        >>> str(spread([100.0, 102.0, 98.0, 101.0, 99.0])), str(spread([1.0, 2.0, 3.0, 4.0])), str(spread([3.0]))
        ('100 (98.0 to 102)', 'unsteady: 1.00 to 4.00', '3.00 (one round)')
        """
        if self.n == 1:
            return f"{_short(self.median)} (one round)"
        low, high = _short(self.least), _short(self.greatest)
        return f"{_short(self.median)} ({low} to {high})" if self.is_steady else f"unsteady: {low} to {high}"


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.{1 if value >= 10 else 2}f}"


def spread(values: Sequence[float]) -> Spread:
    """Median and range; rounds are few, so the middle half is between the medians of their halves."""
    ordered = sorted(values)
    median, half = statistics.median(ordered), (len(ordered) + 1) // 2
    low, high = statistics.median(ordered[:half]), statistics.median(ordered[-half:])
    return Spread(median, ordered[0], ordered[-1], len(ordered), len(ordered) > 1 and high - low <= SCATTER * median)


def measured_peaks() -> Peaks:
    """Of this minute, with the threads that PyTorch uses."""
    import torch

    from wenloom.core.hardware import matmul_peak

    data = torch.ones(2**27)
    data.sum()
    return Peaks(matmul_peak("cpu", torch.bfloat16), data.nbytes / min(seconds_of(data.sum) for _ in range(5)))


def seconds_of(task: Callable[[], object]) -> float:
    """Wall time."""
    started = time.perf_counter()
    task()
    return time.perf_counter() - started


def cache_bytes() -> int:
    """Of the largest cache of the first core; weights that fit into it are not read from memory. 0 where nobody tells."""
    sizes = [0]
    for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        number = path.read_text().strip()
        sizes.append(int(number[:-1]) * {"K": 2**10, "M": 2**20}.get(number[-1], 1))
    return max(sizes)


def report_round(measure: Callable[[], tuple[dict[str, float], dict[str, Any]]]) -> None:
    """Print, in a contestant's own process, what it measured, with the peaks before and after it."""
    before = measured_peaks()
    figures, more = measure()
    after = measured_peaks()
    peaks = [max(pair) for pair in zip(before, after, strict=True)]
    print(json.dumps({"figures": figures, "peaks": peaks, "more": more}))


def in_own_process(arguments: Sequence[str], threads: int | None = None) -> Round | None:
    """One round in a fresh interpreter; None where the contestant does not run here, which is said.

    Args:
        arguments: of a Python script that ends with `report_round`.
    """
    environment = dict(os.environ) | ({} if threads is None else {"OMP_NUM_THREADS": str(threads)})
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=environment)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no word"])[-1][:150]
        print(f"  {' '.join(arguments[1:])}: does not run here ({reason})", flush=True)
        return None
    found = json.loads(done.stdout.strip().splitlines()[-1])
    return Round(found["figures"], Peaks(*found["peaks"]), found["more"])


def why_impossible(rate: float, need: Need, peaks: Peaks) -> str | None:
    """What forbids a figure; None where nothing does.

    >>> why_impossible(-29.0, Need(), Peaks(1e12, 4e10)), why_impossible(100.0, Need(bytes=1e9), Peaks(1e12, 4e10))
    ('is not positive', 'would read 100 GB/s of 40')
    """
    if not (math.isfinite(rate) and rate > 0):
        return "is not positive"
    if rate * need.flops > _ABOVE_PEAK * peaks.flops:
        return f"would do {rate * need.flops / 1e9:,.0f} GFLOP/s of {peaks.flops / 1e9:,.0f}"
    if rate * need.bytes > _ABOVE_PEAK * peaks.bytes:
        return f"would read {rate * need.bytes / 1e9:,.0f} GB/s of {peaks.bytes / 1e9:,.0f}"
    return None


class Tournament:
    """Rounds of contestants that take turns.

    Args:
        measure: answers with what a contestant's process measured, None where it does not run.
        need: what a unit of a contestant's figure takes at least.
    """

    def __init__(
        self,
        contestants: Iterable[str],
        measure: Callable[[str], Round | None],
        need: Callable[[str, str], Need] = lambda _contestant, _figure: Need(),
    ):
        self._measure, self._need = measure, need
        self.rounds: dict[str, list[Round]] = {each: [] for each in contestants}
        """By contestant, those whose figures are all possible."""
        self.thrown_away: list[str] = []
        """Figures that physics forbids, in words."""

    def run(self, least: int = ROUNDS, most: int = MOST_ROUNDS) -> "Tournament":
        """At least so many rounds, more while they scatter; who stops them keeps those that ended."""
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            for number in range(max(least, most)):
                if number >= least and self._is_narrow():
                    break
                names = list(self.rounds)
                for name in names[:: 1 if number % 2 == 0 else -1]:
                    self._one(name)
        except KeyboardInterrupt:
            print("  stopped: the figures are those of the rounds that ended", flush=True)
        finally:
            signal.signal(signal.SIGTERM, before)
        return self

    def _one(self, name: str) -> None:
        for _ in range(2):
            found = self._measure(name)
            if found is None:
                del self.rounds[name]
                return
            reasons = [
                f"{name}, {figure}: {rate:,.4g} a second {reason}"
                for figure, rate in found.figures.items()
                if (reason := why_impossible(rate, self._need(name, figure), found.peaks))
            ]
            if not reasons:
                self.rounds[name].append(found)
                return
            self.thrown_away += reasons
            print("\n".join(f"  thrown away: {reason}" for reason in reasons), flush=True)

    def _is_narrow(self) -> bool:
        spreads = [each for of_one in self.figures().values() for each in of_one.values()]
        return all(each.greatest - each.least <= SCATTER * each.median for each in spreads)

    def figures(self) -> dict[str, dict[str, Spread]]:
        """By contestant and figure."""
        return {
            name: {figure: spread([each.figures[figure] for each in rounds]) for figure in rounds[0].figures}
            for name, rounds in self.rounds.items()
            if rounds
        }

    def peaks(self) -> dict[str, Spread]:
        """What the machine could do meanwhile."""
        every = [each.peaks for rounds in self.rounds.values() for each in rounds]
        return {name: spread([getattr(each, name) for each in every]) for name in Peaks._fields} if every else {}

    def ratio(self, figure: str, ours: str, peer: str, other: str | None = None) -> Spread | None:
        """Our figure to the peer's, round by round; None where one of them has none.

        Args:
            other: what the peer calls the figure, if otherwise.
        """
        pairs = zip(self.rounds.get(ours, ()), self.rounds.get(peer, ()), strict=False)
        rates = [(a.figures.get(figure), b.figures.get(other or figure)) for a, b in pairs]
        ratios = [a / b for a, b in rates if a is not None and b is not None]
        return spread(ratios) if ratios else None

    def best(self, figure: str, names: Iterable[str]) -> str | None:
        """Which of the contestants has the greatest median."""
        found = self.figures()
        return max(
            (name for name in names if figure in found.get(name, {})),
            key=lambda name: found[name][figure].median,
            default=None,
        )

    def more(self, name: str) -> Mapping[str, Any]:
        """Of the contestant's first round."""
        rounds = self.rounds.get(name)
        return rounds[0].more if rounds else {}

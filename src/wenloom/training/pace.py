"""How long a run goes on: its steps, where in the schedule each stands, and how a budget of time is kept.

The steps of a budget are known for certain only when they are done: the machine has other work, rows differ in length. So
the number of steps is put right while the run goes on. The schedule of the learning rate is not cut off by that: what is
left of it is walked in the steps that are left, so that it always comes to its end. What was decided stands in the lines of
metrics.jsonl (`of_steps`) and in every checkpoint; a run that is resumed repeats it and decides nothing anew.
"""

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

from wenloom.core.quantities import parse_duration
from wenloom.training.settings import Schedule, TrainSettings

SAMPLES_SHARE = 0.015
"""Part of the time that the samples of one evaluation may cost."""
_LEAST_SAMPLES = 0.3
"""Seconds that they have however short the time is: some tokens, so that there is something to read."""
EVALUATION_SHARE = 0.1
"""Part of the time that evaluations may cost, unless their number is asked for."""
LEAST_STEPS = 20
"""For which a step gets smaller, where a budget is short for the model."""
_DECISIONS = 50
"""How often the length of a run is put right, about."""
_REMEMBERED = 8
"""Decisions over which the speed is averaged."""
_WORTH_IT = 0.01
"""Part of the steps left from which their number is changed."""


def deadline(training: TrainSettings, started: float) -> float | None:
    """When a command that began at `started` is to have ended; None without a budget."""
    return None if training.budget is None else started + parse_duration(training.budget, "--budget")


@dataclass(frozen=True)
class Course:
    """The steps of a run, and their places in a schedule that was laid out for `planned` of them."""

    n_steps: int
    """Steps that the run ends with."""
    planned: int
    """Steps that the schedule was laid out for."""
    checks: tuple[float, ...]
    """Places in the schedule after which the validation data is scored, ascending; the last is its end."""
    since: int = 0
    """The step from which this holds."""
    place: float = 0.0
    """Where in the schedule that step stands."""

    @classmethod
    def laid_out(cls, n_steps: int, n_evaluations: int) -> "Course":
        """A whole run, with evaluations evenly spread.

        >>> sorted(Course.laid_out(10, 4).evaluate_at())
        [3, 5, 8, 10]
        """
        return cls(n_steps, n_steps, tuple(n_steps * part / n_evaluations for part in range(1, n_evaluations + 1)))

    def at(self, step: int) -> float:
        """The place in the schedule after so many steps."""
        if step >= self.n_steps:
            return float(self.planned)
        return self.place + (step - self.since) * (self.planned - self.place) / (self.n_steps - self.since)

    def evaluate_at(self) -> frozenset[int]:
        """Steps after which the validation data is scored."""
        per_place = (self.n_steps - self.since) / max(self.planned - self.place, 1e-9)
        steps = (self.since + math.ceil((check - self.place) * per_place - 1e-9) for check in self.checks)
        return frozenset(max(1, min(self.n_steps, step)) for step in steps)

    def falls_from(self, schedule: Schedule, decay: float) -> int | None:
        """The first step after which wsd's learning rate falls; None for schedules that have no stable part.

        Args:
            decay: part of the steps over which it falls.

        >>> Course.laid_out(10, 1).falls_from("wsd", 0.3), Course.laid_out(10, 1).falls_from("linear", 0.3)
        (7, None)
        """
        if schedule != "wsd":
            return None
        place = self.planned - round(decay * self.planned)
        if place <= self.place:
            return self.since
        per_place = (self.n_steps - self.since) / (self.planned - self.place)
        return self.since + math.ceil((place - self.place) * per_place - 1e-9)

    def prolonged(self, step: int, more: "Course", falls_from: int | None) -> "Course":
        """The same run, continued from a step on.

        From its end the learning rate rises and falls anew; from the stable part of wsd it stays stable for as long as
        a run of that length has it; elsewhere what is left of the schedule is walked in the steps that are to come.

        Args:
            more: the steps to come, laid out from 0.
            falls_from: see the method of this name.

        >>> run = Course.laid_out(10, 1)
        >>> [run.prolonged(step, Course.laid_out(20, 1), falls_from=7).planned for step in (10, 7, 8)]
        [20, 27, 10]
        """
        n_steps = step + more.n_steps
        if step >= self.n_steps:
            return replace(more, n_steps=n_steps, since=step)
        if falls_from is not None and step <= falls_from:
            return Course(n_steps, n_steps, tuple(step + check for check in more.checks), step, step)
        return replace(self, checks=tuple(self._left_at(step, more))).turned(step, n_steps)

    def _left_at(self, step: int, more: "Course") -> list[float]:
        """Places of the checks of another course, spread over what is left of this one."""
        place = self.at(step)
        return [place + check / more.planned * (self.planned - place) for check in more.checks]

    def turned(self, step: int, n_steps: int, n_evaluations: int | None = None) -> "Course":
        """The same run with another end, decided after a step: what is left of the schedule, in the steps left.

        Args:
            n_evaluations: how many of those to come are kept, the last among them; None: all.

        >>> Course.laid_out(100, 4).turned(50, 75).at(75), Course.laid_out(100, 4).turned(50, 75, 1).evaluate_at()
        (100.0, frozenset({75}))
        """
        place = min(self.at(step), float(self.planned))
        left = [check for check in self.checks if check > place] or [float(self.planned)]
        count = min(n_evaluations or len(left), len(left))
        kept = tuple(left[number * len(left) // count - 1] for number in range(1, count + 1))
        return replace(self, n_steps=max(step, n_steps), checks=kept, since=step, place=place)


class Pace:
    """How fast a run goes, and what follows for its length.

    Args:
        step_seconds, evaluation_seconds: by the measurements before the run.
        deadline: when the command is to have ended, by the clock; None where no budget was given.
        closing: seconds that what comes after the last evaluation takes.
        work: what the first steps cost together, in average steps; it never falls.
        clock: seconds that pass.
        all_are_due: whether so many evaluations were asked for; else only the next and the last are certain.
    """

    def __init__(
        self,
        step_seconds: float,
        evaluation_seconds: float,
        deadline: float | None = None,
        closing: float = 0.0,
        work: Callable[[int], float] = float,
        clock: Callable[[], float] = time.monotonic,
        all_are_due: bool = False,
    ):
        self.deadline, self._closing, self._work, self.clock = deadline, closing, work, clock
        self._step_seconds, self._evaluation_seconds = step_seconds, evaluation_seconds
        self._beside = 0.0
        self._for_evaluations = EVALUATION_SHARE * max(0.0, (deadline or 0.0) - closing - clock())
        self._all_are_due = all_are_due
        self._for_samples = SAMPLES_SHARE / EVALUATION_SHARE * self._for_evaluations
        self._marks: deque[tuple[int, float]] = deque(maxlen=_REMEMBERED)

    def mark(self, step: int) -> None:
        """Look at the clock after a step."""
        self._marks.append((step, self.clock() - self._beside))
        (first, began), (last, ended) = self._marks[0], self._marks[-1]
        if last > first:
            self._step_seconds = (ended - began) / max(self._work(last) - self._work(first), 1e-9)

    def evaluated(self, seconds: float) -> None:
        """Take note of what an evaluation took, with all that belongs to it."""
        self._evaluation_seconds = seconds
        self._beside += seconds
        self._for_evaluations -= seconds

    def for_evaluation(self, course: Course, step: int) -> float | None:
        """Seconds that the evaluation after this step may take so that it and those to come cost no more than their share;
        None without a budget."""
        if self.deadline is None:
            return None
        to_come = sum(each > step for each in course.evaluate_at())
        return max(0.0, self._for_evaluations / (1 + (to_come if self._all_are_due else min(1, to_come))))

    def expect_samples(self) -> None:
        """Count, until an evaluation has told better, the time that its samples may take."""
        if self.deadline is not None:
            self._evaluation_seconds += max(_LEAST_SAMPLES, self._for_samples)

    def samples_until(self) -> float | None:
        """When the samples that are written from now on are to have ended, by the clock; None without a budget."""
        if self.deadline is None:
            return None
        now = self.clock()
        return now + max(_LEAST_SAMPLES, min(self._for_samples, self.deadline - self._closing - now))

    def left(self, course: Course, step: int) -> float:
        """Seconds to the end of the command."""
        if self.deadline is not None:
            return max(0.0, self.deadline - self.clock())
        to_come = sum(each > step for each in course.evaluate_at())
        steps = self._work(course.n_steps) - self._work(step)
        return steps * self._step_seconds + to_come * self._evaluation_seconds + self._closing

    def is_time(self, course: Course, step: int) -> bool:
        """Whether the length of the run is to be looked at after this step: the same steps in every process."""
        is_between = 0 < step < course.n_steps and step % max(1, course.planned // _DECISIONS) == 0
        return self.deadline is not None and is_between

    def decided(self, course: Course, step: int) -> tuple[int, int] | None:
        """Steps that the run should end with, and how many evaluations are to come; None where that stays as it is."""
        assert self.deadline is not None
        left = self.deadline - self.clock() - self._closing
        to_come = [each for each in course.evaluate_at() if each > step]
        n_evaluations, cost = len(to_come), self._evaluation_seconds
        if n_evaluations * cost > self._for_evaluations:
            n_evaluations = min(n_evaluations, max(1, int(self._for_evaluations / cost)))
        n_steps = step + self._fitting(step, (left - n_evaluations * cost) / self._step_seconds)
        if abs(n_steps - course.n_steps) <= _WORTH_IT * (course.n_steps - step):
            n_steps = course.n_steps
        return None if (n_steps, n_evaluations) == (course.n_steps, len(to_come)) else (n_steps, n_evaluations)

    def _fitting(self, step: int, work: float) -> int:
        """The most steps after this one that cost no more."""
        most = self._work(step) + work
        low, high = 0, 1
        while self._work(step + high) <= most:
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._work(step + middle) <= most else (low, middle)
        return low

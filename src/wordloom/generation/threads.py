"""How many threads a step takes, while other processes use the machine too."""

import time
from types import TracebackType


class ThreadChoice:
    """All threads, or one fewer while something else keeps a core busy.

    Threads wait for each other many times a step, so that one which shares its core holds up all. Which number is
    faster is found by trying: a few steps with the other number now and then, ever less often while that loses, and
    at once when steps become slower than they were.

    ```python
    with choice as number:
        step(threads=number)
    ```

    Args:
        most: all threads.
        trial: steps of a trial, unless it is hopeless at once.
        first: steps before the first trial.
    """

    _LONGEST = 1024
    """Most steps between two trials."""

    def __init__(self, most: int, trial: int = 4, first: int = 8):
        self._numbers, self._now = (most, max(1, most - 1)), 0
        self._trial_steps, self._first = trial, first
        self._mean: float | None = None
        """Seconds of a step of late, without trials."""
        self._best = float("inf")
        """The lowest that this mean was since the last trial."""
        self._interval = self._left = first
        self._trial: list[float] | None = None
        self._started = 0.0

    def __enter__(self) -> int:
        self._started = time.perf_counter()
        return self._numbers[self._now if self._trial is None else 1 - self._now]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None and self._numbers[0] != self._numbers[1]:
            self.took(time.perf_counter() - self._started)

    def took(self, seconds: float) -> None:
        """Learn from a step that took so many seconds."""
        if self._trial is None:
            self._mean = seconds if self._mean is None else 0.8 * self._mean + 0.2 * seconds
            self._best = min(self._best, self._mean)
            self._left -= 1
            if self._left <= 0 or self._mean > 1.3 * self._best:
                self._trial = []
            return
        self._trial.append(seconds)
        other = sum(self._trial) / len(self._trial)
        hopeless = self._mean is not None and other > 1.2 * self._mean
        if len(self._trial) < self._trial_steps and not hopeless:
            return
        if self._mean is not None and other < 0.95 * self._mean:
            self._now, self._mean, self._interval = 1 - self._now, other, self._first
        else:
            self._interval = min(2 * self._interval, self._LONGEST)
        self._best, self._left, self._trial = self._mean or other, self._interval, None

"""How many threads a step takes, while other processes use the machine too."""

import os
import time
from pathlib import Path
from types import TracebackType

_STAT = Path("/proc/stat")


class Cores:
    """How many of the cores that this process may use the others leave to it."""

    def __init__(self):
        self._then = self._now()
        self._free = float("inf")

    def free(self) -> float:
        """Mean since it was asked last, or since it was made; infinity while unknown."""
        now = self._now()
        if now is None or self._then is None:
            return self._free
        seconds, idle, own = (b - a for a, b in zip(self._then, now, strict=True))
        if seconds > 0.1:  # the system counts in hundredths of a second
            self._then, self._free = now, (idle + own) / seconds
        return self._free

    def _now(self) -> tuple[float, float, float] | None:
        """Seconds of the clock, of idle cores, and of this process; None where nobody tells."""
        try:
            mine = {f"cpu{number}" for number in os.sched_getaffinity(0)}
            lines = (line.split() for line in _STAT.read_text().splitlines())
            idle = sum(int(fields[4]) + int(fields[5]) for fields in lines if fields[0] in mine)
        except (AttributeError, OSError):
            return None
        return time.perf_counter(), idle / os.sysconf("SC_CLK_TCK"), time.process_time()


_CORES = Cores()


class ThreadChoice:
    """All threads, or one fewer while something else keeps a core busy.

    Threads wait for each other many times a step, so that one which shares its core holds up all. Which number is
    faster is found by trying: a few steps with the other number now and then, ever less often while that loses, and
    at once when steps become slower than they were. It begins with what fits the cores that are free.

    ```python
    with choice as number:
        step(threads=number)
    ```

    Args:
        most: all threads.
        trial: steps of a trial, unless it is hopeless at once.
        first: steps before the first trial.
        cores: tells how many are free.
    """

    _LONGEST = 1024
    """Most steps between two trials."""

    def __init__(self, most: int, trial: int = 4, first: int = 8, cores: Cores = _CORES):
        self._numbers, self._now = (most, max(1, most - 1)), int(cores.free() < most - 0.5)
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


class ThreadChoices:
    """A choice for every size of a step, by its number of tokens (a power of two); arguments as `ThreadChoice`'s."""

    def __init__(self, most: int, trial: int = 4, first: int = 8):
        self._arguments = most, trial, first
        self._by_size: dict[int, ThreadChoice] = {}

    def of(self, n_tokens: int) -> ThreadChoice:
        """That of steps of so many tokens."""
        size = n_tokens.bit_length()
        if size not in self._by_size:
            self._by_size[size] = ThreadChoice(*self._arguments)
        return self._by_size[size]

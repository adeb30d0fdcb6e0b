"""How many threads a step takes, while other processes use the machine too."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import torch

from wenloom.core.console import remark

_STAT = Path("/proc/stat")
_STEPS_OF_A_LOSS = 10
"""A trial that loses comes again after as many steps as make it a tenth of their time."""
FIXED_BY = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""Variables by which a user fixes the number of threads."""


class Cores:
    """How many of the cores that this process may use the others leave to it.

    Args:
        least: seconds over which it is measured at least; the system counts in hundredths.
    """

    def __init__(self, least: float = 0.1):
        self._least = least
        self._then = self._now()
        self._free = float("inf")

    def free(self) -> float:
        """Mean since it was asked last, or since it was made; infinity while unknown."""
        now = self._now()
        if now is None or self._then is None:
            return self._free
        seconds, idle, own = (b - a for a, b in zip(self._then, now, strict=True))
        if seconds > self._least:
            self._then, self._free = now, (idle + own) / seconds
        return self._free

    def _now(self) -> tuple[float, float, float] | None:
        """Seconds of the clock, of idle cores, and of this process and its children that ended; None where nobody tells."""
        try:
            mine = {f"cpu{number}" for number in os.sched_getaffinity(0)}
            lines = (line.split() for line in _STAT.read_text().splitlines())
            idle = sum(int(fields[4]) + int(fields[5]) for fields in lines if fields[0] in mine)
        except (AttributeError, OSError):
            return None
        spent = os.times()
        own = time.process_time() + spent.children_user + spent.children_system
        return time.perf_counter(), idle / os.sysconf("SC_CLK_TCK"), own


_CORES, _TRAINING_CORES = Cores(), Cores(least=1.0)


def is_crowded(cores: Cores, most: int) -> bool:
    """Whether so many threads are more than the cores that others leave, by half a core at least."""
    return cores.free() < most - 0.5


class ThreadChoice:
    """All threads, or fewer while something else keeps cores busy: one fewer, half as many, and so on down to one.

    Threads wait for each other many times a step, so that one which shares its core holds up all. Which number is
    faster is found by trying: a few steps with a neighbouring number now and then, ever less often while that loses, and
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
        halves = [most >> n for n in range(1, most.bit_length())]
        self._numbers = list(dict.fromkeys([most, max(1, most - 1), *halves]))
        """What it chooses from, falling."""
        fitting = round(cores.free()) if is_crowded(cores, most) else most
        self._now = next((n for n, each in enumerate(self._numbers) if each <= fitting), len(self._numbers) - 1)
        self._direction = 1
        """Where the next trial goes: 1 to fewer threads, -1 to more."""
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
        return self._numbers[self._now if self._trial is None else self._other]

    @property
    def number(self) -> int:
        """The best so far."""
        return self._numbers[self._now]

    @property
    def _other(self) -> int:
        """The place of the number that is tried."""
        there = self._now + self._direction
        return there if 0 <= there < len(self._numbers) else self._now - self._direction

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None and len(self._numbers) > 1:
            self.took(time.perf_counter() - self._started)

    def took(self, seconds: float) -> None:
        """Learn from a step that took so many seconds."""
        if self._trial is None:
            self._mean = seconds if self._mean is None else 0.8 * self._mean + 0.2 * seconds
            self._best = min(self._best, self._mean)
            self._left -= 1
            if self._mean > 1.3 * self._best:
                self._direction, self._trial = 1, []
            elif self._left <= 0:
                self._trial = []
            return
        self._trial.append(seconds)
        other = sum(self._trial) / len(self._trial)
        hopeless = self._mean is not None and other > 1.2 * self._mean
        if len(self._trial) < self._trial_steps and not hopeless:
            return
        if self._mean is not None and other < 0.95 * self._mean:
            self._now, self._mean, self._interval = self._other, other, self._first
        else:
            repaid = round(_STEPS_OF_A_LOSS * other / (self._mean or other))
            self._interval = min(max(2 * self._interval, repaid), self._LONGEST)
            self._direction = -self._direction
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


class StepThreads:
    """The threads of PyTorch while a model learns: all, unless others keep cores busy and fewer are faster.

    Threads that spin until the last has come, beside ten busy processes on two cores, took 12 s for a step that one thread
    did in 0.29 s. While the machine is free nothing is tried, since sums come out in another order with other threads: runs
    that are repeated or resumed there agree to the bit. What is chosen holds for all that is computed between steps, too.

    Args:
        most: all threads.
        use: sets their number.
        cores: tells how many are free.
    """

    def __init__(self, most: int, use: Callable[[int], None], cores: Cores):
        self._most, self._use, self._cores = most, use, cores
        self._choice: ThreadChoice | None = None
        self._said = self._fixed = most == 1

    def look(self) -> None:
        """Begin to choose where others keep cores busy, and take all threads where they no longer do."""
        if self._fixed:
            return
        crowded = is_crowded(self._cores, self._most)
        if crowded and self._choice is None:
            self._choice = ThreadChoice(self._most, trial=1, first=4, cores=self._cores)
        elif not crowded:
            self._choice = None
        self._use(self._most if self._choice is None else self._choice.number)
        if self._choice is not None and self._choice.number < self._most and not self._said:
            self._said = True
            remark(
                f"Other processes keep {self._most - self._cores.free():.1f} of {self._most} cores busy: as many threads as "
                f"are fastest from here on, now {self._choice.number} (OMP_NUM_THREADS fixes their number)."
            )

    def fix(self) -> None:
        """Keep the number of now: code that was compiled for it would be compiled again for another."""
        self._fixed = True

    def end(self) -> None:
        """Take all threads again, for what else the process does."""
        if self._choice is not None:
            self._use(self._most)
        self._fixed, self._choice = True, None

    def __enter__(self) -> None:
        if self._choice is not None and not self._fixed:
            self._use(self._choice.__enter__())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._fixed:
            if self._choice is not None:
                self._choice.__exit__(kind, error, trace)
            self.look()


def step_threads(device: str, n_processes: int) -> StepThreads:
    """Those of a training; as they are on a GPU, in one of several processes, and where the user fixed their number."""
    is_fixed = device != "cpu" or n_processes > 1 or any(os.environ.get(name) for name in FIXED_BY)
    threads = StepThreads(1 if is_fixed else torch.get_num_threads(), torch.set_num_threads, _TRAINING_CORES)
    threads.look()
    return threads

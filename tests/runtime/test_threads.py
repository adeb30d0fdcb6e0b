"""The number of threads follows what is faster at the moment."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from wenloom.runtime import threads
from wenloom.runtime.threads import Cores, ThreadChoice, ThreadChoices


def run(choice: ThreadChoice, steps: int, seconds: Callable[[int], float]) -> list[int]:
    """The numbers chosen in some steps that take `seconds(number)`."""
    found = []
    for _ in range(steps):
        with choice as number:
            pass
        found.append(number)
        choice.took(seconds(number))
    return found


def test_steps_of_a_like_size_learn_together():
    choices = ThreadChoices(4)
    assert choices.of(9) is choices.of(15) and choices.of(9) is not choices.of(16)


class Told(Cores):
    """So many cores are free."""

    def __init__(self, number: float):
        self.number = number

    def free(self) -> float:
        return self.number


class Simulated(ThreadChoice):
    """Times are told, not measured."""

    def __init__(self, most: int, free: float = float("inf")):
        super().__init__(most, cores=Told(free))

    def __exit__(self, *_: object) -> None:
        return


def alone(threads: int) -> float:
    return 1 / threads


def crowded(threads: int) -> float:
    """Another process keeps one of four cores busy: whoever shares it holds up all."""
    return 0.5 if threads == 4 else 1 / threads


def test_all_threads_while_they_are_faster_and_trials_become_rare():
    found = run(Simulated(4), 2000, alone)
    assert found[1000:].count(3) <= 4


def test_one_fewer_beside_a_busy_process_and_back():
    choice = Simulated(4)
    run(choice, 500, alone)
    beside = run(choice, 100, crowded)
    assert beside.count(3) > 80  # it notices within a few steps
    after = run(choice, 2000, alone)
    assert after.count(4) > 1800


def test_a_single_thread_stays_one():
    choice = ThreadChoice(1)
    for _ in range(100):
        with choice as number:
            assert number == 1


@pytest.mark.parametrize(("free", "first"), [(4.0, 4), (3.6, 4), (3.0, 3), (float("inf"), 4)])
def test_it_begins_with_the_cores_that_are_free(free: float, first: int):
    assert run(Simulated(4, free), 1, alone) == [first]
    assert run(Simulated(4, free), 500, alone)[200:].count(3) <= 20, "whatever it began with"


def test_free_cores_are_the_idle_ones_and_those_of_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    clock = {"seconds": 0.0, "own": 0.0}

    def machine(idle: list[float]) -> None:
        """What /proc/stat says of three cores, the last of which this process may not use."""
        ticks = os.sysconf("SC_CLK_TCK")
        rows = [f"cpu{core} 9 9 9 {int(each * ticks)} 0 9 9 0 0 0" for core, each in enumerate(idle)]
        (tmp_path / "stat").write_text("\n".join(["cpu 9 9 9 999999 0 9 9 0 0 0", *rows, "intr 1 2 3"]))

    monkeypatch.setattr(threads, "_STAT", tmp_path / "stat")
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda _: {0, 1})
    monkeypatch.setattr(threads.time, "perf_counter", lambda: clock["seconds"])
    monkeypatch.setattr(threads.time, "process_time", lambda: clock["own"])
    machine([0, 0, 0])
    cores = Cores()
    assert cores.free() == float("inf")
    clock.update(seconds=10, own=4)
    machine([3, 5, 10])
    assert cores.free() == pytest.approx(1.2)
    clock.update(seconds=10.05, own=4.05)
    assert cores.free() == pytest.approx(1.2), "too short a time to tell"
    (tmp_path / "stat").unlink()
    assert Cores().free() == float("inf")

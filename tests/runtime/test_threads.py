"""The number of threads follows what is faster at the moment."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from wenloom.runtime import threads
from wenloom.runtime.threads import Cores, StepThreads, ThreadChoice, ThreadChoices, step_threads


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


def packed(threads: int) -> float:
    """Ten others on four cores: threads that wait for each other are of no use."""
    return 0.29 if threads == 1 else 3.0 * threads


def test_down_to_one_thread_where_every_core_is_taken():
    choice = Simulated(4)
    run(choice, 500, alone)
    found = run(choice, 300, packed)
    assert found.count(1) > 240
    assert sum(map(packed, found[100:])) < 1.3 * 200 * packed(1), "trials that lose are repaid"
    assert run(choice, 3000, alone)[1500:].count(4) > 1400


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


class Learning:
    """A training on a machine that may be busy, whose clock is turned by its steps."""

    def __init__(self, most: int, monkeypatch: pytest.MonkeyPatch):
        self.now, self.cores, self.used, self.number = 0.0, Told(float(most)), [], most
        monkeypatch.setattr(threads.time, "perf_counter", lambda: self.now)
        self.said: list[str] = []
        monkeypatch.setattr(threads, "remark", self.said.append)
        self.threads = StepThreads(most, self.use, self.cores)

    def use(self, number: int) -> None:
        self.number = number
        self.used.append(number)

    def steps(self, count: int, seconds: Callable[[int], float]) -> list[int]:
        found = []
        for _ in range(count):
            with self.threads:
                found.append(self.number)
                self.now += seconds(self.number)
        return found


def spinning(threads: int) -> float:
    """Seconds of a step beside ten busy processes on two cores, as measured."""
    return 12.0 if threads == 2 else 0.29


def test_a_training_beside_busy_processes_takes_one_thread_until_they_are_gone(monkeypatch: pytest.MonkeyPatch):
    learning = Learning(2, monkeypatch)
    assert learning.steps(50, alone) == [2] * 50 and set(learning.used) == {2}
    learning.cores.number = 0.4
    beside = learning.steps(400, spinning)
    assert beside[0] == 2 and beside[1:].count(2) <= 1, "the step in which it is noticed, and one trial"
    assert len(learning.said) == 1 and "1.6 of 2 cores" in learning.said[0]
    assert learning.number == 1, "validation and samples, too"
    learning.cores.number = 2.0
    assert learning.steps(50, alone)[1:] == [2] * 49 and len(learning.said) == 1


def test_a_training_that_begins_beside_busy_processes_is_measured_with_what_is_left(monkeypatch: pytest.MonkeyPatch):
    learning = Learning(2, monkeypatch)
    learning.cores.number = 0.4
    learning.threads.look()
    assert learning.number == 1
    learning.threads.fix()
    learning.cores.number = 2.0
    assert learning.steps(20, alone) == [1] * 20, "compiled code keeps its number"
    learning.threads.end()
    assert learning.number == 2


def test_more_threads_than_one_stay_where_they_are_faster_all_the_same(monkeypatch: pytest.MonkeyPatch):
    learning = Learning(4, monkeypatch)
    learning.cores.number = 3.0
    assert learning.steps(300, alone).count(4) > 260, "the others step aside"


@pytest.mark.parametrize("name", threads.FIXED_BY)
def test_a_number_that_the_user_fixed_is_kept(name: str, monkeypatch: pytest.MonkeyPatch):
    used: list[int] = []
    monkeypatch.setenv(name, "2")
    monkeypatch.setattr(threads, "_TRAINING_CORES", Told(0.1))
    monkeypatch.setattr(threads.torch, "set_num_threads", used.append)
    chosen = step_threads("cpu", 1)
    for _ in range(5):
        with chosen:
            pass
    chosen.end()
    assert not used

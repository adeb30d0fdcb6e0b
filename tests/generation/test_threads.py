"""The number of threads follows what is faster at the moment."""

from collections.abc import Callable

from wordloom.generation.threads import ThreadChoice


def run(choice: ThreadChoice, steps: int, seconds: Callable[[int], float]) -> list[int]:
    """The numbers chosen in some steps that take `seconds(number)`."""
    found = []
    for _ in range(steps):
        with choice as number:
            pass
        found.append(number)
        choice.took(seconds(number))
    return found


class Simulated(ThreadChoice):
    """Times are told, not measured."""

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

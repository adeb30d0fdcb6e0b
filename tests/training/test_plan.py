"""The length of a run and its evaluations."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wenloom.training.plan import make_timetable
from wenloom.training.settings import TrainSettings


@pytest.mark.parametrize(
    "settings, n_steps",
    [
        (TrainSettings(steps=7), 7),
        (TrainSettings(epochs=2, batch=4), 50),
        (TrainSettings(budget="100s", evaluations=1), 197),
        (TrainSettings(budget="0.001s"), 1),
        (TrainSettings(tokens="20k"), 20),
    ],
)
def test_length_by_steps_epochs_or_time(settings: TrainSettings, n_steps: int):
    assert make_timetable(settings, 0.5, 1024, 100, 10_000).n_steps == n_steps


@given(st.integers(1, 3000), st.one_of(st.none(), st.integers(1, 40)), st.integers(0, 10**7))
def test_evaluations_are_few_spread_and_end_with_the_last_step(n_steps: int, count: int | None, validation: int):
    plan = make_timetable(TrainSettings(steps=n_steps, evaluations=count), 0.1, 1000, 100, validation)
    assert max(plan.evaluate_at) == n_steps and min(plan.evaluate_at) >= 1
    assert len(plan.evaluate_at) <= (count or 20)
    assert plan.seconds >= n_steps * 0.1
    if count is None and len(plan.evaluate_at) > 1:  # what they cost stays within the share
        assert plan.seconds <= 1.1 * n_steps * 0.1 + 1e-6


def test_a_resumed_run_keeps_its_length_and_counts_what_is_left():
    settings = TrainSettings(budget="62s", evaluations=4)
    whole = make_timetable(settings, 0.5, 1000, 100, 3000)
    rest = make_timetable(settings, 0.25, 1000, 100, 3000, done=60, n_steps=whole.n_steps)
    assert rest.n_steps == 120 and rest.evaluate_at == whole.evaluate_at
    assert rest.seconds == pytest.approx(60 * 0.25 + 2 * 3000 / (3 * 1000 / 0.25))

"""A budget of time, kept by putting the length of a run right; all by clocks that the tests turn."""

import json
import math
import random
import shutil
from collections.abc import Callable
from itertools import accumulate, pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import wenloom
from wenloom.cli.show import showing
from wenloom.core.errors import CheckpointError, InputError
from wenloom.generation.engine import Engine
from wenloom.model.build import Model
from wenloom.tokens.shards import Dataset
from wenloom.tokens.tokenizer import TextTokenizer
from wenloom.tokens.train import train_tokenizer
from wenloom.training.checkpoints import STATE, latest_checkpoint, read_state
from wenloom.training.columns import Targets, Tokens
from wenloom.training.examples import ExampleData
from wenloom.training.history import read_metrics
from wenloom.training.interrupt import Interrupted
from wenloom.training.pace import Course, Pace
from wenloom.training.pretrain import finished_result, pretrain, resume
from wenloom.training.report import SamplePreview
from wenloom.training.run_file import read_run
from wenloom.training.schedules import multiplier
from wenloom.training.settings import TrainSettings
from wenloom.training.state import read_progress

from .runs import MODEL, same_weights
from .test_resume import stop_at


class Clock:
    """Seconds that pass when they are told to."""

    now = 5000.0

    def __call__(self) -> float:
        return self.now


def simulated(
    budget: float,
    told: float,
    costs: Callable[[int, float], float],
    evaluation: float,
    n_evaluations: int,
    closing: float = 2.0,
    work: Callable[[int], float] = float,
):
    """A run of which an average step was told to take so long.

    Args:
        costs: what a step takes, by its number and the part of the budget that has passed.
    """
    clock = Clock()
    begin = clock.now
    pace = Pace(told, 0.01, begin + budget, closing, work, clock)
    course = Course.laid_out(max(1, int(budget / told)), n_evaluations)
    done, places = 0, []
    pace.mark(0)
    while done < course.n_steps:
        places.append(course.at(done))
        clock.now += costs(done, (clock.now - begin) / budget)
        done += 1
        is_due = done in course.evaluate_at()
        if pace.is_time(course, done):
            pace.mark(done)
            if (decision := pace.decided(course, done)) is not None:
                course = course.turned(done, *decision)
        if is_due or done in course.evaluate_at():
            clock.now += evaluation
            pace.evaluated(evaluation)
    return clock.now + closing - begin, course, places


def by_quarters(step: list[float]) -> Callable[[int, float], float]:
    """Costs that change with each quarter of the budget."""
    return lambda number, passed: step[min(3, int(4 * passed))]


@pytest.mark.parametrize("evaluation", [0.01, 1.0, 4.0])
@pytest.mark.parametrize(
    "step", [[0.1] * 4, [0.2] * 4, [0.03] * 4, [0.1, 0.25, 0.25, 0.25], [0.2, 0.05, 0.2, 0.05], [0.4, 0.4, 0.2, 0.2]]
)
@pytest.mark.parametrize("n_evaluations", [2, 5, 20])
def test_a_budget_is_kept_whatever_a_step_was_said_to_take(step: list[float], evaluation: float, n_evaluations: int):
    took, course, places = simulated(60, 0.1, by_quarters(step), evaluation, n_evaluations)
    assert 0.95 * 60 <= took <= 1.05 * 60
    left = [1 - place / course.planned for place in places]
    assert left == sorted(left, reverse=True) and left[0] == 1 and left[-1] < 0.05  # the decay comes to its end


def test_a_budget_is_kept_where_steps_are_few_and_unlike_each_other():
    """Rows of a task are sorted by length: a step may cost eight times as much as the next."""
    drawn = random.Random(5)
    costs = [drawn.choice([0.8, 0.8, 6.0]) for _ in range(400)]
    mean, total = sum(costs) / len(costs), list(accumulate(costs, initial=0.0))
    for budget in range(40, 80, 3):
        took, _, _ = simulated(
            budget, mean, lambda number, passed: costs[number], 2.0, 3, 1.0, lambda step: total[step] / mean
        )
        assert budget - 6.0 - 0.05 * budget <= took <= 1.05 * budget


@pytest.mark.parametrize("schedule", ["linear", "cosine", "wsd"])
def test_the_learning_rate_comes_down_without_a_jump(schedule):
    _, course, places = simulated(60, 0.1, by_quarters([0.1, 0.25, 0.25, 0.25]), 1.0, 5)
    rates = [multiplier(schedule, place, course.planned, 12, round(0.3 * course.planned), 0.0) for place in places]
    assert max(abs(one - other) for one, other in pairwise(rates)) < 0.1
    assert rates[-1] < 0.05 and max(rates) == pytest.approx(1, abs=0.01)


def test_a_budget_that_is_spent_ends_after_the_step():
    clock = Clock()
    pace = Pace(0.1, 1.0, clock.now - 5, 2.0, clock=clock)
    course = Course.laid_out(100, 4)
    decision = pace.decided(course, 2)
    assert decision is not None
    turned = course.turned(2, *decision)
    assert turned.n_steps == 2 and turned.evaluate_at() == {2} and turned.at(2) == 100


@given(st.integers(1, 5000), st.integers(1, 20), st.data())
def test_turns_keep_what_is_left_of_the_schedule(n_steps: int, n_evaluations: int, data: st.DataObject):
    course = Course.laid_out(n_steps, n_evaluations)
    assert [course.at(step) for step in range(0, n_steps, 7)] == list(range(0, n_steps, 7))
    assert course.evaluate_at() == {math.ceil(n_steps * part / n_evaluations) for part in range(1, n_evaluations + 1)}
    step = 0
    for _ in range(data.draw(st.integers(0, 6))):
        if step >= course.n_steps:
            break
        step = data.draw(st.integers(step, course.n_steps - 1))
        place = course.at(step)
        course = course.turned(step, data.draw(st.integers(1, 5000)), data.draw(st.none() | st.integers(1, 20)))
        assert course.n_steps >= step and course.at(step) in (pytest.approx(place), course.planned)
    assert course.at(course.n_steps) == n_steps and max(course.evaluate_at()) == max(1, course.n_steps)
    places = [course.at(each) for each in range(step, course.n_steps + 1, max(1, (course.n_steps - step) // 50))]
    assert places == sorted(places)


def test_samples_get_a_small_part_of_a_budget_and_less_at_its_end():
    clock = Clock()
    pace = Pace(1.0, 1.0, clock.now + 102, closing=2.0, clock=clock)
    for left, seconds in ((102, 1.5), (50, 1.5), (3, 1.0), (1, 0.3)):
        clock.now = 5000.0 + 102 - left
        assert pace.samples_until() == pytest.approx(clock.now + seconds)
    before = pace.decided(course := Course.laid_out(1000, 1), 1)
    pace.expect_samples()
    after = pace.decided(course, 1)
    assert before and after and after[0] <= before[0]
    assert Pace(1.0, 1.0).samples_until() is None


def test_samples_end_where_the_time_for_them_ends(dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What is written until then stays; without a budget they are what the model writes alone."""
    run = pretrain(dataset.folder, tmp_path / "run", MODEL, TrainSettings(steps=2, batch=4)).folder
    model, prompts = wenloom.load(run), ["The lamp", "It was"]
    show = showing(prompts, 20)
    alone = [model.generate(each, max_new_tokens=20, seed=n, eos_token_id=()) for n, each in enumerate(prompts)]
    assert [each.continuation for each in show(model.decoder, model.tokenizer, None).samples] == alone
    clock = Clock()
    step = Engine.step

    def slow(engine: Engine) -> bool:
        clock.now += 1
        return step(engine)

    monkeypatch.setattr(Engine, "step", slow)
    monkeypatch.setattr("wenloom.generation.engine.time.monotonic", clock)
    cut = [each.continuation for each in show(model.decoder, model.tokenizer, clock.now + 5).samples]
    assert clock.now == 5005 and all(0 < len(short) < len(long) for short, long in zip(cut, alone, strict=True))
    assert all(long.startswith(short) for short, long in zip(cut, alone, strict=True))


def test_a_run_with_a_budget_says_until_when_samples_may_be_written(dataset: Dataset, tmp_path: Path, ticking: None):
    untils: list[float | None] = []

    def show(decoder: Model, tokenizer: TextTokenizer, until: float | None) -> SamplePreview:
        untils.append(until)
        return SamplePreview()

    pretrain(dataset.folder, tmp_path / "run", MODEL, SLOWER, show)
    pretrain(dataset.folder, tmp_path / "other", MODEL, TrainSettings(steps=2, batch=4), show)
    assert len(untils) > 2 and untils[-1] is None and None not in untils[:-1]


SLOWER = TrainSettings(
    budget="80s", batch=4, learning_rate=0.01, evaluations=4, precision="fp32", device="cpu", compile="off"
)


@pytest.fixture
def ticking(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that is said to take one second and takes two, later four, by a clock that only a look at it turns."""
    monkeypatch.setattr("wenloom.training.setup.time_steps", lambda *_, **__: 1.0)
    monkeypatch.setattr("wenloom.training.setup.time_validation", lambda *_: 0.01)
    mark = Pace.mark

    def advance(pace: Pace, step: int) -> None:
        if not isinstance(pace.clock, Clock):
            pace.clock = Clock()
            pace.deadline = pace.deadline and Clock.now + 80
        elif step:
            pace.clock.now += 2 if step < 16 else 4
        mark(pace, step)

    monkeypatch.setattr(Pace, "mark", advance)
    monkeypatch.setattr(Pace, "evaluated", lambda *_: None)


def test_the_length_of_a_run_is_put_right_and_said_in_its_lines(dataset: Dataset, tmp_path: Path, ticking: None):
    run = pretrain(dataset.folder, tmp_path / "run", MODEL, SLOWER)
    lines = [line for line in read_metrics(run.folder) if "of_steps" in line]
    assert lines[0]["of_steps"] > run.steps and lines[-1]["of_steps"] == run.steps
    assert lines[-1]["learning_rate"] < 0.2 * SLOWER.learning_rate  # pyright: ignore
    evaluations = [line["step"] for line in read_metrics(run.folder) if "validation" in line]
    assert len(evaluations) == 4 and evaluations[-1] == run.steps


def test_what_was_decided_is_decided_when_a_run_is_resumed(dataset: Dataset, tmp_path: Path, ticking: None):
    out, other = tmp_path / "run", tmp_path / "other"
    with pytest.raises(Interrupted):
        pretrain(dataset.folder, out, MODEL, SLOWER, stop_at(2))  # pyright: ignore
    shutil.copytree(out, other)
    newest = latest_checkpoint(other)
    assert newest is not None
    last = read_progress(newest)
    shutil.rmtree(newest)  # as if it had been killed after the one before
    before = latest_checkpoint(other)
    assert before is not None and read_progress(before).n_steps != last.n_steps, "something was decided between them"
    one, two = resume(out), resume(other)
    assert one.steps == two.steps == last.n_steps and same_weights(out, other)


@pytest.mark.parametrize(
    "course", [{"n_steps": 3}, [1], {"n_steps": 9, "planned": 9, "checks": [], "since": 10, "place": 0.0}]
)
def test_a_course_that_is_none_is_named(course: object, dataset: Dataset, tmp_path: Path, ticking: None):
    run = pretrain(dataset.folder, tmp_path / "run", MODEL, TrainSettings(steps=2, batch=4))
    checkpoint = latest_checkpoint(run.folder)
    assert checkpoint is not None
    state = read_state(checkpoint)
    (checkpoint / STATE).write_text(json.dumps(state | {"course": course}))
    with pytest.raises(CheckpointError, match="course"):
        read_progress(checkpoint)


def test_an_evaluation_that_would_take_all_of_a_budget_scores_a_part_of_its_data(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """And a run that is prolonged scores the same part."""
    monkeypatch.setattr("wenloom.training.setup.time_validation", lambda *_: 60.0)
    monkeypatch.setattr("wenloom.training.validation.Validation.fit", lambda each, planned, *_: planned)
    training = TrainSettings(budget="6s", batch=4, optimizer="adamw", evaluations=3)
    done = pretrain(dataset.folder, tmp_path / "run", MODEL, training)
    assert "--validation-part" in capsys.readouterr().err
    tables = read_run(tmp_path / "run")
    part = tables["environment"]["validation_part"]
    scored, there = tables["data"]["scored_tokens"], tables["data"]["validation_tokens"]
    assert 0 < part < 0.2 and scored == max(1, round(part * (there - 1)))
    again = finished_result(tmp_path / "run")
    assert again is not None and done.loss.tokens == again.loss.tokens == scored
    assert again.figures == done.figures == pytest.approx(again.loss.figures())
    longer = resume(tmp_path / "run", more=TrainSettings(steps=2))
    assert longer.loss.tokens == scored


def test_a_part_that_was_asked_for_is_scored_by_a_resumed_run_too(dataset: Dataset, tmp_path: Path):
    training = TrainSettings(steps=12, batch=4, evaluations=3, validation_part=0.25)
    whole = pretrain(dataset.folder, tmp_path / "whole", MODEL, training)
    with pytest.raises(Interrupted):
        pretrain(dataset.folder, tmp_path / "run", MODEL, training, stop_at(1))  # pyright: ignore[reportArgumentType]
    resumed = resume(tmp_path / "run")
    assert resumed.loss == whole.loss and whole.loss.tokens == round(0.25 * (dataset.splits["validation"].tokens - 1))
    with pytest.raises(InputError, match="--validation-part is a part"):
        TrainSettings(validation_part=1.5)


def test_a_part_of_the_examples_of_validation_has_all_lengths():
    tokenizer = train_tokenizer(["a few words of a text, and then a few more of them"], "bpe", 270)
    rows = [{"inputs_BT": Tokens([5] * n), "targets_BT": Targets([6] * n)} for n in range(1, 101)]
    data = ExampleData(tokenizer, rows, rows, {"task": "chat"})
    whole = data.validation_size.tokens
    data.limit(0.1)
    assert data.table() == {"task": "chat", "scored_examples": 10}
    assert data.validation_size.tokens == pytest.approx(0.1 * whole, rel=0.02)
    data.limit(1e-9)
    assert data.table()["scored_examples"] == 1

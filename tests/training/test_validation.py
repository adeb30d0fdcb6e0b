"""How much of the validation data a run with a budget scores: counted, by a clock that only what is computed turns."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from wenloom.tasks import finetune as tasks
from wenloom.tasks.settings import DataSettings, FreshSettings, LearningSettings
from wenloom.tokens.shards import Dataset
from wenloom.training.examples import ExampleData
from wenloom.training.history import read_metrics
from wenloom.training.loop import Run
from wenloom.training.pace import Pace
from wenloom.training.pretrain import finished_result, pretrain, resume
from wenloom.training.run_file import read_run
from wenloom.training.run_result import RunResult
from wenloom.training.settings import InitSettings, TrainSettings
from wenloom.training.training_data import CorpusData

from .runs import MODEL, TRAINING

BUDGET, STEP = 200.0, 2.0
"""Seconds of the run, and of a step."""
LIMITED = TrainSettings(
    budget=f"{BUDGET:.0f}s", batch=1, learning_rate=0.01, precision="fp32", device="cpu", compile="off"
)
FRESH = FreshSettings(layers=1, width=32, heads=2, dropout=0.0)


class Scored:
    """What is scored, and the clock that it turns."""

    def __init__(self) -> None:
        self.now, self.token = 1000.0, 0.0
        self.targets: list[int] = []


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> Scored:
    """A machine on which a step takes two seconds, and validation was said to take next to nothing."""
    seen = Scored()
    monkeypatch.setattr("wenloom.training.setup.time_steps", lambda *_, **__: STEP)
    monkeypatch.setattr("wenloom.training.setup.time_validation", lambda *_: 1e-6)
    init, step = Pace.__init__, Run._step

    def pace(
        self: Pace,
        step_seconds: float,
        evaluation_seconds: float,
        deadline: float | None = None,
        *rest: Any,
        all_are_due: bool,
    ) -> None:
        end = None if deadline is None else seen.now + BUDGET
        init(self, step_seconds, evaluation_seconds, end, 0.0, clock=lambda: seen.now, all_are_due=all_are_due)  # fmt: skip

    def slow_step(self: Run, stop: Any) -> Any:
        seen.now += STEP
        return step(self, stop)

    def slow(evaluate: Callable[..., Any]) -> Callable[..., Any]:
        def counted(data: Any, *rest: Any) -> Any:
            seen.targets.append(data.validation_size.tokens)
            seen.now += seen.token * data.validation_size.tokens
            return evaluate(data, *rest)

        return counted

    monkeypatch.setattr(Pace, "__init__", pace)
    monkeypatch.setattr(Run, "_step", slow_step)
    for data in (CorpusData, ExampleData):
        monkeypatch.setattr(data, "evaluate", slow(data.evaluate))
    return seen


def check(scored: Scored, out: Path, result: RunResult, there: int) -> None:
    """All validation together took a tenth of the budget, in equal evaluations but for the one that told the speed."""
    evaluations = [each for each in scored.targets if each == scored.targets[-1]]
    trials = scored.targets[: -len(evaluations)]
    assert scored.targets == trials + evaluations and trials == sorted(trials), "first trials, then equal evaluations"
    assert sum(scored.targets) * scored.token <= 0.1 * BUDGET and evaluations[0] == result.loss.tokens
    assert len(evaluations) == sum("validation" in line for line in read_metrics(out))
    assert 0.01 < result.part == read_run(out)["environment"]["validation_part"] < 0.5
    assert evaluations[0] == pytest.approx(result.part * there, rel=0.5)
    assert result.steps * STEP > 0.8 * BUDGET
    report = (out / "report.html").read_text(encoding="utf-8")
    assert result.scored().removeprefix(", on ") in report and "of the validation data" in result.scored()


def test_a_model_from_scratch(dataset: Dataset, tmp_path: Path, scored: Scored):
    there = dataset.splits["validation"].tokens
    scored.token = 0.5 * BUDGET / there  # half of the budget for all of it
    result = pretrain(dataset.folder, tmp_path / "run", MODEL, LIMITED)
    check(scored, tmp_path / "run", result, there)
    again = finished_result(tmp_path / "run")
    assert again is not None and again.scored() == result.scored()
    longer = resume(tmp_path / "run", more=TrainSettings(steps=2))
    assert longer.loss.tokens == result.loss.tokens, "compared on what was scored before"
    tables = read_run(tmp_path / "run")
    assert "validation_part" not in tables["settings"] and tables["environment"]["validation_part"] == result.part


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_model_that_goes_on_is_compared_with_itself_on_one_part(
    method: str, dataset: Dataset, tmp_path: Path, scored: Scored, capsys: pytest.CaptureFixture[str]
):
    base = pretrain(dataset.folder, tmp_path / "base", MODEL, TRAINING).folder
    scored.targets.clear()
    there = dataset.splits["validation"].tokens
    scored.token = 0.5 * BUDGET / there
    init = InitSettings(init=str(base), method=method)  # pyright: ignore[reportArgumentType]
    result = pretrain(dataset.folder, tmp_path / "run", None, LIMITED, init=init)
    check(scored, tmp_path / "run", result, there)
    first, *_, last = [line for line in read_metrics(tmp_path / "run") if "validation" in line]
    assert first["step"] == 0 and last["step"] == result.steps
    assert result.before == first["validation"]
    again = finished_result(tmp_path / "run")
    assert again is not None and again.before == result.before
    assert f"{result.loss.tokens:,} of {there - 1:,} tokens" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("task", ["translation", "fill-mask"])
def test_a_model_for_a_task(task: str, tmp_path: Path, scored: Scored):
    rows = [
        f"the {number} lamps went out by day {number % 7} and {number % 5} never came back" for number in range(3000)
    ]
    pairs = "".join(json.dumps({"source": each, "target": each.upper()}) + "\n" for each in rows)
    (tmp_path / "rows.jsonl").write_text(
        pairs if task == "translation" else "\n".join(json.dumps({"text": each}) for each in rows)
    )
    data = DataSettings(train=str(tmp_path / "rows.jsonl"), max_source_tokens=64)
    scored.token = 1.0 if task == "fill-mask" else 0.05
    result = tasks.finetune(task, tmp_path / "run", None, data, FRESH, LearningSettings(), LIMITED).run
    there = read_run(tmp_path / "run")["data"]["validation_examples"]
    check(scored, tmp_path / "run", result, result.loss.tokens and round(result.loss.tokens / result.part))
    assert read_run(tmp_path / "run")["data"]["scored_examples"] == pytest.approx(result.part * there, abs=1)


def test_no_less_is_scored_than_a_step_reads(dataset: Dataset, tmp_path: Path, scored: Scored):
    scored.token = BUDGET
    result = pretrain(dataset.folder, tmp_path / "run", MODEL, LIMITED)
    assert result.loss.tokens == pytest.approx(32, abs=1)


def test_all_is_scored_where_a_tenth_holds_it(dataset: Dataset, tmp_path: Path, scored: Scored):
    there = dataset.splits["validation"].tokens
    scored.token = 0.03 * BUDGET / there
    result = pretrain(dataset.folder, tmp_path / "run", MODEL, LIMITED)
    assert result.part == 1 and result.scored() == "" and result.loss.tokens == there - 1
    assert sum(scored.targets) * scored.token <= 0.1 * BUDGET
    assert "validation_part" not in read_run(tmp_path / "run")["environment"]

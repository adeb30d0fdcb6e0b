"""Beyond the end of a run, and from earlier steps of it."""

import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from wenloom.checkpoint.folder import load_decoder
from wenloom.core.errors import InputError
from wenloom.tokens.shards import Dataset
from wenloom.training.checkpoints import is_kept, own_checkpoints
from wenloom.training.comparison import compare
from wenloom.training.history import read_metrics
from wenloom.training.pace import Course
from wenloom.training.pretrain import finished_result, go_on_elsewhere, pretrain, resume
from wenloom.training.prolong import branch
from wenloom.training.run_file import read_run
from wenloom.training.settings import Schedule, TrainSettings

from ..cli.calling import call
from .runs import MODEL, TRAINING, same_weights, weights

MORE = TrainSettings(steps=12)


def rates(run: Path) -> dict[int, float]:
    """Learning rates by step, as far as they were logged."""
    return {line["step"]: line["learning_rate"] for line in read_metrics(run) if "learning_rate" in line}


def test_wsd_prolonged_is_the_run_that_was_planned_longer(
    dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """From before the learning rate fell the same steps follow as if the run had been that long from the beginning."""
    settings = replace(TRAINING, schedule="wsd", warmup=0.0)
    whole = pretrain(dataset.folder, tmp_path / "whole", MODEL, replace(settings, steps=24))
    pretrain(dataset.folder, tmp_path / "run", MODEL, settings)
    longer = resume(tmp_path / "run", more=MORE)
    assert longer.steps == 24 and same_weights(whole.folder, longer.folder) and longer.loss == whole.loss
    assert "at step 12 by --steps 12" in compare([whole.folder, longer.folder])
    at_once, first, prolonged = re.findall(r"[\d.]+ to [\d.]+\sbits", capsys.readouterr().err)
    assert prolonged == at_once != first, "what was read before counts in the loss to expect"


@pytest.mark.parametrize("schedule", ["linear", "cosine", "wsd"])
def test_a_finished_run_without_a_stable_part_rises_and_falls_anew(
    schedule: Schedule, dataset: Dataset, tmp_path: Path
):
    run = tmp_path / "run"
    settings = replace(TRAINING, schedule=schedule, warmup=0.25)
    pretrain(dataset.folder, run, MODEL, settings)
    for path in own_checkpoints(run):  # as a run of an earlier version has it
        if is_kept(path):
            for file in path.iterdir():
                file.unlink()
            path.rmdir()
    assert resume(run, more=MORE).steps == 24
    found = rates(run)
    assert found[24] < 0.5 * settings.learning_rate and max(found) == 24  # pyright: ignore
    course = Course.laid_out(12, 2).prolonged(12, Course.laid_out(12, 2), None)
    assert (course.at(12), course.at(18), course.at(24)) == (0, 6, 12)
    assert read_run(run)["result"]["prolonged"] == ["at step 12 by --steps 12"]
    assert read_run(run)["settings"]["steps"] == 12 and read_run(run)["result"]["of_steps"] == 24


def test_a_run_is_prolonged_again_and_again_and_resumed_between(dataset: Dataset, tmp_path: Path):
    pretrain(dataset.folder, tmp_path / "run", MODEL, replace(TRAINING, schedule="wsd"))
    tokens = 12 * 4 * 32
    for n_steps, more in ((24, MORE), (36, TrainSettings(tokens=str(tokens))), (37, TrainSettings(steps=1))):
        assert resume(tmp_path / "run", more=more).steps == n_steps
        assert resume(tmp_path / "run").steps == n_steps  # nothing is left to do
    kept = [path.name for path in own_checkpoints(tmp_path / "run") if is_kept(path)]
    assert kept == ["step-00000008", "step-00000017", "step-00000025", "step-00000026"]
    assert len(read_run(tmp_path / "run")["result"]["prolonged"]) == 3


@pytest.mark.parametrize("schedule, step, end", [("linear", 4, 12), ("wsd", 4, 12), ("linear", 4, 6), ("wsd", 10, 12)])
def test_a_branch_goes_on_from_its_step(schedule: Schedule, step: int, end: int, dataset: Dataset, tmp_path: Path):
    run, other = tmp_path / "run", tmp_path / "branch"
    pretrain(dataset.folder, run, MODEL, replace(TRAINING, schedule=schedule, keep_every=2))
    before = weights(run)
    length = TrainSettings() if end == 12 else TrainSettings(steps=end - step)
    result = go_on_elsewhere(run, step, other, length)
    assert result.steps == end and same_weights(run, other) == (end == 12)
    assert all(before[name].equal(each) for name, each in weights(run).items())
    first = min(each for each in rates(other) if each > step)
    assert first <= end and all(line["step"] <= end for line in read_metrics(other))
    assert read_run(other)["result"]["best_step"] >= step  # a model that is there


def test_a_branch_that_is_stopped_at_once_is_a_model(dataset: Dataset, tmp_path: Path):
    pretrain(dataset.folder, tmp_path / "run", MODEL, replace(TRAINING, keep_every=2))
    branch(tmp_path / "run", 2, tmp_path / "branch")
    assert same_weights(tmp_path / "run/checkpoints/step-00000002", tmp_path / "branch")


def test_what_a_branch_may_have_otherwise_it_has(dataset: Dataset, tmp_path: Path):
    pretrain(dataset.folder, tmp_path / "run", MODEL, replace(TRAINING, keep_every=4))
    go_on_elsewhere(tmp_path / "run", 4, tmp_path / "slow", TrainSettings(learning_rate=1e-9))
    start = load_decoder(tmp_path / "run/checkpoints/step-00000004").state_dict()
    assert all(torch.allclose(start[name], each, atol=1e-6) for name, each in weights(tmp_path / "slow").items())


def test_checkpoints_that_are_not_there_are_refused_by_those_that_are(dataset: Dataset, tmp_path: Path):
    pretrain(dataset.folder, tmp_path / "run", MODEL, TRAINING)
    with pytest.raises(InputError, match=r"--from-step 5: .*no checkpoint of that step, but of: 6, 12\..*--keep-every"):
        go_on_elsewhere(tmp_path / "run", 5, tmp_path / "branch", TrainSettings())
    assert not (tmp_path / "branch").exists()


def test_a_finished_run_that_is_resumed_says_so_and_how_to_prolong_it(dataset: Dataset, tmp_path: Path):
    done = pretrain(dataset.folder, tmp_path / "run", MODEL, TRAINING)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}
    said = call("pretrain", "--resume", tmp_path / "run", cwd=tmp_path)
    assert said.code == 0 and "is finished (12 steps)" in said.err and "--steps" in said.err, said
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}
    again = finished_result(tmp_path / "run")
    assert again is not None and math.isclose(again.loss.nats, done.loss.nats) and again.best_step == done.best_step

"""A run whose threads change on the way is the run that it would have been."""

from pathlib import Path

import pytest
import torch

from wenloom.runtime.threads import Cores, StepThreads
from wenloom.tokens.shards import Dataset
from wenloom.training.history import read_metrics
from wenloom.training.pretrain import pretrain

from .runs import MODEL, TRAINING


class Flickering(Cores):
    """A machine that is busy every other time."""

    def __init__(self) -> None:
        self.asked = 0

    def free(self) -> float:
        self.asked += 1
        return 0.3 if self.asked // 3 % 2 else 2.0


def test_losses_are_the_same_whatever_the_threads(dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def losses(out: Path) -> list[float]:
        pretrain(dataset.folder, out, MODEL, TRAINING)
        return [line["loss"] for line in read_metrics(out) if "loss" in line]

    monkeypatch.setattr("wenloom.training.loop._LOG_SECONDS", -1.0)
    before, used = torch.get_num_threads(), list[int]()

    def use(number: int) -> None:
        used.append(number)
        torch.set_num_threads(number)

    whole = losses(tmp_path / "whole")
    monkeypatch.setattr("wenloom.training.setup.step_threads", lambda *_: StepThreads(2, use, Flickering()))
    try:
        changing = losses(tmp_path / "changing")
    finally:
        assert torch.get_num_threads() == 2, "all threads again, once it has ended"
        torch.set_num_threads(before)
    assert len(whole) == len(changing) == TRAINING.steps and {1, 2} <= set(used)
    assert changing == pytest.approx(whole, rel=1e-5)

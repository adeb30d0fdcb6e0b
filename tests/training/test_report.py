"""Pages and other places that figures go to."""

import json
import sys
import types
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wenloom.core.errors import InputError
from wenloom.tokens.shards import Dataset
from wenloom.training.comparison import compare
from wenloom.training.pretrain import pretrain
from wenloom.training.report import ticks

from .runs import MODEL, TRAINING


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_ticks_are_inside_and_evenly_spaced(low: float, width: float):
    found = ticks(low, low + width)
    assert 2 <= len(found) <= 12 or width < abs(low) * 1e-9
    gaps = [b - a for a, b in pairwise(found)]
    assert all(gap == pytest.approx(gaps[0], rel=1e-3, abs=1e-9) for gap in gaps)


def test_runs_side_by_side(dataset: Dataset, tmp_path: Path):
    muon = pretrain(dataset.folder, tmp_path / "muon", MODEL, TRAINING)
    adamw = pretrain(dataset.folder, tmp_path / "adamw", MODEL, replace(TRAINING, optimizer="adamw"))
    page = compare([muon.folder, adamw.folder])
    assert "http" not in page.replace("http://www.w3.org", "") and page.count("<polyline") >= 8
    for run in (muon, adamw):
        assert f"{run.loss.bits_per_byte:.4f}" in page
    assert "<td>optimizer</td><td>muon</td><td>adamw</td>" in page and "<td>width</td>" not in page
    assert page.count("<b>best</b>") == 1 and "different corpora" not in page
    with pytest.raises(InputError, match="holds no training run"):
        compare([tmp_path])
    written = adamw.folder / "run.toml"
    written.write_text(written.read_text().replace(f'"{dataset.manifest["key"]}"', '"other"'))
    page = compare([muon.folder, adamw.folder])
    assert "<b>best</b>" not in page and "different corpora" in page


def test_tensorboard_gets_every_figure(dataset: Dataset, tmp_path: Path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = pretrain(dataset.folder, tmp_path / "run", MODEL, replace(TRAINING, tensorboard=True))
    events = EventAccumulator(str(run.folder / "tensorboard")).Reload()
    scalars = events.Scalars("validation/bits_per_byte")
    assert [each.step for each in scalars] == [6, 12]
    assert scalars[-1].value == pytest.approx(run.loss.bits_per_byte, rel=1e-5)
    assert "train/loss" in events.Tags()["scalars"]


def test_weights_and_biases_gets_settings_and_figures(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Against a stand-in for the package, which needs an account."""
    told: dict[str, list[object]] = {"init": [], "log": [], "finish": []}

    class Run:
        def log(self, figures: dict[str, float], step: int) -> None:
            told["log"].append((step, figures))

        def finish(self) -> None:
            told["finish"].append(True)

    def init(**settings: object) -> Run:
        told["init"].append(settings)
        return Run()

    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=init))
    pretrain(dataset.folder, tmp_path / "run", MODEL, replace(TRAINING, wandb="shelf"))
    (settings,) = told["init"]
    assert isinstance(settings, dict) and settings["project"] == "shelf" and settings["config"]["width"] == 32
    assert [step for step, figures in told["log"] if "validation/bits_per_byte" in figures] == [6, 12]  # pyright: ignore
    assert told["finish"] == [True] and json.dumps(told["log"])

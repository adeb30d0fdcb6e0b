"""What must not go wrong unseen."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from wenloom.core.errors import WenloomError
from wenloom.model.block import Block
from wenloom.model.decoder import Decoder
from wenloom.model.feedforward import FeedForward
from wenloom.tokens.batches import Samples
from wenloom.tokens.shards import Dataset
from wenloom.training.checkpoints import latest_checkpoint
from wenloom.training.guards import NotFinite, check_causality
from wenloom.training.objectives import Loss
from wenloom.training.pretrain import pretrain

from ..conftest import random_decoder, tiny_config
from .runs import MODEL, TRAINING, weights


@pytest.mark.parametrize("architecture", ["llama", "qwen3", "gpt2", "gpt_neox"])
def test_causal_models_pass(architecture: str):
    check_causality(random_decoder(tiny_config(architecture=architecture)), torch.Generator().manual_seed(0))


def test_a_model_that_looks_ahead_is_caught(monkeypatch: pytest.MonkeyPatch):
    plain = Block.forward
    monkeypatch.setattr(Block, "forward", lambda self, x, *more: plain(self, x, *more) + 0.01 * x.roll(-1, 1))
    with pytest.raises(WenloomError, match="looks ahead: changing token 16 changes what it predicts at token 15"):
        check_causality(random_decoder(tiny_config()), torch.Generator().manual_seed(0))


@pytest.fixture
def poison(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> Callable[[range], None]:
    """Makes the feed-forward layer of block 1 write NaN whenever it reads certain samples of the run."""

    def poisoned(indices: range) -> None:
        samples = Samples(dataset.stream("train"), 32, seed=0)
        bad = torch.stack([samples[index][:-1] for index in indices])
        hidden, mlp, read = Decoder.hidden, FeedForward.forward, {}

        def reading(self: Decoder, tokens: torch.Tensor, *more, **named) -> torch.Tensor:
            read["victim"], read["bad"] = self.blocks[1].mlp, (tokens[:, None] == bad).all(-1).any(-1)
            return hidden(self, tokens, *more, **named)

        def writing(self: FeedForward, x: torch.Tensor, *taps: Any) -> torch.Tensor:
            return mlp(
                self, x.masked_fill(read["bad"][:, None, None], math.nan) if self is read["victim"] else x, *taps
            )

        monkeypatch.setattr(Decoder, "hidden", reading)
        monkeypatch.setattr(FeedForward, "forward", writing)
        monkeypatch.setattr("wenloom.training.scratch.check_causality", lambda *_: None)  # reads shorter rows
        monkeypatch.setattr("wenloom.training.training_data.evaluate", lambda *_, **__: Loss(4.0, 4, 4, 4))

    return poisoned


def test_a_step_that_is_not_finite_is_skipped_and_explained(
    dataset: Dataset, tmp_path: Path, poison: Callable[[range], None], capsys: pytest.CaptureFixture[str]
):
    poison(range(18, 21))
    run = pretrain(dataset.folder, tmp_path / "run", MODEL, replace(TRAINING, warmup=0.1))
    said = capsys.readouterr().err
    assert said.count("The step was skipped") == 2 and "it began in blocks.1.mlp.hidden, sample" in said
    assert "Step 4: loss nan" in said and "sample 18:" in said and "'" in said.split("sample 18:")[1]
    assert run.steps == 12 and all(bool(torch.isfinite(each).all()) for each in weights(run.folder).values())


def test_too_many_in_a_row_stop_the_run_and_name_the_last_good_checkpoint(
    dataset: Dataset, tmp_path: Path, poison: Callable[[range], None]
):
    poison(range(28, 100))
    with pytest.raises(NotFinite, match=r"Step 9:.*3 steps in a row: stopping.*step-00000006.*--learning-rate"):
        pretrain(dataset.folder, tmp_path / "run", MODEL, replace(TRAINING, max_skipped=3))
    checkpoint = latest_checkpoint(tmp_path / "run")
    assert checkpoint is not None and checkpoint.name == "step-00000006"
    assert all(bool(torch.isfinite(each).all()) for each in weights(checkpoint).values())

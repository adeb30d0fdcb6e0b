"""The loop: it learns, splits batches without changing them, keeps the best, and refuses what cannot work."""

import json
import math
import os
import random
import signal
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from wenloom.core.errors import InputError, WenloomError
from wenloom.core.hardware import Hardware
from wenloom.model.decoder import Decoder
from wenloom.tokens.prepare import PrepareOptions, prepare
from wenloom.tokens.shards import Dataset
from wenloom.tokens.tokenizer import TextTokenizer
from wenloom.training import train_step as learner_module
from wenloom.training.checkpoints import latest_checkpoint
from wenloom.training.history import read_metrics
from wenloom.training.interrupt import Interrupted
from wenloom.training.measure import StepMemory
from wenloom.training.objectives import CausalObjective
from wenloom.training.pretrain import pretrain, resume
from wenloom.training.report import Sample, SamplePreview
from wenloom.training.run_file import read_run
from wenloom.training.run_result import RunResult
from wenloom.training.settings import TrainSettings
from wenloom.training.train_step import TrainStep

from .runs import MODEL, TRAINING, same_weights, weights


@pytest.fixture(scope="module")
def run(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    return pretrain(dataset.folder, tmp_path_factory.mktemp("runs") / "run", MODEL, TRAINING)


def test_it_learns_and_writes_everything(run: RunResult, dataset: Dataset):
    knowing_nothing = math.log(dataset.tokenizer().vocab_size)
    assert run.loss.nats_per_token < 0.9 * knowing_nothing and run.steps == 12
    for name in (
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "README.md",
        "run.toml",
        "metrics.jsonl",
        "report.html",
    ):
        assert (run.folder / name).stat().st_size > 0
    lines = read_metrics(run.folder)
    assert [line["step"] for line in lines if "validation" in line] == [6, 12]
    result = read_run(run.folder)["result"]
    assert result["validation_bits_per_byte"] == pytest.approx(run.loss.bits_per_byte, abs=1e-3)
    page = (run.folder / "report.html").read_text()
    assert "http" not in page.replace("http://www.w3.org", "") and "polyline" in page


@pytest.mark.parametrize("step", [0, 5])
def test_ctrl_c_within_a_step_keeps_the_last_whole_one(
    step: int, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """It stops before the next part of the batch, not after its last; the first step may be the one."""
    training, parts = replace(TRAINING, micro_batch=1), iter(range(1000))
    whole = pretrain(dataset.folder, tmp_path / "whole", MODEL, training)
    computed = TrainStep.autocast
    monkeypatch.setattr("wenloom.training.setup.time_steps", lambda *_, **__: 0.01)

    def pressed(self: TrainStep) -> object:
        if (part := next(parts)) == 4 * step + 1:
            os.kill(os.getpid(), signal.SIGINT)
        assert part < 4 * step + 2, "went on after it was told to stop"
        return computed(self)

    with monkeypatch.context() as patched, pytest.raises(Interrupted, match=f"step {step} of 12.*\n.*--resume"):
        patched.setattr(TrainStep, "autocast", pressed)
        pretrain(dataset.folder, tmp_path / "parts", MODEL, training)
    resumed = resume(tmp_path / "parts")
    assert same_weights(whole.folder, resumed.folder) and resumed.loss == whole.loss


def test_the_same_seed_gives_the_same_model(run: RunResult, dataset: Dataset, tmp_path: Path):
    again = pretrain(dataset.folder, tmp_path / "again", MODEL, TRAINING)
    assert same_weights(run.folder, again.folder)
    other = pretrain(dataset.folder, tmp_path / "other", MODEL, replace(TRAINING, seed=1))
    assert not same_weights(run.folder, other.folder)


@pytest.mark.parametrize("micro_batch", [1, 2])
def test_splitting_a_batch_changes_nothing(micro_batch: int, run: RunResult, dataset: Dataset, tmp_path: Path):
    split = pretrain(dataset.folder, tmp_path / "split", MODEL, replace(TRAINING, micro_batch=micro_batch))
    for name, tensor in weights(run.folder).items():
        assert tensor.allclose(weights(split.folder)[name], atol=2e-4), name


def test_output_that_is_taken(run: RunResult, dataset: Dataset, tmp_path: Path):
    with pytest.raises(InputError, match="--resume"):
        pretrain(dataset.folder, run.folder, MODEL, TRAINING)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="is not empty"):
        pretrain(dataset.folder, tmp_path, MODEL, TRAINING)
    with pytest.raises(InputError, match="holds no training run"):
        resume(tmp_path)
    (tmp_path / "early").mkdir()
    (tmp_path / "early" / "metrics.jsonl").write_text('{"step": 1, "loss": 9.0}\n')  # stopped before a checkpoint
    pretrain(dataset.folder, tmp_path / "early", MODEL, replace(TRAINING, steps=1))
    assert all(line.get("loss") != 9.0 for line in read_metrics(tmp_path / "early"))


def test_a_context_longer_than_the_text(dataset: Dataset, tmp_path: Path):
    with pytest.raises(InputError, match="longer than the training text"):
        pretrain(dataset.folder, tmp_path / "run", replace(MODEL, context=10**7), TRAINING)


@pytest.mark.parametrize(
    "fields, named",
    [
        ({"steps": 1, "budget": "1min"}, "only one of --budget, --steps"),
        ({"batch": 0}, "--batch"),
        ({"budget": "10"}, "--budget 10: give a time with its unit"),
        ({"tokens": "many"}, "--tokens many"),
        ({"learning_rate": -1.0, "beta2": 1.0}, "--learning-rate.*--beta2"),
        ({"warmup": 2.0}, "--warmup"),
    ],
)
def test_settings_that_make_no_sense(fields: dict[str, object], named: str):
    with pytest.raises(InputError, match=named):
        TrainSettings(**fields)  # pyright: ignore[reportArgumentType]


def test_runs_outside_the_main_thread(dataset: Dataset, tmp_path: Path):
    thread = threading.Thread(
        target=pretrain, args=(dataset.folder, tmp_path / "run", MODEL, replace(TRAINING, steps=1))
    )
    thread.start()
    thread.join()
    assert (tmp_path / "run" / "model.safetensors").exists()


def test_run_settings_survive_the_file(run: RunResult):
    settings = read_run(run.folder)["settings"]
    assert settings["width"] == 32 and settings["learning_rate"] == 0.01 and "epochs" not in settings
    assert json.loads((run.folder / "config.json").read_text())["model_type"] == "llama"


def test_out_of_memory_halves_the_rows_and_changes_nothing(
    run: RunResult,
    dataset: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    """A model that takes one row at a time only, as a full memory would."""
    forward = CausalObjective.forward

    def small(self: CausalObjective, inputs_BT: torch.Tensor, *others: Any, **more: Any) -> torch.Tensor:
        if len(inputs_BT) > 1 and torch.is_grad_enabled() and self.training:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory")
        return forward(self, inputs_BT, *others, **more)

    monkeypatch.setattr("wenloom.training.setup.step_memory", lambda *_: StepMemory(0.0, 1.0, 1.0))
    monkeypatch.setattr(CausalObjective, "forward", small)
    squeezed = pretrain(dataset.folder, tmp_path / "run", MODEL, TRAINING)
    assert "going on with 1 sequences at a time" in capsys.readouterr().err
    for name, tensor in weights(run.folder).items():
        assert tensor.allclose(weights(squeezed.folder)[name], atol=2e-4), name
    monkeypatch.setattr(learner_module, "is_out_of_memory", lambda error: True)
    monkeypatch.setattr(CausalObjective, "forward", lambda *_, **__: (_ for _ in ()).throw(MemoryError()))
    with pytest.raises(WenloomError, match="One sequence alone does not fit"):
        pretrain(dataset.folder, tmp_path / "none", MODEL, TRAINING)


def test_recomputing_activations_changes_nothing(run: RunResult, dataset: Dataset, tmp_path: Path):
    dropout = replace(MODEL, dropout=0.2)
    plain = pretrain(dataset.folder, tmp_path / "plain", dropout, TRAINING)
    again = pretrain(dataset.folder, tmp_path / "again", dropout, replace(TRAINING, recompute=True))
    assert same_weights(plain.folder, again.folder) and not same_weights(plain.folder, run.folder)


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Text in which there is nothing to learn but itself."""
    drawn = random.Random(0)
    folder = tmp_path_factory.mktemp("noise")
    (folder / "noise.txt").write_text("".join(drawn.choice("abcdefghijklmnopqrstuvwxyz \n") for _ in range(3000)))
    return prepare([str(folder / "noise.txt")], folder / "data", PrepareOptions("char")).dataset


def test_the_best_model_is_kept_and_rising_validation_is_said(
    noise: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    training = replace(TRAINING, steps=150, evaluations=10, schedule="wsd")
    learned = pretrain(noise.folder, tmp_path / "run", replace(MODEL, width=64), training)
    losses = {
        line["step"]: line["validation"]["nats_per_token"]
        for line in read_metrics(learned.folder)
        if "validation" in line
    }
    best = min(losses, key=lambda step: losses[step])
    assert learned.best_step == best < 150 and learned.loss.nats_per_token == pytest.approx(losses[best])
    assert capsys.readouterr().err.count("learns its text by heart") == 1
    last = latest_checkpoint(learned.folder)
    assert last is not None and last.name == "step-00000150" and not same_weights(learned.folder, last)
    stopped = pretrain(noise.folder, tmp_path / "early", replace(MODEL, width=64), replace(training, patience=2))
    assert stopped.steps < 150 and stopped.best_step == best and same_weights(stopped.folder, learned.folder)
    assert read_run(stopped.folder)["result"]["of_steps"] == stopped.steps


def test_samples_that_quote_the_training_text_are_told(dataset: Dataset, tmp_path: Path):
    quoted = dataset.tokenizer().decode(dataset.stream("train").window(5, 30).tolist())

    def show(decoder: Decoder, tokenizer: TextTokenizer, until: float | None) -> SamplePreview:
        return SamplePreview([Sample("", quoted)])

    run = pretrain(dataset.folder, tmp_path / "run", MODEL, replace(TRAINING, steps=2, evaluations=1), show)
    assert read_run(run.folder)["result"]["longest_overlap_with_training_text"].strip() == quoted.strip()


def test_the_report_is_there_while_the_run_goes_on(dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("wenloom.training.loop._REPORT_SECONDS", 0.0)
    pages = []

    def show(decoder: Decoder, tokenizer: TextTokenizer, until: float | None) -> SamplePreview:
        pages.append((tmp_path / "run" / "report.html").read_text())
        return SamplePreview()

    pretrain(dataset.folder, tmp_path / "run", MODEL, TRAINING, show)
    assert all('http-equiv="refresh"' in page and "still running" in page for page in pages) and len(pages) == 2
    assert "refresh" not in (tmp_path / "run" / "report.html").read_text()


def test_finished_runs_are_not_resumed_into_something_else(run: RunResult):
    before = weights(run.folder)
    again = resume(run.folder)
    assert again.loss == run.loss and again.steps == run.steps
    assert all(tensor.equal(before[name]) for name, tensor in weights(run.folder).items())


def test_sinks_need_their_package(dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import sys

    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(InputError, match="--wandb needs the package wandb: pip install wandb"):
        pretrain(dataset.folder, tmp_path / "run", MODEL, replace(TRAINING, wandb="mine"))


def test_a_machine_without_bf16_trains_in_fp32_and_says_so(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    plain = Hardware("cpu", "an older machine", 1, bf16=False)
    monkeypatch.setattr("wenloom.training.setup.probe", lambda device: plain)
    run = pretrain(dataset.folder, tmp_path / "run", MODEL, replace(TRAINING, precision="auto", steps=2))
    assert "Without bf16: this machine has no unit for it." in capsys.readouterr().err
    assert read_run(run.folder)["environment"]["precision"] == "fp32"

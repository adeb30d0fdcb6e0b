"""The loop: it learns, splits batches without changing them, stops and goes on exactly, loses nothing."""

import json
import math
import os
import resource
import signal
import threading
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wordloom.checkpoint.folder import load_decoder
from wordloom.core.errors import CheckpointError, InputError, WordloomError
from wordloom.model.decoder import Decoder
from wordloom.tokens.shards import Dataset
from wordloom.tokens.tokenizer import TextTokenizer
from wordloom.training.interrupt import Interrupted
from wordloom.training.loop import Result, _Run, pretrain, resume
from wordloom.training.objectives import IGNORED, _ChunkedCrossEntropy, causal_loss, evaluate
from wordloom.training.report import Sample, Showcase, ticks
from wordloom.training.schedules import cosine
from wordloom.training.settings import ModelSettings, TrainSettings
from wordloom.training.state import Metrics, latest_checkpoint, read_metrics, read_run

from ..conftest import random_decoder, tiny_config

MODEL = ModelSettings(layers=2, width=32, heads=2, context=32)
TRAINING = TrainSettings(steps=12, batch=4, learning_rate=0.01, evaluations=2, precision="fp32", device="cpu")


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_decoder(folder).state_dict()


def same_weights(one: Path, other: Path) -> bool:
    return all(tensor.equal(weights(other)[name]) for name, tensor in weights(one).items())


def stop_at(step: int) -> object:
    """Press Ctrl-C during the evaluation of a step: the loop notices after the step that follows."""
    seen: list[int] = []

    def show(decoder: Decoder, tokenizer: TextTokenizer) -> Showcase:
        seen.append(0)
        if len(seen) == step:
            os.kill(os.getpid(), signal.SIGINT)
        return Showcase([Sample("a", "b")])

    return show


@pytest.fixture(scope="module")
def run(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Result:
    return pretrain(dataset.folder, tmp_path_factory.mktemp("runs") / "run", MODEL, TRAINING)


def test_it_learns_and_writes_everything(run: Result, dataset: Dataset):
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


def test_the_same_seed_gives_the_same_model(run: Result, dataset: Dataset, tmp_path: Path):
    again = pretrain(dataset.folder, tmp_path / "again", MODEL, TRAINING)
    assert same_weights(run.folder, again.folder)
    other = pretrain(dataset.folder, tmp_path / "other", MODEL, replace(TRAINING, seed=1))
    assert not same_weights(run.folder, other.folder)


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_resume_continues_bitwise(dropout: float, dataset: Dataset, tmp_path: Path):
    model = replace(MODEL, dropout=dropout)
    whole = pretrain(dataset.folder, tmp_path / "whole", model, TRAINING)
    with pytest.raises(Interrupted, match=r"step 7 of 12.*\n.*--resume"):
        pretrain(dataset.folder, tmp_path / "parts", model, TRAINING, stop_at(1))  # pyright: ignore
    assert not same_weights(whole.folder, tmp_path / "parts")
    resumed = resume(tmp_path / "parts")
    assert same_weights(whole.folder, resumed.folder) and resumed.loss == whole.loss
    logged = [(line["step"], line["loss"]) for line in read_metrics(resumed.folder) if "loss" in line]
    assert len({step for step, _ in logged}) == len(logged)  # no step twice


@pytest.mark.parametrize("micro_batch", [1, 2])
def test_splitting_a_batch_changes_nothing(micro_batch: int, run: Result, dataset: Dataset, tmp_path: Path):
    split = pretrain(dataset.folder, tmp_path / "split", MODEL, replace(TRAINING, micro_batch=micro_batch))
    for name, tensor in weights(run.folder).items():
        assert tensor.allclose(weights(split.folder)[name], atol=2e-4), name


def test_gradient_of_parts_with_unequal_numbers_of_valid_tokens(decoder: Decoder):
    """Sum over valid tokens, divided once: the gradient of the whole batch, however it is split."""
    model = random_decoder(tiny_config())
    tokens = torch.randint(2, 400, (4, 17), generator=torch.Generator().manual_seed(0))
    inputs, targets = tokens[:, :-1], tokens[:, 1:].clone()
    targets[1, 3:], targets[2] = IGNORED, IGNORED
    valid = (targets != IGNORED).sum()

    def gradient(parts: list[tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor:
        model.zero_grad()
        for x, y in parts:
            (causal_loss(model, x, y) / valid).backward()
        assert model.embed.weight.grad is not None
        return model.embed.weight.grad.clone()

    whole = gradient([(inputs, targets)])
    assert gradient(list(zip(inputs.split(1), targets.split(1), strict=True))).allclose(whole, atol=1e-5)
    assert gradient([(inputs[2:3], targets[2:3])]).abs().max() == 0  # nothing valid: nothing learned, no 0/0


@pytest.mark.parametrize("vocab_size, dtype", [(7, torch.float64), (90_000, torch.float64), (300, torch.float32)])
def test_chunked_cross_entropy_is_cross_entropy(vocab_size: int, dtype: torch.dtype):
    """Loss and gradients of the plain formula; 90,000 tokens make chunks of 16 rows."""
    from torch.nn import functional

    drawn = torch.Generator().manual_seed(0)
    hidden = torch.randn(41, 6, generator=drawn, dtype=dtype, requires_grad=True)
    weight = torch.randn(vocab_size, 6, generator=drawn, dtype=dtype, requires_grad=True)
    targets = torch.randint(0, vocab_size, (41,), generator=drawn)
    targets[[3, 20, 40]] = IGNORED
    expected = functional.cross_entropy(hidden @ weight.T, targets, ignore_index=IGNORED, reduction="sum")
    actual = _ChunkedCrossEntropy.apply(hidden, weight, targets)
    assert actual.item() == pytest.approx(expected.item(), rel=1e-6)
    for ours, theirs in zip(
        torch.autograd.grad(3 * actual, [hidden, weight]),
        torch.autograd.grad(3 * expected, [hidden, weight]),
        strict=True,
    ):
        assert ours.allclose(theirs, atol=1e-4 if dtype == torch.float32 else 1e-9)


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_bf16_training_gradients_point_the_same_way(architecture: str):
    tokens = torch.randint(2, 400, (4, 33), generator=torch.Generator().manual_seed(0))
    gradients = []
    for enabled in (False, True):
        model = Decoder(tiny_config(architecture=architecture))
        model.initialise(torch.Generator().manual_seed(1))
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            causal_loss(model, tokens[:, :-1], tokens[:, 1:]).backward()
        gradients.append(
            torch.cat([parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None])
        )
    assert torch.cosine_similarity(*gradients, dim=0) > 0.999


@given(context=st.integers(3, 60))
def test_evaluation_counts_every_token_once(context: int):
    """Against a loop that predicts token after token, each from its own window."""
    decoder, n_tokens = random_decoder(tiny_config(context_length=64)), 50
    from wordloom.tokens.shards import Split, TokenStream

    tokens = torch.randint(0, 400, (n_tokens,), generator=torch.Generator().manual_seed(context))
    stream = TokenStream([tokens.numpy().astype("uint16")])
    loss = evaluate(decoder, stream, Split(1, 200, 100, n_tokens), context, batch_tokens=2 * context)
    expected = 0.0
    for place in range(1, n_tokens):
        begin = (place - 1) // context * context
        with torch.no_grad():
            expected -= float(decoder(tokens[None, begin:place])[0, -1].log_softmax(-1)[tokens[place]])
    assert loss.nats == pytest.approx(expected, rel=1e-4) and loss.tokens == n_tokens - 1
    assert loss.bits_per_byte == pytest.approx(expected / math.log(2) / 200, rel=1e-4)
    assert loss.nats_per_character == pytest.approx(expected / 100, rel=1e-4)


def test_a_full_disk_costs_nothing(dataset: Dataset, tmp_path: Path):
    """Files may not grow beyond a limit that the second checkpoint exceeds: a real refusal by the system."""
    training = replace(TRAINING, evaluations=1)
    with pytest.raises(Interrupted):
        pretrain(dataset.folder, tmp_path / "run", MODEL, replace(TRAINING, evaluations=12), stop_at(2))  # pyright: ignore
    checkpoint = latest_checkpoint(tmp_path / "run")
    assert checkpoint is not None
    before = {
        path: path.read_bytes()
        for path in (tmp_path / "run").rglob("*")
        if path.is_file() and path.name not in ("metrics.jsonl", "run.toml")
    }
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(WordloomError, match="could not be written"):
            resume(tmp_path / "run")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert {path: path.read_bytes() for path in before} == before
    assert latest_checkpoint(tmp_path / "run") == checkpoint
    assert not list((tmp_path / "run").rglob(".*"))  # nothing half-written stays
    resumed = resume(tmp_path / "run")
    assert same_weights(resumed.folder, pretrain(dataset.folder, tmp_path / "whole", MODEL, training).folder)


def test_gradients_that_explode_stop_the_run(dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_Run, "_gradients", lambda self, first, step: (math.nan, 1.0))
    with pytest.raises(WordloomError, match=r"not finite at step 0.*smaller --learning-rate"):
        pretrain(dataset.folder, tmp_path / "run", MODEL, TRAINING)


def test_output_that_is_taken(run: Result, dataset: Dataset, tmp_path: Path):
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


def test_resume_refuses_another_corpus(run: Result, dataset: Dataset, tmp_path: Path):
    import shutil

    shutil.copytree(run.folder, tmp_path / "run")
    text = (tmp_path / "run" / "run.toml").read_text().replace(dataset.key, "0" * 64)
    (tmp_path / "run" / "run.toml").write_text(text)
    with pytest.raises(InputError, match="is not the corpus"):
        resume(tmp_path / "run")


def test_resume_refuses_a_damaged_checkpoint(run: Result, tmp_path: Path):
    import shutil

    shutil.copytree(run.folder, tmp_path / "run")
    checkpoint = latest_checkpoint(tmp_path / "run")
    assert checkpoint is not None
    file = checkpoint / "optimizer.safetensors"
    file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(CheckpointError, match="cannot be resumed"):
        resume(tmp_path / "run")


def test_a_context_longer_than_the_text(dataset: Dataset, tmp_path: Path):
    with pytest.raises(InputError, match="longer than the training text"):
        pretrain(dataset.folder, tmp_path / "run", replace(MODEL, context=10**7), TRAINING)


@pytest.mark.parametrize(
    "fields, named",
    [
        ({"steps": 1, "minutes": 1.0}, "only one of --steps, --minutes"),
        ({"batch": 0}, "--batch"),
        ({"batch": 6, "micro_batch": 4}, "--micro-batch"),
        ({"learning_rate": -1.0, "beta2": 1.0}, "--learning-rate.*--beta2"),
        ({"warmup": 2.0}, "--warmup"),
    ],
)
def test_settings_that_make_no_sense(fields: dict[str, float], named: str):
    with pytest.raises(InputError, match=named):
        TrainSettings(**fields)  # pyright: ignore[reportArgumentType]


@given(st.integers(1, 500), st.floats(0, 1))
def test_cosine_rises_then_falls_to_the_floor(n_steps: int, floor: float):
    warmup = max(1, n_steps // 20)
    rates = [cosine(step, n_steps, warmup, floor) for step in range(n_steps)]
    assert rates[:warmup] == sorted(rates[:warmup]) and rates[warmup - 1 :] == sorted(rates[warmup - 1 :], reverse=True)
    assert max(rates) <= 1 and (n_steps < 50 or rates[-1] == pytest.approx(floor, abs=0.02))


def test_runs_outside_the_main_thread(dataset: Dataset, tmp_path: Path):
    thread = threading.Thread(
        target=pretrain, args=(dataset.folder, tmp_path / "run", MODEL, replace(TRAINING, steps=1))
    )
    thread.start()
    thread.join()
    assert (tmp_path / "run" / "model.safetensors").exists()


def test_metrics_of_a_killed_run_are_cut_at_the_checkpoint(tmp_path: Path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"ste')
    metrics = Metrics(tmp_path, 2)
    metrics.add(step=3, loss=1.0)
    assert [line["step"] for line in read_metrics(tmp_path)] == [1, 2, 3]


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_ticks_are_inside_and_evenly_spaced(low: float, width: float):
    found = ticks(low, low + width)
    assert 2 <= len(found) <= 12 or width < abs(low) * 1e-9
    gaps = [b - a for a, b in pairwise(found)]
    assert all(gap == pytest.approx(gaps[0], rel=1e-3, abs=1e-9) for gap in gaps)


def test_run_settings_survive_the_file(run: Result):
    settings = read_run(run.folder)["settings"]
    assert settings["width"] == 32 and settings["learning_rate"] == 0.01 and "epochs" not in settings
    assert json.loads((run.folder / "config.json").read_text())["model_type"] == "llama"

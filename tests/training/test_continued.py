"""Pretraining that goes on with a trained model."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import torch

from wenloom.checkpoint.folder import load_decoder, write_model_files
from wenloom.cli.pretrain import change, summary
from wenloom.core.errors import InputError
from wenloom.model.build import build
from wenloom.model.presets import encoder_from_scratch
from wenloom.tokens.batches import Samples
from wenloom.tokens.prepare import PrepareOptions, prepare
from wenloom.tokens.shards import Dataset
from wenloom.training.history import read_metrics
from wenloom.training.objectives import CausalObjective, evaluate
from wenloom.training.pretrain import corpus_of, finished_result, pretrain, resume
from wenloom.training.run_file import read_run
from wenloom.training.settings import InitSettings, ModelSettings, TrainSettings
from wenloom.training.source import CorpusSource, MixedSource

from ..cli.calling import call, refused
from .runs import MODEL, TRAINING, same_weights, weights
from .test_resume import Interrupted, stop_at

FEW = replace(TRAINING, steps=8, learning_rate=None)


@pytest.fixture(scope="module")
def trained(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pretrain(dataset.folder, tmp_path_factory.mktemp("trained") / "run", MODEL, TRAINING).folder


@pytest.fixture(scope="module")
def other(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Other text in the model's vocabulary."""
    folder = tmp_path_factory.mktemp("other")
    lines = [
        f"The {number} lamps went {word} and never came back.\n" for number in range(300) for word in ("out", "on")
    ]
    (folder / "text.txt").write_text("".join(lines))
    return Dataset.open(corpus_of(folder / "text.txt", folder / "run", str(trained)))


@pytest.mark.parametrize("method", ["full", "lora", "dora"])
def test_what_it_began_with_is_validated_and_bettered(method: str, trained: Path, other: Dataset, tmp_path: Path):
    init = InitSettings(init=str(trained), method=method)  # pyright: ignore
    result = pretrain(other.folder, tmp_path / "run", training=replace(FEW, evaluations=1), init=init)
    first, last = [line for line in read_metrics(tmp_path / "run") if "validation" in line]
    assert (first["step"], last["step"]) == (0, 8)
    assert last["validation"]["nats_per_token"] < first["validation"]["nats_per_token"] - 0.1
    assert result.loss.nats_per_token == pytest.approx(last["validation"]["nats_per_token"])
    written = {path.name for path in (tmp_path / "run").iterdir()}
    assert f"trained further from `{trained.name}`" in (tmp_path / "run/README.md").read_text(encoding="utf-8")
    assert ("model.safetensors" in written) == (method == "full") != ("adapter_model.safetensors" in written)
    again = evaluate(
        CausalObjective(load_decoder(tmp_path / "run")), other.stream("validation"), result.loss, MODEL.context or 0
    )
    assert again.nats_per_token == pytest.approx(result.loss.nats_per_token, rel=1e-3)


def test_the_change_is_told_with_the_interval_of_a_paired_test(
    trained: Path, other: Dataset, dataset: Dataset, tmp_path: Path
):
    """As Student's test of scipy has it, which assumes more."""
    kept = InitSettings(init=str(trained), keep_data=str(dataset.folder), keep=0.2)
    for name, init in (("run", InitSettings(init=str(trained))), ("kept", kept)):
        result = pretrain(other.folder, tmp_path / name, training=FEW, init=init)
        assert result.pieces is not None
        before, now = (np.array(each) for each in result.pieces)
        bits = 1 / math.log(2) / result.loss.bytes
        assert before.sum() * bits == pytest.approx(result.before["bits_per_byte"])
        assert now.sum() * bits == pytest.approx(result.loss.bits_per_byte)
        found = change(result)
        assert found is not None and found.difference == pytest.approx(
            result.loss.bits_per_byte - result.before["bits_per_byte"]
        )
        low, high = scipy.stats.ttest_rel(now, before).confidence_interval()
        scale = len(now) * bits
        assert found.low < found.difference < found.high < 0
        assert found.high - found.low == pytest.approx(scale * (high - low), rel=0.5)
        line = next(line for line in summary(result).splitlines() if line.startswith("  change"))
        assert f"{found.difference:+.3f} bits per byte, {found.low:+.3f} to {found.high:+.3f}" in line
        again = finished_result(tmp_path / name)
        assert again is not None and summary(again) == summary(result)
    alone = pretrain(other.folder, tmp_path / "few", training=replace(FEW, validation_part=0.01), init=init)
    assert change(alone) is None and "too little text for an interval" in summary(alone)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_it_is_resumed_bitwise_wherever_it_was_stopped(method: str, trained: Path, other: Dataset, tmp_path: Path):
    init = InitSettings(init=str(trained), method=method, keep_data=str(other.folder), keep=0.3)  # pyright: ignore
    whole = pretrain(other.folder, tmp_path / "whole", training=FEW, init=init)
    for number in (1, 2):
        run = tmp_path / f"stopped-{number}"
        with pytest.raises(Interrupted):
            pretrain(other.folder, run, training=FEW, show=stop_at(number), init=init)  # pyright: ignore
        resumed = resume(run)
        if method == "full":
            assert same_weights(whole.folder, run)
        assert resumed.loss == whole.loss
        assert next(line["step"] for line in read_metrics(run) if "validation" in line) == 0


def test_a_model_that_learns_nothing_stays_the_model_it_was(trained: Path, other: Dataset, tmp_path: Path):
    init = InitSettings(init=str(trained))
    pretrain(other.folder, tmp_path / "run", training=replace(FEW, learning_rate=1e-12), init=init)
    before = weights(trained)
    assert all(torch.allclose(before[name], each, atol=1e-7) for name, each in weights(tmp_path / "run").items())
    assert same_weights(trained, tmp_path / "run") or read_run(tmp_path / "run")["result"]["best_step"] > 0


def test_kept_samples_are_evenly_mixed_and_each_text_is_read_in_its_own_order(dataset: Dataset, other: Dataset):
    first = CorpusSource(dataset.stream("train"), 16, 4, 0)
    second = CorpusSource(other.stream("train"), 16, 4, 0)
    mixed = MixedSource(first, second, 0.3)
    places = [mixed.place(sample) for sample in range(1000)]
    assert sum(source for source, _ in places) == 300
    for source in (0, 1):
        assert [number for each, number in places if each == source] == list(
            range(1000 - 700 * source - 300 * (1 - source))
        )
    rows = mixed.rows(0, 40)["inputs_BT"]
    own = [Samples(each.stream("train"), 16, 0) for each in (dataset, other)]
    for row, (source, number) in zip(rows, places, strict=False):
        assert row.equal(own[source].batch(number, 1)[0][0])
    assert mixed.rows(7, 9)["inputs_BT"].equal(rows[7:9])


def test_what_is_kept_is_validated_beside(trained: Path, dataset: Dataset, other: Dataset, tmp_path: Path):
    kept = InitSettings(init=str(trained), keep_data=str(dataset.folder), keep=0.5)
    pretrain(other.folder, tmp_path / "kept", training=FEW, init=kept)
    alone = InitSettings(init=str(trained))
    pretrain(other.folder, tmp_path / "alone", training=FEW, init=alone)
    figures = read_run(tmp_path / "kept")["result"]
    first = next(line for line in read_metrics(tmp_path / "kept") if "validation" in line)["validation"]
    assert first["kept_bits_per_byte"] < first["bits_per_byte"]  # it comes from that text
    assert figures["validation_kept_bits_per_byte"] < 1.1 * first["kept_bits_per_byte"]
    assert "validation_kept_bits_per_byte" not in read_run(tmp_path / "alone")["result"]


def test_another_vocabulary_is_refused_with_the_way_to_the_model_s(trained: Path, tmp_path: Path):
    (tmp_path / "text.txt").write_text("The lamp went out. " * 300)
    foreign = prepare([str(tmp_path / "text.txt")], tmp_path / "foreign", PrepareOptions(kind="char")).dataset
    said = refused("pretrain", foreign.folder, "--init", trained, "--out", tmp_path / "run", cwd=tmp_path)
    assert "another vocabulary" in said and f"wenloom prepare TEXT --tokenizer {trained}" in said
    assert not (tmp_path / "run").exists()


def test_a_text_that_the_vocabulary_does_not_know_is_told(trained: Path, tmp_path: Path):
    (tmp_path / "text.txt").write_text("床前明月光疑是地上霜舉頭望明月低頭思故鄉" * 40 + "\n")
    done = call("pretrain", "text.txt", "--init", trained, "--out", "run", "--steps", 1, "--batch", 2, cwd=tmp_path)
    assert done.code == 0 and "tokens a character" in done.err, done


def test_an_encoder_is_refused(other: Dataset, tmp_path: Path):
    tokenizer = other.tokenizer()
    config = encoder_from_scratch("bert", vocab_size=tokenizer.vocab_size, n_layers=1, d_model=32, n_heads=2,
                                  context_length=32, dropout=0.0, pad_token_id=0)  # fmt: skip
    (tmp_path / "encoder").mkdir()
    write_model_files(build(config), tmp_path / "encoder")
    tokenizer.save_pretrained(tmp_path / "encoder")
    said = refused("pretrain", other.folder, "--init", "encoder", "--out", "run", cwd=tmp_path)
    assert "predicts no next tokens" in said and not (tmp_path / "run").exists()


def test_a_model_in_place_of_text_is_refused_with_how_to_go_on_with_it(trained: Path, tmp_path: Path):
    assert f"--init {trained}" in refused("pretrain", trained, "--out", "run", cwd=tmp_path)


def test_a_context_longer_than_the_model_s_is_refused(trained: Path, other: Dataset, tmp_path: Path):
    with pytest.raises(InputError, match=r"--context 64: .* reads 32 tokens at once"):
        pretrain(other.folder, tmp_path / "run", ModelSettings(context=64), TrainSettings(), init=InitSettings(init=str(trained)))  # fmt: skip

"""A debiasing that is interrupted by a signal goes on to its very end: the model is that of a call that nobody stopped."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.calling import call, refused
from tests.conftest import random_decoder, tiny_config
from wenloom.checkpoint.folder import write_model_files
from wenloom.fairness.unfinished import unfinished_file
from wenloom.tokens.tokenizer import TextTokenizer

TEXTS = [
    f"The {noun} {n} was here: {word} lit it." for n in range(100) for noun, word in (("lamp", "she"), ("boat", "he"))
]
STEPS = 40


@pytest.fixture
def folder(tokenizer: TextTokenizer, tmp_path: Path) -> Path:
    (tmp_path / "model").mkdir()
    write_model_files(random_decoder(tiny_config(tokenizer.vocab_size, context_length=64)), tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps({"text": each}) + "\n" for each in TEXTS), "utf-8")
    return tmp_path


def asked(out: str, *more: object) -> tuple[object, ...]:
    return "debias", "model", "--method", "cda,leace", "--data", "texts.jsonl", "--steps", STEPS, "--out", out, *more


def stopped(folder: Path, *arguments: object, run: Path) -> str:
    """What a command says that is stopped by a signal in the midst of a training."""
    process = subprocess.Popen([sys.executable, "-m", "wenloom", *map(str, arguments)], cwd=folder, stderr=subprocess.PIPE, text=True,
                               env=os.environ | {"PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))})  # fmt: skip
    metrics = run / "metrics.jsonl"
    while process.poll() is None and not (metrics.exists() and '"loss"' in metrics.read_text("utf-8")):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    said = process.stderr.read()
    assert process.wait() == 130, said
    return said


def test_after_ctrl_c_every_step_is_gone_through(folder: Path):
    said = stopped(folder, *asked("a/fair"), run=folder / "a/fair-trained")
    assert "wenloom debias --resume a/fair" in said and "pretrain" not in said
    assert not (folder / "a/fair").exists() and unfinished_file(folder / "a/fair").exists()
    assert "Go on with: wenloom debias --resume a/fair" in refused(*asked("a/fair"), cwd=folder)
    assert "wenloom debias --resume a/fair" in call("info", "a/fair-trained", cwd=folder).out
    done = call("debias", "--resume", "a/fair", "--json", cwd=folder)
    assert done.code == 0, done
    found = json.loads(done.out)
    assert found["training"]["steps"] == STEPS and found["erasure"]["directions"] == 1
    assert not unfinished_file(folder / "a/fair").exists()
    assert call(*asked("whole"), cwd=folder).code == 0
    weights = [(folder / each / "model.safetensors").read_bytes() for each in ("a/fair", "whole")]
    assert weights[0] == weights[1]
    assert "holds no debiasing that was interrupted (it is whole)" in refused("debias", "--resume", "whole", cwd=folder)


def test_what_is_stopped_while_it_erases_is_not_trained_again(folder: Path, monkeypatch: pytest.MonkeyPatch):
    def stop(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patched:
        patched.setattr("wenloom.fairness.debias.erase", stop)
        done = call(*asked("fair"), cwd=folder)
    assert done.code == 130 and "wenloom debias --resume fair" in done.err, done
    before = (folder / "fair-trained/metrics.jsonl").read_bytes()
    (folder / "texts.jsonl").rename(folder / "moved.jsonl")
    assert "texts.jsonl" in refused("debias", "--resume", "fair", cwd=folder)
    (folder / "texts.jsonl").write_text('{"text": "She saw him."}\n', "utf-8")
    assert "are not those that it was begun with" in refused("debias", "--resume", "fair", cwd=folder)
    (folder / "moved.jsonl").replace(folder / "texts.jsonl")
    assert call("debias", "--resume", "fair", cwd=folder).code == 0
    assert (folder / "fair/model.safetensors").exists()
    assert (folder / "fair-trained/metrics.jsonl").read_bytes() == before


def test_what_is_stopped_before_its_first_step_claims_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch):
    def stop(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patched:
        patched.setattr("wenloom.fairness.debias.prepare", stop)
        done = call(*asked("fair"), cwd=folder)
    assert (
        done.code == 130 and "before anything was saved" in done.err and "trained" not in done.err.split("Continue")[0]
    ), done
    assert not (folder / "fair-trained/checkpoints").exists()
    assert call("debias", "--resume", "fair", cwd=folder).code == 0
    assert (folder / "fair/model.safetensors").exists()


def test_what_cannot_go_on_is_said(folder: Path):
    assert "holds no debiasing that was interrupted" in refused("debias", "--resume", "fair", cwd=folder)
    assert "leave --method out" in refused("debias", "--resume", "fair", "--method", "cda", cwd=folder)
    unfinished_file(folder / "fair").write_text('{"model": 3}', "utf-8")
    assert "fair-debias.json: is damaged" in refused("debias", "--resume", "fair", cwd=folder)


def test_a_call_that_fails_leaves_nothing_to_go_on_with(folder: Path):
    (folder / "few.txt").write_text("She lit the lamp.\n", "utf-8")
    arguments = ("debias", "model", "--method", "cda,leace", "--data", "few.txt", "--out", "fair")
    assert "takes 128 of them" in refused(*arguments, cwd=folder)
    assert {each.name for each in folder.iterdir()} == {"model", "texts.jsonl", "few.txt"}

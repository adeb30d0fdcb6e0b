"""Stopped, killed, out of disk, in other company: the run comes to the same end."""

import os
import random
import resource
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from wenloom.core.errors import CheckpointError, InputError, WenloomError
from wenloom.model.decoder import Decoder
from wenloom.tokens.shards import Dataset
from wenloom.tokens.tokenizer import TextTokenizer
from wenloom.training.checkpoints import latest_checkpoint
from wenloom.training.history import History, read_metrics
from wenloom.training.interrupt import Interrupted
from wenloom.training.lock import LOCK
from wenloom.training.pretrain import pretrain, resume
from wenloom.training.report import Sample, SamplePreview
from wenloom.training.run_file import read_run
from wenloom.training.settings import TrainSettings

from .runs import MODEL, TRAINING, same_weights


def stop_at(step: int) -> object:
    """Press Ctrl-C during the evaluation of a step: the loop notices after the step that follows."""
    seen: list[int] = []

    def show(decoder: Decoder, tokenizer: TextTokenizer, until: float | None) -> SamplePreview:
        seen.append(0)
        if len(seen) == step:
            os.kill(os.getpid(), signal.SIGINT)
        return SamplePreview([Sample("a", "b")])

    return show


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


RUN = """
import sys
from dataclasses import replace
from pathlib import Path
from wenloom.training.lock import LOCK
from wenloom.training.pretrain import pretrain, resume
from wenloom.training.settings import ModelSettings, TrainSettings
from wenloom.training.checkpoints import latest_checkpoint
data, out = Path(sys.argv[1]), Path(sys.argv[2])
if latest_checkpoint(out):
    resume(out)
else:
    pretrain(data, out, ModelSettings(**eval(sys.argv[3])), TrainSettings(**eval(sys.argv[4])))
"""
"""Goes on with a run, or begins it."""


def settings_of(settings: object) -> str:
    return repr({name: getattr(settings, name) for name in settings.__dataclass_fields__})  # pyright: ignore


def started(
    data: Path, out: Path, model: object, training: TrainSettings, processes: int = 1
) -> subprocess.Popen[bytes]:
    """The run in processes of its own, which can be killed."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes > 1 else []
    script = out.parent / "run.py"
    script.write_text(RUN)
    return subprocess.Popen(
        [sys.executable, *launcher, str(script), str(data), str(out), settings_of(model), settings_of(training)],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, start_new_session=True, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def killed_somewhere(process: subprocess.Popen[bytes], out: Path, drawn: random.Random) -> None:
    """kill -9 for it and its descendants, soon after it has saved something new; or it came to its end before."""
    before, patience = latest_checkpoint(out), time.monotonic() + 120
    while latest_checkpoint(out) == before and process.poll() is None and time.monotonic() < patience:
        time.sleep(0.01)
    time.sleep(drawn.uniform(0, 0.4))
    if process.poll() is None:
        launcher = psutil.Process(process.pid)
        for each in (launcher, *launcher.children(recursive=True)):  # the launcher gives each worker its own session
            with suppress(psutil.NoSuchProcess):
                each.kill()
    process.wait()


@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_kill_9_costs_nothing(kills: int, dataset: Dataset, tmp_path: Path):
    """Killed again and again at moments of chance, while it computes, evaluates or saves (almost all the time)."""
    model = replace(MODEL, dropout=0.1)
    training = replace(TRAINING, steps=400 * kills // 3, evaluations=2 * kills, save_minutes=0.001, batch=8)
    drawn, out = random.Random(kills), tmp_path / "killed"
    for _ in range(kills):
        killed_somewhere(started(dataset.folder, out, model, training), out, drawn)
    assert started(dataset.folder, out, model, training).wait() == 0
    whole = pretrain(dataset.folder, tmp_path / "whole", model, training)
    assert same_weights(whole.folder, out)
    evaluations = [[line for line in read_metrics(each) if "validation" in line] for each in (out, whole.folder)]
    curves = [[(line["step"], line["validation"]) for line in lines] for lines in evaluations]
    assert curves[0] == curves[1] and len(curves[0]) == 2 * kills
    assert read_run(out)["result"]["best_step"] == whole.best_step


def test_other_numbers_of_processes_continue_the_same_curve(dataset: Dataset, tmp_path: Path):
    """Begun by 2 processes and killed, gone on by 4 and killed, finished by 1: as one process alone, but for the order of sums, which
    sixty steps at a high rate make a hundredfold larger (to 2e-5)."""
    model = replace(MODEL, dropout=0.1, width=64)
    training = replace(TRAINING, steps=60, evaluations=6, save_minutes=0.001, batch=8)
    out, drawn = tmp_path / "elastic", random.Random(0)
    for processes in (2, 4):
        killed_somewhere(started(dataset.folder, out, model, training, processes), out, drawn)
    assert latest_checkpoint(out) is not None
    assert started(dataset.folder, out, model, training).wait() == 0
    whole = pretrain(dataset.folder, tmp_path / "whole", model, training)
    curves = [
        [line["validation"]["nats_per_token"] for line in read_metrics(each) if "validation" in line]
        for each in (out, whole.folder)
    ]
    assert curves[0] == pytest.approx(curves[1], rel=1e-4) and len(curves[0]) == 6


def test_an_evaluation_that_was_missed_is_made_up_for(dataset: Dataset, tmp_path: Path):
    """Killed after the checkpoint was written and before its evaluation was."""
    whole = pretrain(dataset.folder, tmp_path / "whole", MODEL, TRAINING)

    def fail(decoder: Decoder, tokenizer: TextTokenizer, until: float | None) -> SamplePreview:
        raise RuntimeError("the lights went out")

    with pytest.raises(RuntimeError, match="lights"):
        pretrain(dataset.folder, tmp_path / "run", MODEL, TRAINING, fail)
    assert not any("validation" in line for line in read_metrics(tmp_path / "run"))
    resumed = resume(tmp_path / "run")
    steps = [line["step"] for line in read_metrics(resumed.folder) if "validation" in line]
    assert steps == [6, 12] and same_weights(resumed.folder, whole.folder)


def test_a_full_disk_costs_nothing(dataset: Dataset, tmp_path: Path):
    """Files may not grow beyond a limit that the second checkpoint exceeds: a real refusal by the system."""
    training = replace(TRAINING, evaluations=1)
    with pytest.raises(Interrupted):
        pretrain(dataset.folder, tmp_path / "run", MODEL, replace(TRAINING, evaluations=12), stop_at(2))  # pyright: ignore
    checkpoint = latest_checkpoint(tmp_path / "run")
    assert checkpoint is not None
    before = {path: path.read_bytes() for path in checkpoint.iterdir()}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(WenloomError, match="could not be written"):
            resume(tmp_path / "run")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert {path: path.read_bytes() for path in before} == before
    assert latest_checkpoint(tmp_path / "run") == checkpoint
    assert [path.name for path in (tmp_path / "run").rglob(".*")] == [LOCK]  # nothing half-written stays
    resumed = resume(tmp_path / "run")
    assert same_weights(resumed.folder, pretrain(dataset.folder, tmp_path / "whole", MODEL, training).folder)


@pytest.fixture
def finished(dataset: Dataset, tmp_path: Path) -> Path:
    return pretrain(dataset.folder, tmp_path / "run", MODEL, replace(TRAINING, steps=2, evaluations=1)).folder


def test_resume_refuses_another_corpus(finished: Path, dataset: Dataset):
    text = (finished / "run.toml").read_text().replace(dataset.key, "0" * 64)
    (finished / "run.toml").write_text(text)
    with pytest.raises(InputError, match="is not the corpus"):
        resume(finished)


def test_resume_refuses_a_damaged_checkpoint(finished: Path):
    checkpoint = latest_checkpoint(finished)
    assert checkpoint is not None
    file = checkpoint / "optimizer.safetensors"
    file.write_bytes(file.read_bytes()[:-50])
    with pytest.raises(CheckpointError, match=r"optimizer\.safetensors: has [\d,]+ bytes, [\d,]+ were written"):
        resume(finished)


def test_metrics_of_a_killed_run_are_cut_at_the_checkpoint(tmp_path: Path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"ste')
    history = History(tmp_path, 2, writes=True)
    history.add(step=3, loss=1.0)
    assert [line["step"] for line in read_metrics(tmp_path)] == [1, 2, 3]

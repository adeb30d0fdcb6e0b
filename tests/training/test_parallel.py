"""One process, copies and parts: the same loss. In processes of their own, with gloo on the CPU."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from wenloom.core.errors import InputError
from wenloom.tokens.shards import Dataset
from wenloom.training.history import read_metrics
from wenloom.training.parallel import World
from wenloom.training.pretrain import pretrain
from wenloom.training.scratch import CorpusStatistics, scratch_run
from wenloom.training.settings import ModelSettings, TrainSettings
from wenloom.training.setup import set_up

from .runs import MODEL, TRAINING

ROOM = replace(TRAINING, steps=8, batch=8, evaluations=4)
SHAPE = replace(MODEL, dropout=0.1)

WORKER = """
import json, os, sys
import torch
from pathlib import Path
from wenloom.training.pretrain import pretrain
from wenloom.training.settings import ModelSettings, TrainSettings
data, out = Path(sys.argv[1]), Path(sys.argv[2])
torch.distributed.init_process_group("gloo")
for number, (name, group, model, training) in enumerate(json.loads(sys.argv[3])):
    if group:
        os.environ["LOCAL_WORLD_SIZE"] = str(group)
    pretrain(data, out / name, ModelSettings(**model), TrainSettings(**training))
"""


def fields(settings: ModelSettings | TrainSettings) -> dict[str, object]:
    return {name: getattr(settings, name) for name in settings.__dataclass_fields__}


def curve(run: Path) -> list[float]:
    return [line["validation"]["nats_per_token"] for line in read_metrics(run) if "validation" in line]


def torchrun(processes: int, data: Path, out: Path, runs: list[tuple[str, int, TrainSettings]]) -> str:
    """Several runs, one after the other, by the same processes; returns what they printed."""
    (out / "worker.py").write_text(WORKER)
    asked = [(name, group, fields(SHAPE), fields(training)) for name, group, training in runs]
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}",
         str(out / "worker.py"), str(data), str(out), json.dumps(asked)],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stderr


@pytest.fixture(scope="module")
def alone(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    return curve(pretrain(dataset.folder, tmp_path_factory.mktemp("alone") / "run", SHAPE, ROOM).folder)


def test_copies_and_parts_have_the_loss_of_one_process(dataset: Dataset, tmp_path: Path, alone: list[float]):
    runs = [
        ("ddp", 0, replace(ROOM, parallel="ddp")),
        ("fsdp", 0, replace(ROOM, parallel="fsdp")),
        ("in-parts", 0, replace(ROOM, parallel="fsdp", micro_batch=1)),
        ("adamw", 0, replace(ROOM, parallel="fsdp", optimizer="adamw")),
        ("bf16", 0, replace(ROOM, parallel="fsdp", precision="bf16")),
        ("uneven", 0, replace(ROOM, parallel="ddp", micro_batch=3)),
    ]
    said = torchrun(2, dataset.folder, tmp_path, runs)
    assert said.count("2 processes, ddp") == 2 and said.count("2 processes, fsdp") == 4  # one speaks for all
    for name in ("ddp", "fsdp", "in-parts", "uneven"):
        assert curve(tmp_path / name) == pytest.approx(alone, rel=1e-6), name
    assert curve(tmp_path / "bf16") == pytest.approx(alone, rel=0.02)
    by_adamw = pretrain(dataset.folder, tmp_path / "adamw-alone", SHAPE, replace(ROOM, optimizer="adamw"))
    assert curve(tmp_path / "adamw") == pytest.approx(curve(by_adamw.folder), rel=1e-6)


@pytest.mark.slow
def test_parts_within_groups_that_repeat_each_other(dataset: Dataset, tmp_path: Path, alone: list[float]):
    torchrun(4, dataset.folder, tmp_path, [("hsdp", 2, replace(ROOM, parallel="hsdp"))])
    assert curve(tmp_path / "hsdp") == pytest.approx(alone, rel=1e-6)


def test_more_processes_than_sequences(dataset: Dataset):
    with pytest.raises(InputError, match="--batch 2: give every one of the 4 processes"):
        world = _FourProcesses()
        set_up(scratch_run(CorpusStatistics.of(dataset), SHAPE, replace(ROOM, batch=2), world), world)


class _FourProcesses(World):
    """Claims to be one of four, without the others."""

    def __init__(self):
        super().__init__(0, 4)

    def agreed(self, value: object) -> object:
        return value

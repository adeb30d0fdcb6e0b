"""A run folder is ours as far as we made it: locked, whatever else lies in it left alone, damage told in a sentence."""

import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import random_decoder, tiny_config
from wenloom.checkpoint.folder import load_model, write_model_files
from wenloom.cli.app import main
from wenloom.cli.info import info
from wenloom.core.errors import CheckpointError, InputError, WenloomError
from wenloom.core.files import folder_aside, publish, write_atomically
from wenloom.tasks.settings import DataSettings, LearningSettings
from wenloom.tokens.shards import Dataset
from wenloom.tokens.tokenizer import TextTokenizer
from wenloom.training.checkpoints import OPTIMIZER, STATE, latest_checkpoint, own_checkpoints, sound_checkpoint
from wenloom.training.comparison import compare
from wenloom.training.history import read_metrics
from wenloom.training.lock import LOCK, RunIsTaken, locked
from wenloom.training.pretrain import pretrain, resume
from wenloom.training.run_file import read_run, settings_of, write_run
from wenloom.training.settings import ModelSettings, TrainSettings
from wenloom.training.sinks import open_sinks
from wenloom.training.state import Progress, Snapshot, publish_model, read_progress, write_checkpoint

from .runs import MODEL, TRAINING, same_weights


@pytest.fixture(scope="module")
def finished(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 12 steps with two evaluations."""
    return pretrain(dataset.folder, tmp_path_factory.mktemp("finished") / "run", MODEL, TRAINING).folder


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    shutil.copytree(finished, tmp_path / "run")
    return tmp_path / "run"


def snapshot(step: int) -> Snapshot:
    decoder = random_decoder(tiny_config(), seed=step)
    moments = {f"exp_avg/{name}": torch.full_like(each, step) for name, each in decoder.named_parameters()}
    return Snapshot(decoder, moments, Progress(n_steps=100, step=step, samples=4 * step))


def changed(path: Path, at: int = -9) -> None:
    """Flip a bit."""
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


# --- the lock ---

HOLD = """
import sys, time
from pathlib import Path
from wenloom.training.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_training_is_refused_by_the_name_of_the_first_until_that_is_dead(
    run: Path, dataset: Dataset, tmp_path: Path
):
    (tmp_path / "fresh").mkdir()
    for folder in (run, tmp_path / "fresh"):
        holder = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert holder.stdout and holder.stdout.readline() == b"held\n"
        content = sorted(path.name for path in folder.rglob("*"))
        named = rf"is being trained by process {holder.pid} on {os.uname().nodename} since 20\d\d-"
        with pytest.raises(RunIsTaken, match=named):
            resume(run) if folder == run else pretrain(dataset.folder, folder, MODEL, TRAINING)
        with pytest.raises(RunIsTaken, match=named), locked(folder):
            pass
        assert sorted(path.name for path in folder.rglob("*")) == content
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        with locked(folder):
            pass


def test_what_another_process_did_meanwhile_is_not_overwritten(run: Path, dataset: Dataset, monkeypatch: Any):
    """Both began together; the other came to its end before this one takes the folder."""
    latest = latest_checkpoint(run)
    assert latest
    away = run.parent / "away"
    latest.rename(away)

    def show(*_: object) -> Any:
        raise AssertionError("trained in the folder of another")

    from wenloom.training import loop

    ready = loop.locked

    def late(out: Path) -> Any:
        away.rename(latest)
        return ready(out)

    monkeypatch.setattr(loop, "locked", late)
    with pytest.raises(RunIsTaken, match="meanwhile"):
        resume(run, show)
    shutil.rmtree(run)
    run.mkdir()
    away.mkdir()
    (away / "state.json").write_text("{}")
    latest.parent.mkdir()
    with pytest.raises(RunIsTaken, match="meanwhile"):
        pretrain(dataset.folder, run, MODEL, TRAINING, show)


def test_without_locks_of_the_file_system_one_remark_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    def no_locks(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", no_locks)
    with locked(tmp_path):
        pass
    assert capsys.readouterr().err.count("has no locks (operation not supported)") == 1
    monkeypatch.undo()
    (tmp_path / LOCK).unlink()
    (tmp_path / LOCK).mkdir()
    with pytest.raises(InputError, match="cannot be locked"), locked(tmp_path):
        pass


# --- what else lies there ---


def test_whatever_else_lies_among_the_checkpoints_stays(run: Path, tokenizer: TextTokenizer, tmp_path: Path):
    checkpoints = run / "checkpoints"
    own = [path.name for path in own_checkpoints(run)]
    assert own == ["step-00000006", "step-00000012"]
    (checkpoints / "best-so-far").mkdir()
    (checkpoints / "best-so-far" / "model.safetensors").write_bytes(b"mine")
    (checkpoints / ".DS_Store").write_bytes(b"\0")
    (checkpoints / "step-00000099").mkdir()  # not completed by us: it has no state
    (checkpoints / "step-00000013").write_text("a file")
    (checkpoints / "step-x").mkdir()
    shutil.copytree(checkpoints / own[0], tmp_path / "elsewhere")
    (checkpoints / "step-00000001").symlink_to(tmp_path / "elsewhere")
    (checkpoints / own[0] / "notes.txt").write_text("mine")
    (checkpoints / f".{own[0]}.0a1b2c3d").mkdir()  # killed while it was written
    before = {path for path in run.rglob("*") if path.name not in own and not path.is_relative_to(checkpoints / own[0])}
    for step in (13, 14, 15, 99):
        write_checkpoint(run, snapshot(step), tokenizer)
        assert latest_checkpoint(run) == sound_checkpoint(run)
    names = {path.name for path in checkpoints.iterdir()}
    assert names == {
        ".DS_Store", "best-so-far", "step-00000099", "step-00000013", "step-x", "step-00000001", own[0],
        "step-00000015", "step-00000099-2",
    }  # fmt: skip
    assert [path.name for path in (checkpoints / own[0]).iterdir()] == ["notes.txt"]
    gone = {path for path in before if not path.exists()}
    assert all(path.name == f".{own[0]}.0a1b2c3d" or own[1] in path.parts for path in gone)


def test_strange_things_among_the_checkpoints_do_not_end_a_run(run: Path, finished: Path):
    stray = run / "checkpoints" / ".DS_Store"
    stray.write_bytes(b"\0")
    shutil.rmtree(run / "checkpoints" / "step-00000012")
    resume(run)
    assert stray.exists() and same_weights(run, finished)


# --- damage ---

DAMAGE: dict[str, Callable[[Path], Any]] = {
    "a bit of the weights": lambda folder: changed(folder / "model.safetensors"),
    "a bit of the optimizer's": lambda folder: changed(folder / "optimizer.safetensors"),
    "cut weights": lambda folder: os.truncate(folder / "model.safetensors", 500),
    "no weights": lambda folder: (folder / "model.safetensors").unlink(),
    "another configuration": lambda folder: (folder / "config.json").write_text("{}"),
    "a digit of the state": lambda folder: (folder / "state.json").write_text(
        (folder / "state.json").read_text().replace('"n_steps": 12', '"n_steps": 13')
    ),
    "a broken state": lambda folder: (folder / "state.json").write_text('{"step": 12,'),
    "an empty state": lambda folder: (folder / "state.json").write_text(""),
    "a list as state": lambda folder: (folder / "state.json").write_text("[]"),
    "odd files in the state": lambda folder: (folder / "state.json").write_text('{"files": {"../x": 5}}'),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_resume_falls_back_to_the_last_whole_checkpoint(
    damage: str, run: Path, finished: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    newest = run / "checkpoints" / "step-00000012"
    DAMAGE[damage](newest)
    assert sound_checkpoint(run) == run / "checkpoints" / "step-00000006"
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and str(newest) in said and "Going on from" in said
    if damage == "a bit of the weights":
        resume(run)
        assert same_weights(run, finished) and latest_checkpoint(run) == newest
        assert newest.with_name("step-00000012.damaged").is_dir()
        curves = [[line for line in read_metrics(each) if "validation" in line] for each in (run, finished)]
        assert [line["validation"] for line in curves[0]] == [line["validation"] for line in curves[1]]
    DAMAGE[damage](run / "checkpoints" / "step-00000006")
    if damage != "a bit of the weights":
        with pytest.raises(CheckpointError, match="no other checkpoint"):
            resume(run)


STATES: dict[str, Any] = {
    "step": [None, -1, "12", 1.5, True, 10**30], "n_steps": [None, [], {}], "samples": ["x"], "seconds": ["x", None],
    "skipped": [None, -5],
}  # fmt: skip


@pytest.mark.parametrize("field", STATES)
def test_a_state_without_list_of_files_is_checked_field_by_field(field: str, run: Path):
    """As versions before 0.2 wrote it."""
    shutil.rmtree(run / "checkpoints" / "step-00000006")
    path = run / "checkpoints" / "step-00000012" / "state.json"
    state = {name: value for name, value in json.loads(path.read_text()).items() if name != "files"}
    for value in STATES[field]:
        path.write_text(json.dumps({**state, field: value}))
        with pytest.raises(CheckpointError, match=rf'state\.json: field "{field}"'):
            read_progress(path.parent)
    path.write_text(json.dumps(state))
    (path.parent / "optimizer.safetensors").write_bytes(b"\xff" * 99)
    with pytest.raises(CheckpointError, match=r"optimizer\.safetensors: is damaged"):
        resume(run)


RUN_FILES = [
    b"", b"\xff\xfe", b"[settings", b"[settings]\nx = ", b"settings = 5\n", b"[[settings]]\n", b"x = 1\n", b"\x00",
    b"[settings]\n[data]\n[model]\n[result]\n", b'[a]\nb = "' + b"x" * 10_000, b"x = " + b"[" * 100_000,
]  # fmt: skip


@pytest.mark.parametrize("content", RUN_FILES)
def test_a_damaged_run_file_is_one_sentence_everywhere(content: bytes, run: Path):
    (run / "run.toml").write_bytes(content)
    for use in (read_run, resume, lambda each: compare([each])):
        with pytest.raises(InputError, match=r"run\.toml") as refused:
            use(run)
        assert "\n" not in str(refused.value) and len(str(refused.value)) < 500
    info(str(run))  # tells of the model all the same


@pytest.mark.parametrize("field, value", [
    ("layers", "two"), ("layers", [2]), ("width", 0.5), ("arch", "strange"), ("steps", -1), ("steps", "x"), ("batch", True),
    ("learning_rate", "fast"), ("schedule", 5), ("device", ["cpu"]), ("warmup", float("nan")), ("seed", 1.5),
])  # fmt: skip
def test_settings_of_a_wrong_kind_are_refused_by_name(field: str, value: Any, run: Path):
    tables = read_run(run)
    write_run(run, tables | {"settings": tables["settings"] | {field: value}})
    with pytest.raises(InputError, match=rf"run\.toml: table \[settings\]:.*{field}"):
        resume(run)


def test_settings_come_back_as_they_were_written(tmp_path: Path):
    for kind, values in ((ModelSettings, asdict(MODEL)), (TrainSettings, asdict(TRAINING))):
        table = {
            "settings": values,
            "data": {"key": "\x7f\"'\\\n\u2028", "odd name": [1, 2]},
            "model": {},
            "result": {},
        }
        table["model"] = {"family": "a", "parameters": 1, "vocab_size": 2}
        table["result"] = {"steps": 1, "of_steps": 2, "tokens": 3, "training_seconds": float("inf")}
        write_run(tmp_path, table)
        again = read_run(tmp_path)
        assert again["data"] == table["data"] and again["result"] == table["result"]
        assert settings_of(tmp_path, kind, again["settings"]) == kind(**values)  # pyright: ignore


@pytest.mark.parametrize("former, now, value, kind", [
    ("hidden", "mask_ratio", 0.4, LearningSettings),
    ("longest_source", "max_source_tokens", 33, DataSettings), ("longest_target", "max_target_tokens", 34, DataSettings),
])  # fmt: skip
def test_settings_kept_under_a_former_name_are_read_under_the_one_they_have_now(
    former: str, now: str, value: float, kind: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    tables = {"settings": {former: value}, "data": {"key": "a"}, "model": {"family": "a", "parameters": 1, "vocab_size": 2},
              "result": {"steps": 1, "of_steps": 2, "tokens": 3, "training_seconds": 1.0}}  # fmt: skip
    write_run(tmp_path, tables)
    settings = read_run(tmp_path)["settings"]
    assert settings == {now: value} and getattr(settings_of(tmp_path, kind, settings), now) == value
    write_run(tmp_path, tables | {"settings": {former: value, now: 5}})
    assert read_run(tmp_path)["settings"] == {now: 5}
    given: list[Any] = []
    write_run(tmp_path, tables)
    monkeypatch.setattr("wenloom.tasks.finetune.finetune", lambda *groups, **_: given.extend(groups) or sys.exit(0))
    words = "wenloom finetune --task fill-mask --train x --out y --config".split()
    monkeypatch.setattr(sys, "argv", [*words, str(tmp_path / "run.toml")])
    with pytest.raises(SystemExit):
        main()
    assert [getattr(each, now) for each in given if isinstance(each, kind)] == [value]


def test_damaged_lines_of_the_figures_are_named_and_left_out(run: Path, capsys: pytest.CaptureFixture[str]):
    path = run / "metrics.jsonl"
    lines = path.read_text().splitlines()
    whole = read_metrics(run)
    odd = ["5", "null", "[]", "{", '{"step": "1"}', '{"step": -1}', '{"step": 1, "loss": "x"}', "\x00", "[" * 99_999,
           '{"step": 1, "validation": 5}', '{"step": 1, "validation": {"nats_per_token": null}}', "9" * 5000,
           '{"step": 1, "validation": {"nats_per_token": 1, "bits_per_byte": 1, "nats_per_character": 1}, "samples": 5}',
           '{"step": 3, "loss": [1]}', '{"step": 3, "tokens": 1e999}', '{"step": true}', '"' + "x" * 2**23 + '"']  # fmt: skip
    path.write_text("\n".join([lines[0], *odd, *lines[1:]]) + '\n{"step": 1')
    capsys.readouterr()
    assert read_metrics(run) == whole
    assert f"{path}, line 2 and {len(odd) - 1} more: left out" in capsys.readouterr().err
    assert "<svg" in compare([run])
    capsys.readouterr()
    path.write_text("\n".join(lines) + '\n{"step": 1')
    assert read_metrics(run) == whole and not capsys.readouterr().err  # killed while it was written
    path.unlink()
    path.mkdir()
    with pytest.raises(InputError, match=r"metrics\.jsonl"):
        read_metrics(run)


# --- kills ---


class Killed(BaseException):
    """The process is gone: nothing of it runs any more."""


SYSTEM = ("open", "fsync", "replace", "rename", "link", "unlink", "mkdir", "rmdir", "chmod")


class Kill:
    """Lets so many calls to the system pass, then no more."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, after: int):
        self.left = after
        for name in SYSTEM:
            monkeypatch.setattr(os, name, self._counted(getattr(os, name)))

    def _counted(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **options: Any) -> Any:
            self.left -= 1
            if self.left < 0:
                raise Killed
            return call(*arguments, **options)

        return counted


def every_kill(monkeypatch: pytest.MonkeyPatch, prepare: Callable[[], None], act: Callable[[], Any]) -> Iterator[bool]:
    """Does something again and again, killed at each of its calls to the system; yields whether it was, then."""
    for after in range(1000):
        prepare()
        with monkeypatch.context() as patch:
            Kill(patch, after)
            try:
                act()
                killed = False
            except Killed:
                killed = True
        yield killed
        if not killed:
            return


def test_a_kill_at_any_moment_of_saving_leaves_the_old_state_or_the_new(
    tokenizer: TextTokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    template, run = tmp_path / "template", tmp_path / "run"
    for step in (1, 2, 3):
        publish_model(template, write_checkpoint(template, snapshot(step), tokenizer))
    new = snapshot(4)

    def prepare() -> None:
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(template, run)
        (run / "checkpoints" / "mine").mkdir()

    def save() -> None:
        publish_model(run, write_checkpoint(run, new, tokenizer))

    seen, moments = set(), 0
    for killed in every_kill(monkeypatch, prepare, save):
        step = json.loads((sound_checkpoint(run) / "state.json").read_text())["step"]
        embeds = [float(load_model(each).embed.weight.detach()[0, 0]) for each in (run, sound_checkpoint(run))]
        known = {step: float(snapshot(step).model.embed.weight.detach()[0, 0]) for step in (3, 4)}
        assert step in (3, 4) and embeds[0] in known.values() and embeds[1] == known[step]
        assert (run / "checkpoints" / "mine").is_dir()
        seen.add((step, embeds[0] == known[4]))
        moments += killed
        if not killed or moments % 5 == 0:  # and the next save tidies up
            save()
            steps = [path.name for path in own_checkpoints(run)]
            assert len(steps) == 2 and not list(run.glob(".*.new")) and not list((run / "checkpoints").glob(".step*"))
    assert seen == {(3, False), (4, False), (4, True)} and moments > 30


def test_a_kill_while_shards_are_published_leaves_no_parts_of_two_models(
    tokenizer: TextTokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    small = functools.partial(write_model_files, shard_bytes=3000)
    monkeypatch.setattr("wenloom.training.state.write_model_files", small)
    run = tmp_path / "run"
    made = [write_checkpoint(tmp_path / f"made-{step}", snapshot(step), tokenizer) for step in (3, 4)]
    assert len(list(made[0].glob("model-*"))) > 2
    states = [load_model(path).state_dict() for path in made]

    def prepare() -> None:
        shutil.rmtree(run, ignore_errors=True)
        run.mkdir()
        publish_model(run, made[0])

    seen = set()
    for killed in every_kill(monkeypatch, prepare, lambda: publish_model(run, made[1])):
        found = load_model(run).state_dict()
        seen.add(next(n for n, state in enumerate(states) if all(torch.equal(found[k], state[k]) for k in state)))
        if not killed:
            assert {path.name for path in run.iterdir()} == {path.name for path in made[1].iterdir()} - {
                OPTIMIZER,
                STATE,
            }
    assert seen == {0, 1}


def test_a_kill_at_any_moment_leaves_a_file_or_folder_old_or_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file, folder = tmp_path / "a" / "file", tmp_path / "a" / "folder"

    def prepare() -> None:
        shutil.rmtree(tmp_path / "a", ignore_errors=True)
        folder.mkdir(parents=True)
        for path in (file, folder / "x", folder / "y"):
            path.write_text("old")

    def act() -> None:
        write_atomically(file, "new")
        with folder_aside(folder) as aside:
            for name in ("x", "y"):
                (aside / name).write_text("new")

    for _ in every_kill(monkeypatch, prepare, act):
        assert file.read_text() in ("old", "new")
        assert {path.name: path.read_text() for path in folder.iterdir()} in (
            {"x": "old", "y": "old"}, {"x": "new", "y": "new"}
        )  # fmt: skip


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_files_have_the_modes_of_the_umask(umask: int, tokenizer: TextTokenizer, tmp_path: Path):
    before = os.umask(umask)
    try:
        checkpoint = write_checkpoint(tmp_path / "run", snapshot(1), tokenizer)
        publish_model(tmp_path / "run", checkpoint)
        write_atomically(tmp_path / "run" / "a" / "b", "x")
    finally:
        os.umask(before)
    for path in (tmp_path / "run").rglob("*"):
        expected = (0o777 if path.is_dir() else 0o666) & ~umask
        assert path.stat().st_mode & 0o777 == expected, path


def test_publishing_the_same_file_again_leaves_nothing_behind(tmp_path: Path):
    (tmp_path / "to").mkdir()
    (tmp_path / "a").write_text("1")
    for _ in range(2):  # the second time both are one file: POSIX's rename does nothing then
        publish(tmp_path / "a", tmp_path / "to")
        assert [path.name for path in (tmp_path / "to").iterdir()] == ["a"]


# --- sinks ---


def test_runs_of_equal_folder_names_stay_apart_and_a_resumed_one_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    begun: list[dict[str, Any]] = []
    sink = types.SimpleNamespace(finish=lambda: None, log=lambda *_, **__: None)
    monkeypatch.setitem(
        sys.modules, "wandb", types.SimpleNamespace(init=lambda **options: begun.append(options) or sink)
    )
    training = replace(TRAINING, wandb="shelf")
    runs = [tmp_path / number / "run" for number in ("one", "two", "former")]
    for folder in runs:
        folder.mkdir(parents=True)
    (runs[2] / "wandb").mkdir()  # of version 0.1, which used the folder's name
    for folder in (*runs, runs[0]):
        open_sinks(folder, training, True, {})
    ids = [options["id"] for options in begun]
    assert ids[0] == ids[3] and len(set(ids)) == 3 and ids[2] == "run"
    assert {options["name"] for options in begun} == {"run"}


def test_what_a_stopped_process_wrote_of_later_steps_is_not_shown_twice(tmp_path: Path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    training = replace(TRAINING, tensorboard=True)
    for begin, end in ((0, 9), (4, 7)):
        (sink,) = open_sinks(tmp_path, training, True, {}, begin)
        for step in range(begin + 1, end + 1):
            sink.log(step, {"loss": float(begin)})
        sink.close()
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload().Scalars("loss")
    assert [(event.step, event.value) for event in events] == [
        *((s, 0.0) for s in range(1, 5)),
        *((s, 4.0) for s in (5, 6, 7)),
    ]


# --- anything ---

VALUE = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 10**20) | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3), max_leaves=5,
)  # fmt: skip


def any_run_folder(folder: Path, template: Path, name: str, change: Callable[[bytes], bytes]) -> None:
    """Change one file of a run folder and use it; whatever it is, it is read or refused in a sentence."""
    file = folder / name
    file.write_bytes(change((template / name).read_bytes()))
    try:
        for use in (read_run, read_metrics, sound_checkpoint, lambda each: compare([each])):
            try:
                use(folder)
            except WenloomError as refused:
                assert str(folder) in str(refused) and "\n" not in str(refused)
    finally:
        file.write_bytes((template / name).read_bytes())


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(["run.toml", "metrics.jsonl", "checkpoints/step-00000012/state.json"]), field=st.integers(0, 60),
    value=VALUE, cut=st.integers(0, 3000), tail=st.binary(max_size=4),
)  # fmt: skip
def test_any_run_folder_is_read_or_refused_in_a_sentence(
    name: str, field: int, value: Any, cut: int, tail: bytes, finished: Path, tmp_path_factory: pytest.TempPathFactory
):
    folder = tmp_path_factory.getbasetemp() / "any-run"
    if not folder.exists():
        shutil.copytree(finished, folder)

    def change(content: bytes) -> bytes:
        if cut > 2000:
            return content[: cut - 2000] + tail
        if name.endswith(".toml"):
            lines = content.splitlines()
            at = field % len(lines)
            lines[at] = lines[at].partition(b" = ")[0] + b" = " + json.dumps(value).encode()
            return b"\n".join(lines)
        lines = content.splitlines() if name.endswith("l") else [content]
        entry = json.loads(lines[field % len(lines)])
        entry[list(entry)[field % len(entry)]] = value
        lines[field % len(lines)] = json.dumps(entry).encode()
        return b"\n".join(lines) + b"\n"

    any_run_folder(folder, finished, name, change)

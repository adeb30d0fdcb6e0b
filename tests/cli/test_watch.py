"""`wenloom watch`: a run seen from outside, at every moment of its life."""

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.cells import cell_len

from wenloom.cli import watch as module
from wenloom.training.lock import LOCK
from wenloom.training.run_file import write_run
from wenloom.training.standing import Standing, standing

from .calling import call, refused, succeed
from .world import World

SAMPLE = (
    "The lamp was lit at dusk, and everybody who lived on the island came down to the water to see it. 春眠不觉晓 " * 3
)


def step_line(step: int, n: int = 200) -> str:
    line = {"step": step, "of_steps": n, "tokens": step * 64, "seconds": step / 2, "seconds_left": (n - step) / 2,
            "loss": 6 - step / 50, "bits_per_byte": 3 - step / 100, "learning_rate": 0.01, "tokens_per_second": 1234.5 + step,
            "utilisation": 0.2, "memory_bytes": 10**9}  # fmt: skip
    return json.dumps(line) + "\n"


def evaluation_line(step: int) -> str:
    return json.dumps({"step": step, "validation": {"nats_per_token": 6 - step / 60}, "samples": [SAMPLE]}) + "\n"


def begin(run: Path, held: bool = True) -> None:
    """What a run writes before its first step."""
    run.mkdir(exist_ok=True)
    if held:
        (run / LOCK).write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": "now"}))
    result = {"steps": 0, "of_steps": 200, "tokens": 0, "training_seconds": 0.0}
    model = {"family": "qwen3", "parameters": 12345, "vocab_size": 400}
    write_run(run, {"settings": {}, "data": {"key": "k"}, "model": model, "result": result})


def go_on(run: Path, *lines: str) -> None:
    with (run / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.writelines(lines)


@pytest.fixture
def life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that gets a little further whenever somebody waits for it."""
    run = tmp_path / "run"
    events: list[Callable[[], object]] = [
        lambda: begin(run),
        lambda: go_on(run, step_line(1)),
        lambda: None,
        lambda: go_on(run, step_line(100)[:40]),  # a line that is being written
        lambda: go_on(run, step_line(100)[40:], evaluation_line(100)),
        lambda: go_on(run, step_line(200), evaluation_line(200)),
        lambda: (run / LOCK).write_text(""),
    ]
    monkeypatch.setattr(module.time, "sleep", lambda _: events.pop(0)())
    return run


def test_a_pipe_gets_a_line_per_update_from_before_the_beginning_to_the_end(life: Path):
    lines = succeed("watch", life, cwd=life.parent).splitlines()
    assert [line.removeprefix(f"{life}  ").partition("  loss")[0] for line in lines] == [
        "not started", "0 % done  step 0 of 200  running", "0 % done  step 1 of 200  1 min 40 s left",
        "50 % done  step 100 of 200  50 s left", "100 % done  step 200 of 200  1 s left",
        "100 % done  step 200 of 200  finished  took 1 min 40 s",
    ]  # fmt: skip


def test_machines_get_an_object_per_update(life: Path):
    updates = [json.loads(line) for line in succeed("watch", life, "--json", cwd=life.parent).splitlines()]
    assert [(each["state"], each["step"], each["done"]) for each in updates] == [
        ("not started", 0, 0.0), ("running", 0, 0.0), ("running", 1, 0.005), ("running", 100, 0.5), ("running", 200, 1.0),
        ("finished", 200, 1.0),
    ]  # fmt: skip
    assert updates[3]["loss"] == 4.0 and updates[3]["validation_step"] == 100 and updates[3]["sample"] == SAMPLE


@pytest.mark.parametrize("width", [60, 80, 100, 140])
def test_nothing_is_cut_at_any_width(width: int, tmp_path: Path):
    run = tmp_path / "run"
    begin(run)
    go_on(run, *map(step_line, range(1, 150, 3)), evaluation_line(50), evaluation_line(148))
    now = standing(run)
    lines = [each.plain for each in module.drawn(now, width, 30)]
    assert all(cell_len(line) <= width for line in lines) and len(lines) <= 30
    assert all(part in "  ".join(lines[:4]) for part in ("74 % done", "148", "26 s left", "loss 3.040"))
    assert any(0x2800 < ord(character) < 0x2900 for line in lines for character in line)
    words = set(SAMPLE.split())
    assert set(" ".join(lines[lines.index("last sample") + 1 :]).split()) - {"…"} <= words


def test_a_chinese_sample_without_a_blank_is_shown_whole_below_its_prompt(tmp_path: Path):
    run, text = tmp_path / "run", "孤帆遠影碧空盡，唯見長江天際流。" * 3
    begin(run)
    line = {
        "step": 1,
        "validation": {"nats_per_token": 5.0},
        "prompts": ["故人西辭黃鶴樓"],
        "samples": [text + "<|endoftext|>"],
    }
    go_on(run, step_line(1), json.dumps(line) + "\n")
    rows = [each.plain for each in module.drawn(standing(run), 40, 30)]
    at = rows.index("last sample, after: 故人西辭黃鶴樓") + 1
    assert "".join(map(str.strip, rows[at:])) == text + "∎"
    assert all(cell_len(row) <= 40 and row.strip()[0] not in "，。" for row in rows[at:])


def test_a_stopped_run_says_how_to_go_on_and_a_mistyped_name_which_is_meant(tmp_path: Path):
    run = tmp_path / "mine"
    begin(run, held=False)
    go_on(run, step_line(100))
    rows = [each.plain for each in module.drawn(standing(run), 200, 30)]
    assert rows[rows.index("Continue it with:") + 1] == f"  wenloom pretrain --resume {run}"
    assert f"did you mean {run}?" in call("watch", tmp_path / "mime", "--once", cwd=tmp_path).err


def test_a_real_run_is_seen_as_finished_and_an_interrupted_one_as_stopped(world: World, tmp_path: Path):
    done = json.loads(succeed("watch", world.path("decoder"), "--json", cwd=tmp_path))
    assert done["state"] == "finished" and done["done"] == 1 and done["validation"]["bits_per_byte"] > 0
    assert "100 % done" in succeed("watch", world.path("decoder"), "--once", cwd=tmp_path)
    assert json.loads(succeed("watch", world.path("interrupted"), "--json", cwd=tmp_path))["state"] == "stopped"


def test_a_process_that_is_gone_trains_no_more(tmp_path: Path):
    begin(tmp_path / "run")
    (tmp_path / "run" / LOCK).write_text(json.dumps({"pid": 2**22 + 1, "host": socket.gethostname(), "since": "then"}))
    assert standing(tmp_path / "run").state == "stopped"


@pytest.mark.parametrize("name, said", [
    ("corpus", "holds no training run"), ("file.txt", "is a file"), ("nowhere/run", "there is no folder"),
])  # fmt: skip
def test_a_wrong_folder_is_refused(name: str, said: str, tmp_path: Path):
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus/dataset.json").write_text("{}")
    (tmp_path / "file.txt").write_text("text")
    assert said in refused("watch", tmp_path / name, cwd=tmp_path)
    assert said in refused("watch", tmp_path / name, "--once", cwd=tmp_path)


def test_ctrl_c_ends_the_watching_quietly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def interrupted(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module.time, "sleep", interrupted)
    done = call("watch", tmp_path / "run", cwd=tmp_path)
    assert (done.code, done.err) == (0, "") and done.out.endswith("not started\n")


def test_who_has_no_figures_yet_is_drawn_as_well():
    assert module.drawn(Standing(Path("run"), "not started"), 60, 20)[0].plain.startswith("run")

"""Pages and other places that figures go to."""

import html
import json
import re
import shlex
import shutil
import sys
import types
from dataclasses import replace
from pathlib import Path

import pytest

from wenloom.core.errors import InputError
from wenloom.tokens.shards import Dataset
from wenloom.training.comparison import compare
from wenloom.training.pretrain import pretrain
from wenloom.training.report import NextTokens, Sample, SamplePreview, suggestions

from ..browser import dom, needs_chromium
from .runs import MODEL, TRAINING


def test_runs_side_by_side(dataset: Dataset, tmp_path: Path):
    muon = pretrain(dataset.folder, tmp_path / "muon", MODEL, TRAINING)
    adamw = pretrain(dataset.folder, tmp_path / "adamw", MODEL, replace(TRAINING, optimizer="adamw"))
    page = compare([muon.folder, adamw.folder])
    assert "http" not in page.replace("http://www.w3.org", "") and page.count("<polyline") >= 8
    for run in (muon, adamw):
        assert f"{run.loss.bits_per_byte:.4f}" in page
    assert '<th scope="row">optimizer</th><td data-label="muon">muon</td><td data-label="adamw">adamw</td>' in page
    different, same = page.split("settings that are the same")
    assert (
        different.index("Where they differ") < different.index("optimizer")
        and '<th scope="row">width</th>' not in different
    )
    assert '<th scope="row">width</th>' in same
    assert page.count("<b>best</b>") == 1 and "different corpora" not in page
    (tmp_path / "other").mkdir()
    shutil.copytree(adamw.folder, tmp_path / "other/adamw")
    page = compare([adamw.folder, tmp_path / "other/adamw"])  # two of one name
    assert all(f"</i><bdi>{folder}</bdi></td>" in page for folder in (adamw.folder, tmp_path / "other/adamw"))
    with pytest.raises(InputError, match="holds no training run"):
        compare([tmp_path])
    written = adamw.folder / "run.toml"
    written.write_text(written.read_text().replace(f'"{dataset.manifest["key"]}"', '"other"'))
    page = compare([muon.folder, adamw.folder])
    assert "<b>best</b>" not in page and "different corpora" in page


HOSTILE = "</script><img src=x onerror=alert(1)>"


def shown_by(prompt: str) -> SamplePreview:
    return SamplePreview(
        [Sample(prompt, f"{HOSTILE}<|endoftext|>再来")], [NextTokens(prompt, [(HOSTILE, 0.5), ("<|endoftext|>", 0.1)])]
    )


def test_pages_show_text_as_text_prompts_beside_samples_and_the_end_of_a_text_as_a_mark(
    dataset: Dataset, tmp_path: Path
):
    runs = [
        pretrain(
            dataset.folder, tmp_path / name, MODEL, replace(TRAINING, seed=seed), lambda *_: shown_by("床前明月光")
        )
        for seed, name in enumerate(("<img src=y>", "other"))
    ]
    report = (runs[0].folder / "report.html").read_text(encoding="utf-8")
    for page in (report, compare([run.folder for run in runs])):
        assert "<img" not in page and "&lt;img src=y&gt;" in page and "&lt;/script&gt;" in page
        assert not re.search("(?<!td>)&lt;.endoftext", page) and "∎</abbr>再来" in page and "床前明月光" in page
    assert f"wenloom generate {shlex.quote(str(runs[0].folder))} '床前明月光'" in html.unescape(report)
    assert compare([run.folder for run in runs]).count("<b>床前明月光</b>") == 2


@needs_chromium
def test_long_words_and_names_widen_no_page_and_break_no_setting(dataset: Dataset, tmp_path: Path):
    runs = [
        pretrain(dataset.folder, tmp_path / (letter * 120), MODEL, TRAINING, lambda *_: shown_by("x" * 300))
        for letter in "ab"
    ]
    script = """
      document.querySelectorAll("details").forEach(each => each.open = true);
      const lines = node => { const range = document.createRange(); range.selectNodeContents(node); return range.getClientRects().length; };
      const words = [...document.querySelectorAll("th[scope=row]")].flatMap(each => [...each.childNodes].filter(part => part.nodeType === 3));
      document.body.replaceChildren(JSON.stringify([document.documentElement.scrollWidth - document.documentElement.clientWidth, ...words.map(lines)]));"""
    (folder := tmp_path / "browser").mkdir()
    report = (runs[0].folder / "report.html").read_text(encoding="utf-8")
    for page in (report, compare([run.folder for run in runs])):
        made = dom(page, folder, script, 500)
        wide, *lines = json.loads(re.findall(r"<body[^>]*>(\[.*\])</body>", made, re.DOTALL)[0])
        assert wide == 0 and len(lines) > 40 and set(lines) == {1}


@pytest.mark.parametrize("task, prompts, command", [
    (None, ["举头望明月"], "generate run '举头望明月' # write"),
    (None, ["", "two\nlines", "x" * 90, "It's"], """generate run 'It'"'"'s' # write"""),
    (None, [], "generate run 'Once upon a time' # write"),
    ("translation", ["我爱你"], "translate run '我爱你'"),
    ("translation", ["x" * 90], 'translate run "..."'),
    ("fill-mask", ["no gap"], 'fill-mask run "... [MASK] ..."'),
    ("fill-mask", ["天[MASK]地"], "fill-mask run '天[MASK]地'"),
    ("chat", ["你好"], "chat run"),
])  # fmt: skip
def test_what_to_try_is_in_the_language_of_the_run(task: str | None, prompts: list[str], command: str):
    first = suggestions(Path("run"), task, prompts).splitlines()[0]
    assert " ".join(first.split()) == f"wenloom {command}"


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

"""The page of a folder of evaluations."""

import json
import re
from dataclasses import replace
from pathlib import Path

from wenloom.evaluation.folder import Evaluated, evaluated_in, extremes, keep_comparisons, keep_figures
from wenloom.evaluation.page import by_group, table, write_page
from wenloom.evaluation.signature import Signature
from wenloom.evaluation.suite import MetricResult

from ..browser import dom, needs_chromium

HOSTILE = "</script><img src=x onerror=alert(1)>"


def acc(value: float, norm: str, **more: object) -> MetricResult:
    """A figure of a choice suite."""
    return replace(
        MetricResult("t", "D", "acc", value, value - 1, value + 1, 10, Signature.of("acc", norm=norm, data="x")), **more
    )


def evaluated(model: str, *figures: MetricResult) -> Evaluated:
    """Without samples."""
    return Evaluated(model, "d", list(figures), Path("none.jsonl"))


def test_norms_share_a_row_only_where_every_model_has_equal_figures():
    equal = evaluated("a", acc(50, "raw", is_headline=True), acc(50, "token"), acc(60, "byte"))
    (first, second) = table([equal])
    assert first.name == "acc (raw, token)" and first.is_headline and second.name == "acc (byte)"
    assert [row.name for row in table([equal, evaluated("b", acc(40, "raw"), acc(41, "token"), acc(60, "byte"))])] == [
        "acc (raw)", "acc (token)", "acc (byte)",
    ]  # fmt: skip


def test_figures_that_were_not_measured_alike_never_share_a_row():
    other = replace(acc(50, "raw"), signature=Signature.of("acc", norm="raw", data="y"))
    rows = table([evaluated("a", acc(50, "raw")), evaluated("b", other)])
    assert [list(row.cells) for row in rows] == [["a"], ["b"]]


def test_groups_come_hardest_first_whichever_way_is_better():
    groups = {"groups": {"easy": 90.0, "hard": 10.0}, "group_sizes": {"easy": 3, "hard": 4}}
    (row,) = table([evaluated("a", acc(50, "raw", details=groups))])
    assert by_group(row) == [("hard", {"a": 10.0}, 4), ("easy", {"a": 90.0}, 3)]
    (row,) = table([evaluated("a", acc(50, "raw", details=groups, higher_is_better=False))])
    assert [name for name, _, _ in by_group(row)] == ["easy", "hard"]


def test_what_is_kept_comes_back_and_nothing_breaks_out_of_the_page(tmp_path: Path):
    groups = {"groups": {HOSTILE: 1.0, "b": 2.0}, "group_sizes": {HOSTILE: 1, "b": 1}}
    figures = [acc(50, "raw", is_headline=True, dataset=HOSTILE, metric=HOSTILE, details=groups)]
    samples = tmp_path / "m/d.jsonl"
    keep_figures(samples, HOSTILE, "d", figures)
    (kept,) = evaluated_in(tmp_path)
    assert kept.figures == figures and kept.model == HOSTILE and kept.samples == samples
    samples.write_text(
        '{"evaluation": "d"}\n{"number": 0, "prompt": "</script><img src=x>", "written": ["<img src=x>"]}\n'
        '{"number": 1, "prompt": 5, "written": []}\n'
    )
    test = {"on": HOSTILE, "by": "x", "first": HOSTILE, "second": HOSTILE, "difference": 1.0, "low": 0.0, "high": 2.0,
            "p": 1e-9, "test": HOSTILE}  # fmt: skip
    keep_comparisons(tmp_path, [test, test | {"p": 0.5}])
    page = write_page(tmp_path).read_text(encoding="utf-8")
    assert "<img" not in page and page.count("&lt;img src=x onerror") >= 8 and "0.5000" in page
    assert not re.search(r'(?:src|href)="(?!data:|#)', page)


@needs_chromium
def test_no_table_is_wider_than_the_paper_that_it_is_printed_on(tmp_path: Path):
    for model in ("a-model-with-a-name", "another-model-with-a-name", "m" * 120):
        keep_figures(tmp_path / f"{model}/d.jsonl", model, "d", [acc(50, "raw", is_headline=True)])
    test = {"on": "chapter.txt", "by": "bits_per_character", "first": "a-model-with-a-name", "low": -0.6771, "high": -0.0518,
            "second": "another-model-with-a-name", "difference": -0.3618, "p": 0.0322, "test": "approximate randomization"}  # fmt: skip
    keep_comparisons(tmp_path, [test, test | {"p": 0.5}])
    page = write_page(tmp_path).read_text(encoding="utf-8").replace("@media print", "@media all")
    script = """
      document.querySelectorAll("details").forEach(each => each.open = true);
      const wide = [...document.querySelectorAll("table")].map(each => each.getBoundingClientRect().right - innerWidth);
      const lines = node => { const range = document.createRange(); range.selectNodeContents(node); return range.getClientRects().length; };
      const figures = [...document.querySelectorAll("td.n")].filter(each => /^[^ ]+$/.test(each.firstChild?.textContent.trim())).map(each => lines(each.firstChild));
      document.body.replaceChildren(JSON.stringify([wide.map(Math.round), figures]));"""
    (folder := tmp_path / "browser").mkdir()
    wide, figures = json.loads(re.findall(r"<body>(.*)</body>", dom(page, folder, script, 680), re.DOTALL)[0])
    assert len(wide) >= 2 and max(wide) <= 0
    assert len(figures) >= 6 and set(figures) <= {1}  # "50.00" in one piece, however narrow its column


@needs_chromium
def test_long_names_of_models_widen_neither_the_page_nor_its_tables(tmp_path: Path):
    models = [f"runs/{letter * 120}" for letter in "abc"]
    for number, model in enumerate(models):
        keep_figures(
            tmp_path / f"{number}/d.jsonl", model, "d", [acc(2.5e24, "raw", is_headline=True, dataset="d" * 90)]
        )
    test = {"on": "d" * 90, "by": "acc", "first": models[0], "second": models[1], "difference": 1.0, "low": 0.0, "high": 2.0,
            "p": 0.5, "test": "McNemar, exact"}  # fmt: skip
    keep_comparisons(tmp_path, [test])
    script = """
      const wide = [document.documentElement, ...document.querySelectorAll(".scroll")].map(each => each.scrollWidth - each.clientWidth);
      document.body.replaceChildren(JSON.stringify(wide));"""
    (folder := tmp_path / "browser").mkdir()
    page = write_page(tmp_path).read_text(encoding="utf-8")
    assert "2.500e24" in page
    for width in (500, 1000):
        assert set(json.loads(re.findall(r"<body>(.*)</body>", dom(page, folder, script, width), re.DOTALL)[0])) == {0}


@needs_chromium
def test_choices_from_right_to_left_leave_their_figures_at_the_left(tmp_path: Path):
    row = {
        "number": 0,
        "context": ["שלום"],
        "choices": [" עולם", " b"],
        "gold": 0,
        "log_likelihoods": [-1.0, -5.0],
        "chosen": {"raw": 0},
    }
    samples = tmp_path / "m/d.jsonl"
    keep_figures(samples, "m", "d", [replace(acc(50, "raw", is_headline=True), n=1)])
    samples.write_text('{"evaluation": "d"}\n' + json.dumps(row) + "\n")
    script = """
      document.querySelectorAll("details").forEach(each => each.open = true);
      const place = node => { const range = document.createRange(); range.selectNodeContents(node); return range.getBoundingClientRect(); };
      const [line] = document.querySelectorAll(".sample"), box = line.getBoundingClientRect(), prompt = place(line.firstChild);
      const figures = [...line.querySelectorAll("div")].map(each => place(each.firstChild).left - box.left);
      document.body.replaceChildren(JSON.stringify([...figures, box.right - prompt.right].map(Math.round)));"""
    (folder := tmp_path / "browser").mkdir()
    made = dom(write_page(tmp_path).read_text(encoding="utf-8"), folder, script)
    assert json.loads(re.findall(r"<body>(.*)</body>", made, re.DOTALL)[0]) == [0, 0, 0]


def test_samples_are_shown_by_how_much_the_right_choice_is_preferred(tmp_path: Path):
    def row(number: int, right: float) -> str:
        return json.dumps({"number": number, "context": ["天 <b>"], "choices": [" 好", " 坏"], "gold": 0,
                           "log_likelihoods": [right, -5.0], "chosen": {"raw": int(right < -5)}}) + "\n"  # fmt: skip

    path = tmp_path / "d.jsonl"
    path.write_text("".join(row(number, -float(number)) for number in range(12)))
    (worst, best) = extremes(Evaluated("m", "d", [replace(acc(1, "raw"), n=10)], path))
    assert [each.choices[0].log_likelihood for each in worst[1]] == [-9, -8, -7, -6, -5] and worst[0] == "worst"
    assert [each.choices[0].log_likelihood for each in best[1]] == [0, -1, -2, -3, -4]
    assert [each.is_chosen for each in worst[1][0].choices] == [False, True]
    for broken in (
        '{"number": 1}',
        '{"number": 1, "context": [], "choices": [1], "gold": 0}',
        '{"number": "a"}\n{"number": 1}',
    ):
        path.write_text(broken)
        assert extremes(Evaluated("m", "d", [acc(1, "raw")], path)) == []


def test_an_empty_folder_has_a_page(tmp_path: Path):
    assert "0 models on 0 datasets" in write_page(tmp_path).read_text(encoding="utf-8")

"""Signatures, intervals, the results store, the board and the exchange forms."""

import csv
import io
import json
import math
import re
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import bootstrap

from wenloom.core.errors import InputError
from wenloom.evaluation import interchange
from wenloom.evaluation.leaderboard import as_bibtex, as_csv, boards, progress_chart, write_leaderboard
from wenloom.evaluation.results import Result, ResultsStore, published, result_of
from wenloom.evaluation.signature import Signature, differences
from wenloom.evaluation.significance import interval, paired

from ..browser import dom, needs_chromium

OWN = Result(
    "grammar", "BLiMP", "acc", 71.5, "runs/mine", "acc|norm:raw|n:67000|version:1", 71.2, 71.9, 67000, date="2026-11-23"
)


# --- signatures ---

NAMES = st.text(alphabet="abcdefghij_", min_size=1, max_size=6)


@given(NAMES, st.dictionaries(NAMES, st.text(alphabet="abc 0:1.=", max_size=6), min_size=1))
def test_a_signature_survives_its_line(metric: str, fields: dict[str, str]):
    made = Signature.of(metric, **fields)
    assert Signature.parse(str(made)) == made
    assert differences(made, made) == []


def test_why_two_figures_differ():
    one = Signature.parse("ppl|ctx:1024|stride:1024|bos:no|version:1")
    two = Signature.parse("ppl|ctx:1024|stride:512|dtype:float32|version:2")
    assert [(each.field, each.first, each.second) for each in differences(one, two)] == [
        ("stride", "1024", "512"), ("bos", "no", "(not said)"), ("dtype", "(not said)", "float32"),
    ]  # fmt: skip
    assert differences(one, Signature.parse("acc|n:5"))[0].field == "metric"
    assert one.key == Signature.parse("ppl|bos:no|stride:1024|ctx:1024|version:9").key
    for bad in ("", "ppl", "a:b|c:d", "ppl|ctx"):
        with pytest.raises(InputError, match="not a signature"):
            Signature.parse(bad)


# --- significance ---


def test_intervals_agree_with_scipy():
    values = np.random.default_rng(0).normal(3, 2, 400)
    found = interval(values, samples=5000)
    expected = bootstrap(
        (values,), np.mean, n_resamples=5000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.03)
    rights = (values > 3).astype(float)
    found = interval(rights, samples=5000)
    sigma = math.sqrt(rights.mean() * (1 - rights.mean()) / len(rights))
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * sigma, rel=0.05)


def test_a_paired_test_sees_what_unpaired_intervals_cannot():
    draw = np.random.default_rng(2)
    first = (draw.random(2000) < 0.5).astype(float)
    better = first.copy()
    better[np.flatnonzero(first == 0)[:40]] = 1
    found = paired(first, better)
    assert interval(first).overlaps(interval(better))
    assert found.difference == pytest.approx(0.02) and found.low > 0 and found.p < 0.001
    same = paired(first, draw.permutation(first))
    assert same.p > 0.05
    assert paired(first, first).p == 1.0


def test_what_cannot_be_averaged():
    for values, message in (([], "no samples"), ([1.0, math.nan], "sample 2"), ([math.inf], "sample 1")):
        with pytest.raises(InputError, match=message):
            interval(np.array(values))
    with pytest.raises(InputError, match="same samples"):
        paired(np.ones(3), np.ones(4))


# --- the store ---


def test_the_store_keeps_each_figure_once(tmp_path: Path):
    store = ResultsStore(tmp_path / "deep/results.sqlite")
    chinese = replace(OWN, model="我的模型", details={"groups": {"甲": 1.5}}, reproduced=True)
    assert store.add([OWN, chinese, OWN]) == 2
    assert store.add([OWN]) == 0
    assert store.all() == [OWN, chinese]
    assert store.all()[1].details == {"groups": {"甲": 1.5}}
    (tmp_path / "broken").write_text("no database, but long enough to be looked at as one " * 40)
    with pytest.raises(InputError, match="damaged"):
        ResultsStore(tmp_path / "broken").all()


def test_what_is_no_result():
    good = {"task": "t", "dataset": "d", "metric": "m", "model": "x", "value": 1}
    assert result_of(good).value == 1.0
    for bad, message in (
        ({**good, "value": math.nan}, "not a number"), ({**good, "value": True}, "not a number"),
        ({**good, "model": ""}, "without model"), ({**good, "colour": 1}, "no field colour"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=message):
            result_of(bad)


def test_published_figures_are_whole():
    rows = published()
    assert len(rows) > 50
    for row in rows:
        assert row.source == "quoted" and row.paper_title and row.paper_url.startswith("https://")
        assert row.place and re.fullmatch(r"\d{4}-\d{2}", row.date) and row.signature


# --- the board ---


def test_only_equals_are_ranked_and_overlaps_tie():
    rows = [
        OWN,
        replace(OWN, model="better", value=80, low=79, high=81),
        replace(OWN, model="as good", value=79.5, low=78, high=80.5),
        replace(OWN, model="otherwise", value=99, signature="acc|norm:byte|n:67000|version:1"),
    ]
    found = boards(rows)
    assert len(found) == 2
    board = next(each for each in found if len(each.places) == 3)
    assert [(each.rank, each.is_tied, each.result.model) for each in board.places] == [
        (1, True, "better"), (1, True, "as good"), (3, False, "runs/mine"),
    ]  # fmt: skip
    low = [replace(OWN, metric="ppl", signature="ppl|ctx:8", higher_is_better=False, value=value, low=None, high=None,
                   model=str(value)) for value in (20, 10, 30)]  # fmt: skip
    assert [each.result.value for each in boards(low)[0].places] == [10, 20, 30]


def test_where_neither_more_nor_less_is_better_the_nearest_to_the_best_comes_first():
    def at(value: float, low: float, high: float) -> Result:
        return replace(OWN, model=str(value), value=value, low=low, high=high, best=50.0)

    (board,) = boards([at(62, 60, 64), at(49, 47, 51), at(41, 39, 43), at(53, 51, 55), at(38, 36, 40)])
    assert [(each.rank, each.result.value) for each in board.places] == [(1, 49), (1, 53), (3, 41), (3, 62), (3, 38)]
    assert board.direction == "nearest to 50 is best" and at(49, 47, 51).ranked == (0, 1, 3)
    (kept,) = read_back(at(62, 60, 64))
    assert kept.best == 50.0 and kept.id != replace(kept, best=None).id


def read_back(result: Result) -> list[Result]:
    with tempfile.TemporaryDirectory() as folder:
        store = ResultsStore(Path(folder) / "a.sqlite")
        store.add([result])
        return store.all()


def test_a_later_run_of_the_same_model_takes_its_place():
    rows = [replace(OWN, model_hash="x", value=1, date="2026-01-01"), replace(OWN, model_hash="x", value=2)]
    assert [each.result.value for each in boards(rows)[0].places] == [2]


def test_own_results_come_first_and_published_ones_are_folded_by_paper(tmp_path: Path):
    rival = replace(
        OWN, model="rival", value=99, low=98, high=99.5, source="quoted", paper_title="A Paper", date="2020"
    )
    imported = replace(rival, model="theirs", source="imported", paper_title="", value=10, low=9, high=11)
    (board,) = boards([rival, OWN, imported])
    assert [each.result.model for each in board.own] == ["runs/mine"] and board.own[0].rank == 2
    assert [(each.title, each.places[0][1].rank) for each in board.papers] == [
        ("A Paper", 1), ("imported, no publication named", 3),
    ]  # fmt: skip
    write_leaderboard([*published(), rival, OWN, imported], tmp_path)
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    order = [page.index(each) for each in ('<tr class="own"', "A Paper", 'id="published"', "GPT-2 124M")]
    assert order == sorted(order) and page.count('<span class="tag mine">measured here</span>') == 2
    papers = {each.paper_title for each in published()}
    assert len(re.findall(r'<details class="paper" id="paper-', page)) == len(papers)
    for target in re.findall(r'href="#([^"]+)"', page):
        assert f'id="{target}"' in page


def test_progress_keeps_the_best_so_far_in_order_of_dates():
    def at(date: str, value: float) -> Result:
        return replace(OWN, model=date, date=date, value=value, low=None, high=None, signature="acc|norm:raw")

    (board,) = boards([at("2021-03", 5), at("2020", 3), at("2022-05-01", 4), at("2023", 9)])
    chart = progress_chart(board)
    assert chart is not None
    best, own = chart.series
    assert [value for _, value in best.rows] == [3, 5, 9, 9] and len(own.rows) == len(own.labels) == 4
    assert [round(time, 2) for time, _ in best.rows] == [2020, 2021.17, 2023, 2023]
    assert progress_chart(boards([at("2020", 1), at("2020-01", 2)])[0]) is None


@needs_chromium
def test_the_board_is_searched_and_its_links_open_what_is_folded(tmp_path: Path):
    write_leaderboard([*published(), OWN], tmp_path)
    script = """
      const search = document.getElementById("search"), seen = selector => [...document.querySelectorAll(selector)]
        .filter(each => each.closest(".hidden") === null).length, counts = [seen("tr[data-text]")];
      for (const words of ["gpt-2 wikitext", "no such thing", ""]) {
        search.value = words; search.dispatchEvent(new Event("input")); counts.push(seen("tr[data-text]"));
      }
      const paper = document.querySelector("details.paper[id]"), was = paper.open;
      location.hash = paper.id;
      setTimeout(() => document.body.replaceChildren(JSON.stringify([counts, was, paper.open])), 200);"""
    (folder := tmp_path / "browser").mkdir()
    made = dom((tmp_path / "index.html").read_text(encoding="utf-8"), folder, script)
    counts, was, now = json.loads(re.findall(r"<body>(.*)</body>", made, re.DOTALL)[0])
    assert counts[0] == counts[3] == len(published()) + 1 and 3 <= counts[1] < 20 and counts[2] == 0
    assert not was and now


def test_the_page_is_safe_and_needs_no_network(tmp_path: Path):
    evil = replace(OWN, model="<script>alert(1)</script>", paper_title='"><img src=x>', paper_url="javascript:alert(1)")
    formula = replace(OWN, model="=HYPERLINK(1)", task="数学")
    write_leaderboard([*published(), OWN, evil, formula], tmp_path)
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page and "<img" not in page and "javascript:" not in page and "数学" in page
    assert not re.findall(r'(?:src|<link[^>]*href)="(?!data:)', page)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "results.csv").read_text(encoding="utf-8"))))
    assert len(rows) == len(published()) + 3
    assert "'=HYPERLINK(1)" in [row["model"] for row in rows]
    assert "@misc{" in as_bibtex(published()) and as_csv([OWN]).count("\n") == 2


# --- other people's forms ---


@pytest.mark.parametrize("form", ["sota", "eval-results", "model-index", "eee"])
def test_what_is_given_can_be_taken(form: str, tmp_path: Path):
    chinese = replace(OWN, model="模型 一", dataset="数据", value=12.25)
    files = interchange.write([OWN, chinese], form, tmp_path)
    found = [row for file in files for row in interchange.read(file)]
    assert sorted(each.value for each in found) == [12.25, 71.5]
    assert all(each.source == "imported" for each in found)
    assert {"BLiMP", "数据"} <= {each.dataset.split(" (")[0] for each in found}
    if form in ("sota", "model-index", "eee"):
        assert {each.model for each in found} == {"runs/mine", "模型 一"}


def test_papers_with_code(tmp_path: Path):
    row = {"model_name": "A", "paper_title": "P", "paper_url": "https://x", "paper_date": "2020-01-02",
           "code_links": [{"title": "c", "url": "https://code"}], "model_links": [], "metrics": {"Test perplexity": "35.76", "BLEU": "41.2%"}}  # fmt: skip
    task = {"task": "Language Modelling", "description": "", "subtasks": [], "datasets": [{"dataset": "PTB", "sota": {"metrics": [], "rows": [row]}}]}  # fmt: skip
    (tmp_path / "x.json").write_text(json.dumps([{"task": "NLP", "datasets": [], "subtasks": [task]}]))
    found = {each.metric: each for each in interchange.read(tmp_path / "x.json")}
    assert found["Test perplexity"].value == 35.76 and not found["Test perplexity"].higher_is_better
    assert (
        found["BLEU"].value == 41.2 and found["BLEU"].code_url == "https://code" and found["BLEU"].date == "2020-01-02"
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [("[1, 2", "cannot be read"), ("{}", "no results found"), ('[{"value": "many", "dataset": {"id": "x"}}]', "not a number"),
     ('[{"value": 1}]', "missing")],
)  # fmt: skip
def test_files_that_hold_no_results(content: str, message: str, tmp_path: Path):
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(InputError, match=message):
        interchange.read(tmp_path / "x.json")

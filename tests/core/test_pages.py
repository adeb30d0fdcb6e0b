"""The frame and the chart of all pages."""

import html
import json
import math
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wenloom.core.pages import ticks as marks
from wenloom.core.pages.chart import MOST_POINTS, Axis, Chart, Series
from wenloom.core.pages.page import marked, render
from wenloom.core.pages.smoothing import smoothed

from ..browser import dom, needs_chromium, needs_node, node

CHART_JS = Path(__file__).parents[2] / "src/wenloom/core/pages/templates/chart.js"
HOSTILE = "</script><script>document.title='broken'</script><img src=x onerror=alert(1)>\"'&{{ 6007*7 }}"
AXES = (Axis("tokens read"), Axis("time of training", "duration"))
STEPS = st.lists(st.floats(0.1, 10), min_size=2, max_size=80)


# --- marks ---


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_ticks_are_inside_and_evenly_spaced(low: float, width: float):
    found = marks.ticks(low, low + width)
    assert 2 <= len(found) <= 12 or width < abs(low) * 1e-9
    gaps = [b - a for a, b in pairwise(found)]
    assert all(gap == pytest.approx(gaps[0], rel=1e-3, abs=1e-9) for gap in gaps)


@given(st.floats(1e-9, 1e9), st.floats(1.01, 1e12))
def test_logarithmic_ticks_are_inside_and_ascend(low: float, factor: float):
    found = marks.log_ticks(low, low * factor, 6)
    assert 1 <= len(found) <= 20 and found == sorted(set(found))
    assert all(low * 0.999 <= each <= low * factor * 1.001 for each in found)


@given(st.floats(0.01, 1e8))
def test_marks_of_time_are_as_many_as_fit(high: float):
    assert 3 <= len(marks.duration_ticks(0.0, high, 6)) <= 16


# --- smoothing ---


@given(st.floats(-100, 100), st.floats(-10, 10), STEPS, st.floats(0, 1))
def test_smoothing_leaves_straight_lines_up_to_both_ends(start: float, slope: float, steps: list[float], share: float):
    """What lags behind a curve shifts a straight line."""
    xs = np.cumsum(steps).tolist()
    line = [start + slope * x for x in xs]
    assert smoothed(xs, line, share) == pytest.approx(line, abs=1e-4)


@given(STEPS, st.floats(0, 1), st.randoms(use_true_random=False))
def test_smoothing_favours_no_direction(steps: list[float], share: float, rng: Random):
    xs, values = np.cumsum(steps).tolist(), [rng.uniform(-1, 1) for _ in steps]
    back = smoothed([-x for x in xs[::-1]], values[::-1], share)[::-1]
    assert back == pytest.approx(smoothed(xs, values, share), abs=1e-4)


def test_smoothing_is_a_weighted_line_through_the_nearest_values():
    """Against numpy's least squares, also where neighbours are on one side only."""
    draw = np.random.default_rng(0)
    xs = np.cumsum(draw.uniform(0.5, 2, 50))
    y = np.sin(xs / 5) + draw.normal(size=50)
    found = smoothed(xs.tolist(), y.tolist(), 0.3)
    for place in (0, 3, 25, 49):
        begin = min(max(0, place - 7), 35)
        distance = xs[begin : begin + 15] - xs[place]
        weight = (1 - (np.abs(distance) / (np.abs(distance).max() * 8 / 7)) ** 3) ** 3
        assert found[place] == pytest.approx(np.polyfit(distance, y[begin : begin + 15], 1, w=np.sqrt(weight))[1])


def test_values_at_one_x_are_smoothed_to_their_mean():
    assert smoothed([5.0] * 20, [1.0, 2.0] * 10, 1.0) == pytest.approx([1.5] * 20)


# --- the same in the page ---


@needs_node
def test_marks_numbers_and_smoothing_are_those_of_the_script(tmp_path: Path):
    ranges = [
        (0, 10),
        (3.3, 6.4),
        (0.5, 300),
        (1, 1e8),
        (0, 47),
        (0, 86400 * 9),
        (2019.2, 2026.9),
        (5, 5),
        (1e-5, 3e-4),
    ]
    numbers = {
        "short": [0, 1, 2.5, 999.9, 1500, 20_000, 1.5e6, 2.5e9, 3e12, 0.003, 0.00025, -12.5],
        "shortDuration": [0, 0.4, 1, 59, 90, 5400, 172_800, 1e7],
        "shortDate": [1999.0, 2023.5, 2023.25, 2026.99],
    }
    xs = [place**1.5 for place in range(40)]
    values = [math.sin(place / 3) * 10 + place for place in range(40)]
    (tmp_path / "ask.js").write_text(
        f"const chart = require({json.dumps(str(CHART_JS))}), ranges = {json.dumps(ranges)}, numbers = {json.dumps(numbers)};"
        "console.log(JSON.stringify([['ticks', 'logTicks', 'durationTicks'].map(name => ranges.filter(([low]) => low > 0 || "
        "name !== 'logTicks').map(([low, high]) => chart[name](low, high, 6))), Object.entries(numbers).map("
        f"([name, given]) => given.map(each => chart[name](each))), chart.smoothed({json.dumps(xs)}, {json.dumps(values)}, 0.2)]))"
    )
    found_ticks, written, curve = json.loads(node(tmp_path / "ask.js"))
    for of_script, name in zip(found_ticks, ("ticks", "log_ticks", "duration_ticks"), strict=True):
        expected = [getattr(marks, name)(*each, 6) for each in ranges if each[0] > 0 or name != "log_ticks"]
        assert [len(each) for each in of_script] == [len(each) for each in expected]
        for a, b in zip(of_script, expected, strict=True):
            assert a == pytest.approx(b)
    writers = (marks.short, marks.short_duration, marks.short_date)
    assert written == [[write(each) for each in given] for write, given in zip(writers, numbers.values(), strict=True)]
    assert curve == pytest.approx(smoothed(xs, values, 0.2))


@needs_node
def test_the_script_passes_its_own_tests():
    assert "# fail 0" in node("--test", "--test-reporter=tap", Path(__file__).parent / "chart.test.cjs")


# --- colours ---

TEMPLATES = [path for path in CHART_JS.parents[3].glob("*/templates/*") if path.suffix == ".jinja"]
STYLES = [CHART_JS.parent / "style.css", *TEMPLATES]


def colours(mode: int) -> dict[str, list[float]]:
    """Red, green and blue of every named colour of all pages; mode 0 is light, 1 dark."""
    found = [each for path in STYLES for each in re.findall(r"(--\w+): light-dark\((#\w+), (#\w+)\)", path.read_text())]
    wide = {name: "".join(2 * digit for digit in shades[mode][1:]) if len(shades[mode]) == 4 else shades[mode][1:]
            for name, *shades in found}  # fmt: skip
    return {name: [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)] for name, digits in wide.items()}


def contrast(one: list[float], other: list[float]) -> float:
    """The ratio of WCAG 2, from 1 to 21."""
    linear = [
        [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in each] for each in (one, other)
    ]
    low, high = sorted(0.2126 * red + 0.7152 * green + 0.0722 * blue for red, green, blue in linear)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("mode", [0, 1])
def test_all_text_has_the_contrast_that_reading_needs(mode: int):
    shades = colours(mode)
    assert contrast([0, 0, 0], [1, 1, 1]) == pytest.approx(21) and {"--h6", "--for", "--not", "--soft"} <= shades.keys()
    for words in ("--ink", "--soft", "--mark", "--good", "--bad"):
        for ground in ("--paper", "--back", "--tint"):
            assert contrast(shades[words], shades[ground]) >= 4.5, (words, ground)
    strongest = [[0.85 * heat + 0.15 * paper for heat, paper in zip(shades[name], shades["--paper"], strict=True)]
                 for name in ("--for", "--not")]  # fmt: skip
    for ground in [shades[f"--h{level}"] for level in range(7)] + strongest:
        assert contrast(shades["--ink"], ground) >= 4.5, ground


# --- charts ---


def a_page(chart: Chart, title: str = "a chart") -> str:
    """A page with a chart and nothing else."""
    return render("tests.core", "a_chart.html.jinja", title=title, chart=chart)


class Scripts(HTMLParser):
    """Contents of script elements, and whatever element should not be there."""

    def __init__(self, page: str):
        super().__init__()
        self.found: list[tuple[str | None, str]] = []
        self.tags: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag == "script":
            self.found.append((dict(attrs).get("type"), ""))

    def handle_data(self, data: str) -> None:
        if self.cdata_elem == "script":
            kind, content = self.found[-1]
            self.found[-1] = kind, content + data


def test_a_chart_can_be_read_without_its_script_and_keeps_what_it_was_given():
    rows = [(1000.0 * n, 2.0 * n, 5.0 / n) for n in range(1, 11)] + [(11_000.0, 22.0, math.nan)]
    page = a_page(Chart("nats per token", AXES, [Series("training", rows, is_noisy=True), Series("empty", [])]))
    assert page.count("<polyline") == 1 and page.count('class="grid"') >= 4 and "tokens read" in page
    (data,) = [json.loads(content) for kind, content in Scripts(page).found if kind == "application/json"]
    (series,) = data["series"]
    assert series["y"] == pytest.approx([row[2] for row in rows[:-1]]) and len(series["x"]) == 2
    assert not re.search(r'(?:src|href)="(?!data:|#)', page)


def test_long_curves_are_put_together_with_their_extremes():
    rows = [(float(n), float(n), 1.0) for n in range(10 * MOST_POINTS)]
    rows[1234] = (1234.0, 1234.0, 99.0)
    (series,) = Chart("y", AXES, [Series("a", rows)]).data()["series"]
    assert len(series["y"]) <= MOST_POINTS == len(series["low"]) and max(series["high"]) == 99


def test_nothing_given_breaks_out_of_the_page():
    page = a_page(
        Chart(HOSTILE, [Axis(HOSTILE)], [Series(HOSTILE, [(0.0, 1.0), (1.0, 2.0)], labels=[HOSTILE] * 2)]), HOSTILE
    )
    parsed = Scripts(page)
    assert "img" not in parsed.tags and len(parsed.found) == 4 and "42049" not in page
    (data,) = [json.loads(content) for kind, content in parsed.found if kind == "application/json"]
    assert data["series"][0]["name"] == HOSTILE and data["series"][0]["labels"] == [HOSTILE] * 2


def test_a_page_can_be_written_whatever_it_was_given():
    page = a_page(Chart("\udcff", AXES, [Series("\ud83d", [(0.0, 0.0, 1.0)])]), "\ud800 春")
    assert "? 春" in page and page.encode()


@given(st.text("a<&;|>床 \n'\"", max_size=20), st.text("a<&;|>床", max_size=20))
def test_marked_text_is_the_text_but_for_the_mark(before: str, after: str):
    shown = marked(f"{before}<|endoftext|>{after}")
    mark = str(marked("<|endoftext|>"))
    assert "endoftext" not in mark and mark in str(shown)
    assert html.unescape(str(shown).replace(mark, "&lt;|endoftext|&gt;")) == f"{before}<|endoftext|>{after}"


@needs_chromium
def test_a_wide_table_can_be_scrolled_by_keys_once_its_part_is_unfolded(tmp_path: Path):
    cells = "".join(f"<td>{number:012}</td>" for number in range(200))
    table = f'<section><h2>Wide</h2><details><summary>more</summary><div class="scroll"><table><tr>{cells}</tr></table></div></details></section>'
    page = a_page(counted()).replace("</main>", f"{table}</main>")
    script = """
      const scroller = document.querySelector(".scroll");
      document.querySelector("details").open = true;
      setTimeout(() => document.body.replaceChildren(JSON.stringify([scroller.tabIndex, scroller.getAttribute("role"),
        scroller.getAttribute("aria-label"), document.documentElement.scrollWidth <= innerWidth])), 300);"""
    made = re.findall(r"<body[^>]*>(\[.*\])</body>", dom(page, tmp_path, script))[0]
    assert json.loads(made) == [0, "region", "Wide", True]


@needs_chromium
def test_the_arrow_keys_read_the_curves_and_the_axes_change(tmp_path: Path):
    rows = [(1000.0 * n, 60.0 * n, 10.0 / n) for n in range(1, 31)]
    page = a_page(
        Chart("loss", AXES, [Series("training", rows, is_noisy=True), Series("validation", rows[9::10], 1, "dotted")])
    )
    script = """
      const plot = document.querySelector(".plot"), said = [], keep = () => said.push(plot.getAttribute("aria-valuetext"));
      const press = key => { plot.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true })); keep(); };
      press("Home"); press("ArrowRight"); press("End"); press("PageDown");
      const [by, share] = document.querySelectorAll("select");
      by.value = 1; by.dispatchEvent(new Event("change")); share.value = 0; share.dispatchEvent(new Event("change"));
      press("Home");
      for (const each of document.querySelectorAll(".controls button")) each.click();
      press("End");
      const texts = [...plot.querySelectorAll("text")].map(each => each.textContent);
      document.querySelector(".legend button").click();
      press("Home");
      document.body.replaceChildren(JSON.stringify({ said, texts, role: plot.getAttribute("role"), tab: plot.tabIndex }));"""
    found = json.loads(html.unescape(re.findall(r"<body>(.*)</body>", dom(page, tmp_path, script), re.DOTALL)[0]))
    said = found["said"]
    assert said[0].startswith("tokens read 1,000: training ") and said[0].endswith("validation 1 at 10,000")
    assert (
        said[1].startswith("tokens read 2,000")
        and said[2].startswith("tokens read 30,000")
        and said[3].startswith("tokens read 27,000")
    )
    assert said[4] == "time of training 1 min: training 10, validation 1 at 10 min"
    assert said[5].startswith("time of training 30 min") and "10 min" in found["texts"]
    assert said[6] == "time of training 10 min: validation 1"
    assert found["role"] == "slider" and found["tab"] == 0


def counted() -> Chart:
    """A curve over whole numbers."""
    return Chart("probability", (Axis("block"),), [Series("answer", [(n, n / 10) for n in range(4)])])


def test_what_is_counted_has_no_marks_between_whole_numbers():
    assert [label for _, label in counted().drawing()["x_ticks"]] == ["0", "1", "2", "3"]


@needs_chromium
def test_the_script_puts_no_marks_between_whole_numbers(tmp_path: Path):
    script = """
      const texts = [...document.querySelectorAll(".plot text")].map(each => each.textContent);
      document.body.replaceChildren(JSON.stringify(texts));"""
    found = json.loads(re.findall(r"<body>(.*)</body>", dom(a_page(counted()), tmp_path, script), re.DOTALL)[0])
    assert found.count("1") == 1 and "0.5" not in found and "2.5" not in found


@needs_chromium
def test_hostile_names_stay_text_in_the_drawn_chart_and_nothing_is_wider_than_a_telephone(tmp_path: Path):
    chart = Chart(HOSTILE, [Axis(HOSTILE)], [Series(HOSTILE, [(float(n), 2.0 + n) for n in range(30)], is_noisy=True)])
    script = """
      document.body.style.width = "390px";
      setTimeout(() => document.body.replaceChildren(JSON.stringify([document.title.startsWith("<" + "/script>"),
        document.querySelectorAll("img").length, document.body.scrollWidth])), 300);"""
    made = dom(a_page(chart, HOSTILE), tmp_path, script, width=500)
    assert json.loads(re.findall(r"<body[^>]*>(\[.*\])</body>", made)[0]) == [True, 0, 390]

"""The page that colours tokens by surprise."""

import html
import json
import math
import re
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from wenloom.evaluation.heat import LEVELS, ColouredToken, heat_page, lines_of, most_surprising_lines
from wenloom.evaluation.scorer import Score
from wenloom.tokens.tokenizer import TextTokenizer
from wenloom.tokens.train import train_tokenizer

from ..browser import dom, needs_chromium

HOSTILE = "</script><img src=x>\nAnd 月光 so"


def scored(tokenizer: TextTokenizer, text: str) -> Score:
    """A text with surprises of 0, 1, 2 ... 19 bits, over and over."""
    found = tokenizer.encoding(text, add_special_tokens=False)
    logs = [-(place % 20) * math.log(2) for place in range(len(found.ids))]
    begins = [begin for begin, _ in found.offsets]
    return Score(text, found.ids, logs, len(text.encode()), context_length=64, stride=32, bos=True, begins=begins)


@given(st.lists(st.text("ab。\n .", min_size=1, max_size=60), min_size=1, max_size=60))
def test_lines_hold_the_text_in_order_under_its_line_numbers(texts: list[str]):
    lines = lines_of([ColouredToken(text, 1.0, place) for place, text in enumerate(texts)])
    assert [each.place for line in lines for each in line.pieces] == list(range(len(texts)))
    whole = "".join(texts)
    for line in lines:
        before = "".join(texts[: line.pieces[0].place])
        assert line.number == before.count("\n") + 1 and before + "".join(each.text for each in line.pieces) in whole


def test_the_most_surprising_lines_come_first_and_short_ones_do_not_count():
    long = [[ColouredToken("x", bits, 0)] * 6 + [ColouredToken("\n", bits, 0)] for bits in (2.0, 9.0, 5.0)]
    lines = lines_of([each for part in (*long, [ColouredToken("!", 30.0, 0)]) for each in part])
    assert [line.bits for line in most_surprising_lines(lines)] == [9, 5, 2]
    assert [line.number for line in most_surprising_lines(lines, 1)] == [2]
    assert most_surprising_lines(lines[-1:]) == lines[-1:]


def test_every_level_has_its_colour():
    assert [ColouredToken("x", bits, 0).level for bits in (0, 0.99, *LEVELS)] == [0, 0, *range(1, len(LEVELS) + 1)]


def test_the_page_shows_any_text_as_it_is(tokenizer: TextTokenizer):
    page = heat_page("<b>m", tokenizer, scored(tokenizer, HOSTILE * 5))
    body = page.split('<div class="text" dir="auto">')[1].split("</div>")[0]
    assert html.unescape(re.sub("<[^>]*>", "", body)) == HOSTILE * 5
    assert "<img" not in page and "<b>m" not in page and page.count("<script>") == 3
    assert not re.search(r'(?:src|href)="(?!data:|#)', page)


@needs_chromium
def test_tokens_are_read_by_touch_and_by_keys_and_coloured_by_rank(tokenizer: TextTokenizer, tmp_path: Path):
    page = heat_page("m", tokenizer, scored(tokenizer, "So we'll go no more a roving, So late into the night. " * 8))
    script = """
      const text = document.querySelector(".text"), said = [], tokens = [...text.querySelectorAll("[data-b]")];
      const keep = () => said.push(document.getElementById("said").textContent);
      const press = key => { text.dispatchEvent(new KeyboardEvent("keydown", { key, cancelable: true })); keep(); };
      tokens[3].click(); keep(); press("ArrowRight"); press("End"); press("Home");
      document.getElementById("ranks").click();
      const counts = [0, 1, 2, 3, 4, 5, 6].map(level => text.querySelectorAll(`.h${level}`).length);
      document.body.replaceChildren(JSON.stringify({ said, n: tokens.length, counts, value: text.getAttribute("aria-valuenow") }));"""
    found = json.loads(html.unescape(re.findall(r"<body>(.*)</body>", dom(page, tmp_path, script), re.DOTALL)[0]))
    n = found["n"]
    assert [re.findall(r"(\d+\.\d+) bits.*token (\d+) of", each)[0] for each in found["said"]] == [
        ("3.00", "4"), ("4.00", "5"), (f"{(n - 1) % 20}.00", str(n)), ("0.00", "1"),
    ]  # fmt: skip
    assert sum(found["counts"]) == n and min(found["counts"]) >= n / 7 * 0.5 and found["value"] == "1"


@needs_chromium
def test_text_from_right_to_left_stands_so_and_its_left_arrow_goes_on(tokenizer: TextTokenizer, tmp_path: Path):
    page = heat_page("m", tokenizer, scored(tokenizer, "كل الناس يولدون أحرارا"))
    script = """
      const text = document.querySelector(".text"), press = key => text.dispatchEvent(new KeyboardEvent("keydown", { key, cancelable: true }));
      press("Home"); press("ArrowLeft"); press("ArrowLeft"); press("ArrowRight");
      document.body.replaceChildren(JSON.stringify([getComputedStyle(text).direction, text.getAttribute("aria-valuenow")]));"""
    assert json.loads(re.findall(r"<body>(.*)</body>", dom(page, tmp_path, script), re.DOTALL)[0]) == ["rtl", "2"]


def test_a_line_of_the_table_ends_where_it_ends():
    """A token may hold the break and the indentation of the next line: on the page it would begin one more line."""
    text = "we go no more a roving\n        so late into the night\n" * 8
    tokenizer = train_tokenizer([text], "bpe", 290)
    page = heat_page("m", tokenizer, scored(tokenizer, text))
    table = page[page.index('id="lines"') : page.index('id="tokens"')]
    assert table.count('class="line"') >= 8 and not re.search(r"\n[ \t]+</span></div>", table)

"""Steps that know texts of the user's own: benchmarks that are not to be learned, examples of good and of bad text."""

import json
import random
import re
import textwrap
from pathlib import Path

import pytest

from wenloom.core.errors import InputError
from wenloom.text.document import Document
from wenloom.text.steps.contamination import Contamination
from wenloom.text.steps.quality import QualityStep
from wenloom.text.steps.step import Dropped, Kept

from ..cli.calling import call, refused
from ..conftest import story


def long_text(number: int) -> str:
    rng = random.Random(number)
    return " ".join("".join(rng.choice("aeioubdfgklmnprst") for _ in range(rng.randint(2, 8))) for _ in range(60)) + "."


QUESTION = "Which of these lamps, lit before dusk by the old keeper, burned longest: the red one or the green one?"
CHINESE = "下列各项中，哪一项最能说明灯塔看守人在暴风雨来临之前点亮灯火的原因，请选择正确的答案"


@pytest.fixture
def suite(tmp_path: Path) -> str:
    rows = [
        {"question": QUESTION, "choices": ["the red one", long_text(1)], "gold": 0},
        {"question": CHINESE},
        {"question": "Too short to tell."},
    ]
    (tmp_path / "suite.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(tmp_path / "suite.jsonl")


def mangled(text: str) -> str:
    """Wrapped otherwise, in capitals, with other marks."""
    return textwrap.fill(re.sub(r"[,.:?]", " —", text).upper(), 31)


@pytest.mark.parametrize("item, place", [(QUESTION, "line 1"), (long_text(1), "line 1"), (CHINESE, "line 2")])
def test_an_item_is_found_however_it_is_wrapped_and_punctuated(item: str, place: str, suite: str):
    step = Contamination(files=(suite,))
    for text in (item, mangled(item), item.replace("，", "\n")):
        result = step(Document(f"{long_text(5)}\n{text}\n{long_text(6)}", "here"))
        assert isinstance(result, Dropped) and f"words in a row of suite.jsonl, {place}" in result.reason, text


def test_text_that_holds_no_item_is_kept(suite: str):
    step = Contamination(files=(suite,))
    for text in (story(3), long_text(9), "Too short to tell.", " ".join(QUESTION.split()[:9]), CHINESE[:12], ""):
        assert isinstance(step(Document(text, "here")), Kept)


def test_suites_are_found_by_name_or_named_as_missing(suite: str, tmp_path: Path):
    (tmp_path / "data").mkdir()
    row = {"query": QUESTION, "choices": ["red", "green"], "gold": 0}
    (tmp_path / "data/arc_easy.jsonl").write_text(json.dumps(row) + "\n")
    (tmp_path / "text.jsonl").write_text(
        "".join(json.dumps({"text": text}) + "\n" for text in (mangled(QUESTION), story(1)))
    )
    given = ("text.jsonl", "--json", "--recipe", "plain", "--set", "contamination=on", "--set")
    done = call("read", *given, "contamination.suites=all", cwd=tmp_path)
    rows = [json.loads(line) for line in done.out.splitlines()]
    assert [row["kept"] for row in rows] == [False, True] and "contamination: holds 13 words" in rows[0]["reason"]
    assert "no such" in refused("read", *given[:1], *given[2:], "contamination.files=nowhere.txt", cwd=tmp_path)
    assert "blimp" in refused("read", *given[:1], *given[2:], "contamination.suites=blimp", cwd=tmp_path)


def test_a_classifier_learns_from_examples_what_is_good(tmp_path: Path):
    rng = random.Random(0)
    spam = [
        " ".join(rng.choice("buy cheap win casino bonus click free pills now best offer".split()) for _ in range(40))
        for _ in range(60)
    ]
    for name, texts in (("good", [story(number) for number in range(60)]), ("bad", spam[:50])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    step = QualityStep((str(tmp_path / "good.jsonl"),), (str(tmp_path / "bad.jsonl"),))
    assert all(isinstance(step(Document(story(number), "here")), Kept) for number in range(100, 120))
    result = step(Document(spam[-1], "here"))
    assert isinstance(result, Dropped) and re.search(
        r"probability of 0\.[0-4]\d, at least 0.5 must be .* 100% of examples", result.reason
    )
    with pytest.raises(InputError, match="ten of each at least"):
        QualityStep((_one(tmp_path),), (_one(tmp_path),))(Document("x", "here"))
    with pytest.raises(InputError, match="name files"):
        QualityStep()(Document("x", "here"))


def _one(folder: Path) -> str:
    (folder / "one.txt").write_text("The lamp.")
    return str(folder / "one.txt")

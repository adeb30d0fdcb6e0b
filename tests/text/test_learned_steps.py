"""Steps that know texts of the user's own: benchmarks that are not to be learned, examples of good and of bad text."""

import json
import random
import re
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest

from wenloom.core.errors import InputError
from wenloom.text.document import Document
from wenloom.text.steps import perplexity
from wenloom.text.steps.contamination import Contamination
from wenloom.text.steps.quality import QualityStep
from wenloom.text.steps.step import Dropped, Kept
from wenloom.tokens.shards import Dataset
from wenloom.training.pretrain import pretrain

from ..cli.calling import call, refused
from ..conftest import story
from ..training.runs import MODEL, TRAINING


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


PROGRAM = "def area(room.width, room.height): return math.floor(room.width * room.height / 2.0) - self.door.area(1.5) + os.path.size"


@pytest.mark.parametrize("marks", ["[.]", "[.,]", r"[^\w\s]", "[()]"])
def test_an_item_is_found_without_some_of_the_marks_inside_its_words(marks: str, tmp_path: Path):
    """A program or a number whose marks are taken out is other words."""
    (tmp_path / "suite.jsonl").write_text(json.dumps({"prompt": PROGRAM}) + "\n")
    step = Contamination(files=(str(tmp_path / "suite.jsonl"),))
    text = f"{long_text(5)}\n{re.sub(marks, '', PROGRAM)}\n{long_text(6)}"
    result = step(Document(text, "here"))
    assert isinstance(result, Dropped) and "suite.jsonl, line 1" in result.reason


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
    for suites, says in (("blimp", "no data of blimp below data; name the folder that holds it in WENLOOM_DATA"),
                         ("arc_easi", "there is no suite arc_easi; did you mean arc_easy?"),
                         ("xyz", "there is no suite xyz; known are all, ")):  # fmt: skip
        said = refused("read", *given[:1], *given[2:], f"contamination.suites={suites}", cwd=tmp_path)
        assert f"contamination.suites: {says}" in said and "--on" not in said


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
        r"probability of 0\.[0-4]\d, at least 0.5 must be .* 100 % of examples", result.reason
    )
    with pytest.raises(InputError, match="ten of each at least"):
        QualityStep((_one(tmp_path),), (_one(tmp_path),))(Document("x", "here"))
    with pytest.raises(InputError, match="name files"):
        QualityStep()(Document("x", "here"))


def test_what_is_strange_to_a_model_is_dropped_with_its_bits(tmp_path: Path):
    def load(folder: str):
        assert folder == "runs/mine"
        return lambda text: 9.0 if "#" in text else 0.01 if text.startswith("aaa") else 2.0

    perplexity.provide(load)
    step = perplexity.PerplexityStep("runs/mine", at_most=3.0, at_least=0.1)
    results = [step(Document(text, "here")) for text in ("fine", "##", "aaaa", " ")]
    assert [isinstance(each, Kept) for each in results] == [True, False, False, True]
    assert "takes the model 9.00 bits per byte, at most 3 may be" in str(results[1]) and "at least 0.1" in str(
        results[2]
    )
    with pytest.raises(InputError, match=r"perplexity\.model"):
        perplexity.PerplexityStep()(Document("x", "here"))


def test_a_recipe_of_the_command_line_measures_with_a_model(decoder_folder: Path, tmp_path: Path):
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in (story(1), "")))
    model = ("--set", "perplexity=on", "--set", f"perplexity.model={decoder_folder}", "--set")
    rows = {}
    for bound in (0.5, 99.0):
        done = call(
            "read", "a.jsonl", "--json", "--recipe", "plain", *model, f"perplexity.at_most={bound}", cwd=tmp_path
        )
        rows[bound] = [json.loads(line)["reason"] for line in done.out.splitlines()]
    assert rows[99.0] == [None, "empty: empty"] and "perplexity: takes the model" in rows[0.5][0]


@pytest.fixture
def decoder_folder(dataset: Dataset, tmp_path: Path) -> Path:
    return pretrain(dataset.folder, tmp_path / "run", MODEL, replace(TRAINING, steps=2)).folder


def _one(folder: Path) -> str:
    (folder / "one.txt").write_text("The lamp.")
    return str(folder / "one.txt")

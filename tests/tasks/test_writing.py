"""Stories, poems and programs: forms, checks, and what a model made for them writes."""

import json
from pathlib import Path

import pytest

from wenloom.cli.app import main
from wenloom.core.errors import InputError
from wenloom.tasks.finetune import finetune
from wenloom.tasks.pairs import Pair
from wenloom.tasks.poetry import FORMS, faults, form_of, rhymes
from wenloom.tasks.settings import DataSettings, FreshSettings, LearningSettings
from wenloom.tasks.writing import check_poem, check_program, figures_of, piece_of
from wenloom.training.run_file import write_run
from wenloom.training.settings import TrainSettings

SPRING = "春眠不觉晓，处处闻啼鸟。\n夜来风雨声，花落知多少。"
LONGING = "红豆生南国，春来发几枝。\n愿君多采撷，此物最相思。"  # zhi and si rhyme, though not with li


@pytest.mark.parametrize("poem", [SPRING, LONGING])
def test_what_a_form_asks_for(poem: str):
    form = FORMS["五言绝句"]
    assert form_of(poem) == form and not faults(poem, form) and rhymes(poem)
    assert form_of(poem.replace("。", "，")) == form
    assert form_of(poem + "（一作今）") == form
    assert form_of(poem[:-7]) is None and form_of("") is None and form_of("a，b。") is None
    assert rhymes(poem.replace("少", "月").replace("思", "月")) is False
    assert faults(poem.replace("处处", "处").replace("几枝", "枝"), form)[0].startswith("line 2 has 4")
    assert check_poem(poem, None) == check_poem(poem, "五言绝句")
    assert check_poem(poem, "五言绝句").remarks == ("is a 五言绝句", "rhymes")
    assert not check_poem(poem, "七言律诗").passed and not check_poem("hello", None).passed


def test_the_same_sound_in_another_rhyme():
    assert rhymes("一一一一一，一一一一李。一一一一一，一一一一诗。") is False  # li and shi end in two sounds


def test_rows_become_prompts():
    row = {"title": "春晓", "paragraphs": ["春眠不觉晓，处处闻啼鸟。", "夜来风雨声，花落知多少。"]}
    assert piece_of(row, "poetry") == Pair("春晓（五言绝句）", (SPRING,))
    assert piece_of(row | {"paragraphs": ["自由的诗"]}, "poetry") == Pair("春晓", ("自由的诗",))
    code = {"instruction": "Add.", "input": "1, 2", "output": "print(1 + 2)"}
    assert piece_of(code, "code") == Pair("Add.\n\n1, 2", ("print(1 + 2)",))
    with pytest.raises(ValueError, match="no field"):
        piece_of({"title": "x"}, "story")


def test_programs_run_only_when_asked_and_within_bounds():
    good, bad, prose = "def f():\n    return 1\nassert f() == 1", "raise SystemExit(3)", "The sum is three."
    assert check_program(good, run=True) == (True, ("ran: passed",))
    assert check_program(bad, run=False).passed and not check_program(bad, run=True).passed
    assert not check_program(prose, run=True).passed
    assert check_program("import socket\nsocket.socket().connect(('127.0.0.1', 9))", run=True).passed is False


def test_figures():
    figures = figures_of("poetry", ["a（五言绝句）", "b（五言绝句）", "c"], [SPRING, SPRING[:-4], "x"])
    assert figures["form"][0] == 0.5 and figures["rhyme"][0] == 1.0
    assert figures_of("code", ["", ""], ["x = 1", "x ="])["parses"][0] == 0.5
    assert figures_of("story", [""], ["a b a b a b"])["distinct_2"][0] == pytest.approx(2 / 5)


def test_a_poet_keeps_to_the_form_it_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    poems = [{"title": f"题{n}", "paragraphs": SPRING.split("\n") if n % 2 else LONGING.split("\n")} for n in range(60)]
    path = tmp_path / "poems.jsonl"
    path.write_text("\n".join(json.dumps(each, ensure_ascii=False) for each in [*poems, {"title": "空"}]))
    fresh = FreshSettings(layers=1, width=32, heads=2)
    result = finetune("poetry", tmp_path / "run", None, DataSettings(str(path)), fresh, LearningSettings(),
                      TrainSettings(steps=40, batch=16, seed=0))  # fmt: skip
    assert 0 <= result.figures["form"][0] <= 1
    assert "line 61" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        call("compose", str(tmp_path / "run"), "夜", "--form", "七言绝句", "--seed", "1", "--n", "2", "--json")
    assert ended.value.code == 0
    texts = json.loads(capsys.readouterr().out)["texts"]
    assert len(texts) == 2 and texts[0]["text"] != texts[1]["text"]
    assert all(form_of(each["text"]) == FORMS["七言绝句"] and each["passed"] for each in texts)
    with pytest.raises(InputError, match="--reverse"):
        finetune("poetry", tmp_path / "no", None, DataSettings(str(path), reverse=True))


@pytest.mark.parametrize(
    "arguments", [["--form", "sonnet"], ["--style", "story", "--form", "七言绝句"], ["--n", "0"], ["--run"], []]
)
def test_what_cannot_be_is_refused(arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    write_run(tmp_path, {
        "settings": {"task": "poetry" if arguments else "chat"}, "data": {"key": "x"}, "environment": {},
        "model": {"family": "llama", "parameters": 1, "vocab_size": 1},
        "result": {"steps": 1, "of_steps": 1, "tokens": 1, "training_seconds": 1.0},
    })  # fmt: skip
    with pytest.raises(SystemExit) as ended:
        call("compose", str(tmp_path), "x", *arguments)
    assert ended.value.code == 2 and "--" in capsys.readouterr().err


def call(*arguments: str) -> None:
    import sys

    sys.argv = ["wenloom", *arguments]
    main()

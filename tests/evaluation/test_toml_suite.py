"""Suites described by TOML: what they ask, and what wrong descriptions get."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wenloom.core.errors import InputError
from wenloom.evaluation.field_templates import NoField, Template
from wenloom.evaluation.toml_suite import load_suite

CHOICES = 'files = ["rows.jsonl"]\nquery = "问：{q}"\nchoices = "{options}"\ngold = "{right}"\n'
WRITTEN = 'files = ["rows.jsonl"]\nquery = "{q}"\nreference = "{answers}"\n'


def suite(folder: Path, text: str, *rows: Any):
    (folder / "my.toml").write_text(text, encoding="utf-8")
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return load_suite(folder / "my.toml")


def test_choices_and_references(tmp_path: Path):
    made = suite(
        tmp_path,
        CHOICES + 'group = "{topic}"\ndelimiter = ""\n',
        {"q": "天", "options": ["晴", "雨"], "right": 1, "topic": "气"},
    )
    (asked,) = made.read(made.find(Path("nowhere")))
    assert (asked.contexts, asked.choices, asked.gold, asked.group) == (("问：天",), ("晴", "雨"), 1, "气")
    assert made.format.startswith("own ") and made.name == "my"
    made = suite(tmp_path, WRITTEN + 'example_query = "Example: {q}"\n', {"q": "Q", "answers": ["a", "b"]})
    (asked,) = made.read(made.find(None))
    assert asked.references == ["a", "b"] and asked.solved() == "Example: Q a"


def test_the_file_beside_a_suite_is_its_data_not_one_that_lies_deeper(tmp_path: Path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/rows.jsonl").write_text("{}\n")
    made = suite(tmp_path, CHOICES, {"q": "a"})
    assert made.find(None) == tmp_path / "rows.jsonl"
    (tmp_path / "rows.jsonl").unlink()
    assert made.find(None) == tmp_path / "a/rows.jsonl"
    (tmp_path / "a/rows.figures.json").write_text("{}")  # so that the other file holds an evaluation's samples
    with pytest.raises(InputError, match=r"my: none of rows\.jsonl"):
        made.find(tmp_path / "nowhere")


@pytest.mark.parametrize(("text", "message"), [
    ("query = ", "my.toml: not valid TOML"),
    (CHOICES + "\ncolour = 1\n", 'my.toml, line 6, "colour": no such key. Known are files'),
    (CHOICES.replace('"{options}"', "3"), 'my.toml, line 3, "choices": a list of texts or a text was expected, not a number'),
    (CHOICES.replace("{q}", "{q"), r"""my.toml, line 2, "query": '{q': a field in braces was expected"""),
    (CHOICES.replace("{q}", "{}"), 'my.toml, line 2, "query"'),
    (CHOICES + 'headline = "best"\n', 'line 5, "headline": best is none of raw, token'),
    (CHOICES + 'reference = "{x}"\n', "name either choices (or choices_of) with gold, or a reference"),
    (CHOICES + 'metrics = ["f1"]\n', 'line 5, "metrics": is not read in a suite with choices'),
    (CHOICES.replace('gold = "{right}"\n', ""), 'no key "gold"'),
    (WRITTEN + 'metrics = ["magic"]\n', 'line 4, "metrics": magic is none of'),
    (WRITTEN + 'headline = "raw"\n', '"headline": is not read in a suite with a reference'),
    (WRITTEN.replace('files = ["rows.jsonl"]', ""), 'no key "files"'),
    (WRITTEN.replace('["rows.jsonl"]', "[]"), 'line 1, "files": name at least one file'),
])  # fmt: skip
def test_a_wrong_description_is_refused_by_line_and_key(text: str, message: str, tmp_path: Path):
    with pytest.raises(InputError) as error:
        suite(tmp_path, text, {"q": "a"})
    assert message in str(error.value)


def test_rows_that_lack_a_field_and_choices_that_do_not_fit(tmp_path: Path):
    for row, message in (
        ({"q": "a", "options": ["x"], "right": 0}, "two or more choices are needed"),
        ({"q": "a", "options": ["x", "y"], "right": 2}, "the right choice is '2', which is none of 0, 1"),
        ({"q": "a", "right": 0}, 'no field "options", which "choices" of my.toml asks for; it has "q", "right"'),
        ({"q": {"b": 1}, "options": ["x", "y"], "right": 0}, '"query" of my.toml asks for'),
    ):
        made = suite(tmp_path, CHOICES, row)
        with pytest.raises(InputError) as error:
            made.read(made.find(None))
        assert message in str(error.value) and "rows.jsonl, line 1" in str(error.value)


@given(st.dictionaries(st.from_regex(r"[a-z]{1,5}", fullmatch=True), st.text()), st.text())
def test_a_template_gives_back_braces_and_fields(row: dict[str, str], plain: str):
    escaped = plain.replace("{", "{{").replace("}", "}}")
    text = escaped + "".join(f"{{{name}}}" for name in row)
    assert Template(text).text(row) == plain + "".join(row.values())


def test_templates_reach_into_rows_and_run_nothing():
    row = {"a": [{"t": "x"}, {"t": 2}], "s": "text", "none": None, "yes": True}
    assert Template("{a.t}").values(row) == ["x", "2"] and Template("{a.1.t}").text(row) == "2"
    assert Template("{gone|none|s}").text(row) == "text" and Template("{yes}").text(row) == "true"
    assert Template("{a.t}", "、").text(row) == "x、2"
    for bad in ("{gone}", "{none}", "{a}", "{s.__class__}", "{a.5}", "{a.u}", "{s.upper()}"):
        with pytest.raises(NoField):
            Template(bad).text(row)

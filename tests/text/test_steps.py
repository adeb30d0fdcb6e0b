"""Steps: a document is kept, perhaps changed, or dropped with the reason, and who wants to can read what was dropped."""

import json
from pathlib import Path

import pytest

from wenloom.core.errors import InputError
from wenloom.text.documents import Document, ReadOptions
from wenloom.text.pipeline import DroppedDocument, Pipeline, steps_named
from wenloom.text.steps import STEPS
from wenloom.text.steps.step import Dropped, Kept
from wenloom.tokens.prepare import PrepareOptions, prepare

from ..core.test_plugins import install


def documents(*texts: str) -> list[Document]:
    return [Document(text, f"file, line {number}") for number, text in enumerate(texts, 1)]


def test_every_document_is_kept_or_dropped_with_step_and_reason():
    dropped: list[DroppedDocument] = []
    pipeline = Pipeline(steps_named(), dropped.append)
    kept = [*pipeline.run(documents("a", "b\r\n", " \n", "b\n")), *pipeline.run(documents("a", "c"))]
    assert [each.text for each in kept] == ["a", "b\n", "c"]
    assert [(each.document.source, each.step) for each in dropped] == [
        ("file, line 3", "empty"), ("file, line 4", "duplicates"), ("file, line 1", "duplicates"),
    ]  # fmt: skip
    assert all(each.reason for each in dropped) and pipeline.counts == {"empty": 1, "duplicates": 2}


def test_duplicates_are_seen_whatever_their_place():
    step = STEPS["duplicates"]()
    found = [step(each) for each in documents("a", "b", "a", "a\n")]
    assert [isinstance(each, Dropped) for each in found] == [False, False, True, False]


@pytest.mark.parametrize(
    "names, said", [(("shouting",), "not known"), (("empty",), "leave it out"), (("repetition",) * 2, "twice")]
)
def test_steps_that_cannot_be_taken_are_refused_by_name(names: tuple[str, ...], said: str):
    with pytest.raises(InputError, match=f"--text-steps {names[0]}.*{said}"):
        steps_named(names)


def test_what_is_left_out_is_written_with_source_reason_and_beginning(tmp_path: Path):
    rows = [{"text": "One text."}, {"text": "One text."}, {"title": "x"}, {"text": ""}, {"text": "Another." * 50}] * 2
    source = tmp_path / "rows.jsonl"
    source.write_text("\n".join(map(json.dumps, rows)))
    made = [
        prepare([str(source)], tmp_path / name, PrepareOptions("byte"), ReadOptions(skip_bad=True), dropped=told)
        for name, told in (("plain", None), ("told", tmp_path / "dropped.jsonl"))
    ]
    left_out = [json.loads(line) for line in (tmp_path / "dropped.jsonl").read_text().splitlines()]
    assert [(each["source"].split()[-1], each["step"]) for each in left_out] == [
        ("2", "duplicates"), ("3", "reading"), ("4", "empty"), ("6", "duplicates"), ("7", "duplicates"),
        ("8", "reading"), ("9", "empty"), ("10", "duplicates"),
    ]  # fmt: skip
    assert (
        "no field" in left_out[1]["reason"] and left_out[0]["text"] == "One text." and len(left_out[7]["text"]) == 200
    )
    for name in ("train-00000.npy", "validation-00000.npy", "tokenizer.json"):
        assert (tmp_path / "plain" / name).read_bytes() == (tmp_path / "told" / name).read_bytes()
    assert made[0].dataset.key == made[1].dataset.key and not made[1].reused


def test_a_step_of_another_package_is_taken_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    code = """
from dataclasses import replace
from wenloom.text.steps.step import Dropped, Kept

def shouting():
    return lambda each: Dropped("a whisper") if each.text == "psst" else Kept(replace(each, text=each.text.upper()))
"""
    install(tmp_path, "shouting_package", "[wenloom.text_steps]\nshouting = shouting_package:shouting\n", code)
    monkeypatch.syspath_prepend(tmp_path)
    pipeline = Pipeline(steps_named(("shouting",)))
    assert [each.text for each in pipeline.run(documents("a", "psst", "A", "b"))] == ["A", "B"]
    assert pipeline.counts == {"shouting": 1, "duplicates": 1}


@pytest.mark.parametrize("place, said", [("out/dropped.jsonl", "lies in --out"), ("rows.jsonl", "one of the texts")])
def test_what_is_left_out_is_not_written_over_texts_nor_into_the_corpus(place: str, said: str, tmp_path: Path):
    source = tmp_path / "rows.jsonl"
    source.write_text('{"text": "a"}')
    with pytest.raises(InputError, match=said):
        prepare([str(source)], tmp_path / "out", PrepareOptions("byte"), dropped=tmp_path / place)
    assert source.read_text() == '{"text": "a"}' and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "place, said", [("out", "lies in --out"), ("out/dropped", "lies in --out"), (".", "holds --out")]
)
def test_folders_of_dropped_documents_and_of_the_corpus_are_two(place: str, said: str, tmp_path: Path):
    (tmp_path / "rows.jsonl").write_text('{"text": "a"}')
    with pytest.raises(InputError, match=f"--keep-dropped .*{said}"):
        prepare([str(tmp_path / "rows.jsonl")], tmp_path / "out", PrepareOptions("byte"), keep_dropped=tmp_path / place)
    assert not (tmp_path / "out").exists()


def test_a_kept_document_is_what_the_step_returns():
    assert STEPS["normalize"]()(Document("e\u0301", "x")) == Kept(Document("é", "x"))

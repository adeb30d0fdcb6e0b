"""Evaluation data of strangers: named by file and line, left out where asked for; empty predictions; linear work."""

import gzip
import json
from pathlib import Path

import pytest

from wenloom.core.errors import InputError
from wenloom.evaluation import interchange
from wenloom.evaluation.compare import METRICS, compare
from wenloom.evaluation.options import OverlapOptions
from wenloom.evaluation.overlap import LOWER_IS_BETTER
from wenloom.evaluation.perplexity import detokenized
from wenloom.evaluation.quality import ending_loop
from wenloom.evaluation.rows import read_lines, read_rows, read_text
from wenloom.evaluation.suites import SUITES
from wenloom.evaluation.writing_suites import Reference, own_rows
from wenloom.text.refusals import Refusals

from ..text.test_hostile import BAD_ROWS, steps

ROWS = {
    "lambada": {"text": "one two"},
    "hellaswag": {"ctx": "a", "endings": ["b", "c"], "label": 1},
    "arc_easy": {"query": "a", "choices": ["b", "c"], "gold": 1},
    "blimp": {"sentence_good": "a", "sentence_bad": "b", "UID": "c"},
    "gsm8k": {"question": "a", "answer": "#### 3"},
    "humaneval": {"task_id": "a", "prompt": "b", "test": "c", "entry_point": "d"},
    "mbpp": {"task_id": 1, "text": "a", "test_list": ["b"]},
}
ODD = (None, True, -1, 7, 0.5, "", "x", [], [1], {}, {"a": 1}, [None, "a"], "\x00", 10**30)


def read(name: str, path: Path, refusals: Refusals | None = None) -> list[object]:
    return SUITES[name].read(path, refusals)


@pytest.mark.parametrize("name", ROWS)
def test_a_field_of_another_kind_is_named_by_line_or_means_something(name: str, tmp_path: Path):
    path = tmp_path / "rows.jsonl"
    for field in ROWS[name]:
        for value in ODD:
            rows = [ROWS[name], ROWS[name] | {field: value}, ROWS[name]]
            path.write_text("\n".join(map(json.dumps, rows)))
            refusals = Refusals(strict=False)
            kept = read(name, path, refusals)
            assert len(kept) + refusals.count == 3 and {each.line for each in refusals.refused} <= {2}
            if refusals.count:
                with pytest.raises(InputError, match=r"rows\.jsonl, line 2: "):
                    read(name, path)


@pytest.mark.parametrize("kind", BAD_ROWS)
def test_a_bad_row_of_ones_own_data_is_named_or_left_out(kind: str, tmp_path: Path):
    path = tmp_path / "rows.jsonl"
    good = b'{"prompt": "a", "reference": "b"}'
    path.write_bytes(b"\n".join([good, BAD_ROWS[kind], good]))
    with pytest.raises(InputError, match=r"rows\.jsonl, line 2: "):
        own_rows(path)
    refusals = Refusals(strict=False)
    assert own_rows(path, refusals) == [Reference("a", ["b"])] * 2 and refusals.count == 1


def test_rows_with_another_number_of_references_are_named(tmp_path: Path):
    path = tmp_path / "rows.jsonl"
    rows = [
        {"prompt": "a", "references": ["b", "c"]},
        {"prompt": "a", "references": ["b"]},
        {"prompt": "a", "references": [3, 4]},
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    with pytest.raises(InputError, match="line 2: 1 references where the first row has 2"):
        own_rows(path)
    refusals = Refusals(strict=False)
    assert own_rows(path, refusals) == [Reference("a", ["b", "c"])]
    assert [each.line for each in refusals.refused] == [2, 3]


@pytest.mark.parametrize("reader", [read_text, read_lines, read_rows])
def test_what_is_no_file_or_too_large_is_refused(reader, tmp_path: Path):
    (tmp_path / "dead").symlink_to(tmp_path / "gone")
    (tmp_path / "bomb.gz").write_bytes(gzip.compress(b"[" * 10**7, 1) * 30)
    (tmp_path / "empty").touch()
    for path in (
        tmp_path,
        Path("/dev/zero"),
        tmp_path / "dead",
        tmp_path / "bomb.gz",
        tmp_path / "empty",
        tmp_path / "gone",
    ):
        with pytest.raises(InputError, match=str(path)):
            reader(path)


def test_lines_of_carriage_returns_alone_are_refused_with_the_mend(tmp_path: Path):
    (tmp_path / "a").write_bytes(b"one\rtwo\r")
    with pytest.raises(InputError, match="carriage returns"):
        read_lines(tmp_path / "a")
    (tmp_path / "b").write_bytes(b"\n\r\n\n")
    assert read_lines(tmp_path / "b") == ["", "", ""]


# --- metrics ---


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize(
    "references", [["The cat.", "a b"], ["the", "?"], ["猫在垫子上。", "好"]], ids=["words", "nothing left", "Chinese"]
)
@pytest.mark.parametrize("empty", ["", "  "])
def test_an_empty_prediction_gains_nothing_by_any_metric(metric: str, references: list[str], empty: str):
    if metric == "wer" and references[1] == "好":
        pytest.skip("refused for texts without blanks")
    for found in compare([metric], [empty, empty], [references], OverlapOptions()):
        worst = 100 if found.metric in LOWER_IS_BETTER else 0
        assert [found.value, *found.per_sample] == [worst] * 3, found.metric


def test_answers_of_articles_and_marks_alone_are_compared_as_they_stand():
    found = compare(["answers"], ["The", "the", "!"], [["the", "a", "!"]], OverlapOptions())
    assert [each.per_sample for each in found] == [[100, 0, 100], [100, 0, 100]]


def test_cer_says_that_it_leaves_blanks_out():
    [found] = compare(["cer"], ["ab c"], [["a bc"]], OverlapOptions())
    assert found.value == 0 and found.signature.get("tok") == "characters_without_blanks"


# --- work that grows like the text ---


def test_loops_are_found_with_linear_work():
    small, large = (steps(ending_loop, "a b " * n + "c a") for n in (200, 2000))
    assert large <= 11 * small
    assert ending_loop("x " + "to be or not " * 500) is not None


@pytest.mark.parametrize("mark", ["(", "[", "{", '"', "'", ")", "( ", "(" + " " * 50])
def test_spaces_around_marks_are_undone_with_linear_work(mark: str):
    small, large = (steps(detokenized, mark * n) for n in (300, 3000))
    assert large <= 11 * small + 100


# --- results of others ---


@pytest.mark.parametrize("name, content", [
    ("a.yaml", "a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]"), ("a.yaml", "a: &a {x: 1}\nb: {<<: *a}"), ("a.yaml", "[" * 5000),
    ("a.yaml", "- value: " + "9" * 5000 + "\n  dataset: {id: x}"), ("a.yaml", '- value: 1\n  dataset: {id: "\\ud83d"}'),
    ("a.yaml", "x" * 2**23), ("a.yaml", "!!python/object/apply:os.system [ls]"), ("a.json", "[" * 100_000),
    ("a.json", '{"evaluation_results": [' + "9" * 5000 + "]}"), ("a.json", '[{"task": "\\ud83d", "datasets": [], "subtasks": [{}]}]'),
    ("a.json", '{"model-index": [{"name": "x", "results": 3}]}'), ("a.json", '{"evaluation_results": [], "model_info": []}'),
    ("a.json", '[{"value": ' + "1" + "0" * 400 + ', "dataset": {"id": "x"}}]'),
], ids=["aliases of aliases", "merged", "nested", "digits", "half a character", "long", "objects", "nested JSON", "JSON digits",
        "JSON half a character", "a number for a list", "a list for an object", "beyond numbers"])  # fmt: skip
def test_imports_of_any_content_end_in_a_sentence(name: str, content: str, tmp_path: Path):
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=rf"{name}: "):
        interchange.read(tmp_path / name)

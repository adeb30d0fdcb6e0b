"""Rows of task data as the world has them: named by file and line, left out and counted, read in linear work."""

import gzip
import json
from pathlib import Path

import pytest

from wenloom.core.errors import InputError
from wenloom.tasks.classification import read_labelled
from wenloom.tasks.messages import read_conversations, read_preferences
from wenloom.tasks.pairs import TRANSLATION, Pair, read_pairs
from wenloom.tasks.rescoring import read_utterances
from wenloom.tasks.rows import RowReader
from wenloom.text.refusals import MOST_LISTED

from ..text.test_hostile import BAD_ROWS, steps

GOOD = {
    "pairs": ({"source": "a", "target": "b"}, lambda path, reader: read_pairs(str(path), TRANSLATION, reader)),
    "chat": ({"prompt": "a", "response": "b"}, lambda path, reader: read_conversations(str(path), reader)),
    "preference": (
        {"prompt": "a", "chosen": "b", "rejected": "c"},
        lambda path, reader: read_preferences(str(path), reader),
    ),
    "labels": ({"text": "a", "label": "b"}, lambda path, reader: read_labelled(str(path), reader)),
    "n-best": ({"nbest": [{"text": "a", "score": 1}]}, lambda path, reader: read_utterances(path, reader)),
}


@pytest.mark.parametrize(
    "kind", sorted(set(BAD_ROWS) - {"no field", "text that is null", "text that is NaN", "a name that stands twice"})
)
@pytest.mark.parametrize("task", GOOD)
def test_a_bad_row_is_left_out_or_named(task: str, kind: str, tmp_path: Path):
    row, read = GOOD[task]
    file = tmp_path / "rows.jsonl"
    good = json.dumps(row).encode()
    file.write_bytes(b"\n".join([good, BAD_ROWS[kind], good, b""]))
    reader = RowReader()
    assert len(read(file, reader)) == 2
    assert [each.line for each in reader.refused] == [2] and reader.count == 1
    with pytest.raises(InputError, match=r"rows\.jsonl, line 2: "):
        read(file, RowReader(strict=True))


PAIR = {"source": "a", "target": "b"}
PAIRS = [Pair("a", ("b",))] * 2


@pytest.mark.parametrize("content", [
    json.dumps([PAIR, PAIR]), json.dumps([PAIR, PAIR], indent=2), "\ufeff [\n" + json.dumps(PAIR) + "\n,\n" + json.dumps(PAIR) + "]\n\n",
    json.dumps(PAIR) + "\r" + json.dumps(PAIR), json.dumps(PAIR) + "\n\ufeff" + json.dumps(PAIR),
    "[1]\n" + json.dumps(PAIR) + "\n" + json.dumps(PAIR), "[broken\n" + json.dumps(PAIR) + "\n" + json.dumps(PAIR),
    json.dumps([PAIR, None, 3, "x", [], PAIR]), json.dumps([PAIR, {"source": "\ud800", "target": "b"}, PAIR]),
], ids=["list", "laid out", "mark and blanks", "old line ends", "joined", "lines, the first a list", "lines, the first broken",
        "list with others", "list with half a character"])  # fmt: skip
def test_lists_and_lines_are_told_apart_by_content(content: str, tmp_path: Path):
    for name in ("a.json", "a.jsonl"):
        (tmp_path / name).write_text(content, encoding="utf-8")
        assert read_pairs(str(tmp_path / name), TRANSLATION, RowReader()) == PAIRS


@pytest.mark.parametrize("content, line", [
    ("[\n" + json.dumps(PAIR) + ",\n]", 3), ("[\n" + json.dumps(PAIR) + "\n\n" + json.dumps(PAIR) + "]", 4), ("[\n" + json.dumps(PAIR), 2),
    ("[\n" + json.dumps(PAIR) + "\n]\n{}", 4), ("[\n" * 5000, 2), ("[", 1), ("[\n{},\n{'a': 1}]", 3),
])  # fmt: skip
def test_a_damaged_list_is_named_by_line(content: str, line: int, tmp_path: Path):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(InputError, match=rf"a\.json, line {line}: "):
        read_pairs(str(tmp_path / "a.json"), TRANSLATION, RowReader())


def test_rows_of_a_list_are_named_by_the_line_they_begin_in(tmp_path: Path):
    (tmp_path / "a.json").write_text(json.dumps([PAIR, {"source": "x"}, PAIR], indent=1))
    reader = RowReader()
    assert read_pairs(str(tmp_path / "a.json"), TRANSLATION, reader) == PAIRS
    assert [each.line for each in reader.refused] == [6]


def test_what_a_reader_did_not_foresee_is_the_rows_fault(tmp_path: Path):
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n{"a": 2}\n{"a": 3}\n')

    def make(row: dict[str, int]) -> int:
        return {1: 1, 3: 3}[row["a"]]

    reader = RowReader()
    assert reader.objects(tmp_path / "a.jsonl", make) == [1, 3] and [each.line for each in reader.refused] == [2]


def test_what_is_remembered_of_refusals_is_bounded_and_the_count_goes_on(tmp_path: Path):
    (tmp_path / "a.jsonl.gz").write_bytes(
        gzip.compress(json.dumps(PAIR).encode() + b"\n" + b"{}\n" * (MOST_LISTED + 500))
    )
    reader = RowReader()
    assert len(read_pairs(str(tmp_path / "a.jsonl.gz"), TRANSLATION, reader)) == 1
    assert len(reader.refused) == MOST_LISTED and reader.count == MOST_LISTED + 500


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.tsv"])
def test_rows_are_read_with_work_that_grows_like_their_number(name: str, tmp_path: Path):
    counts = []
    for n in (30, 300, 3000):
        rows = [json.dumps(PAIR)] * n
        text = {"a.jsonl": "\n".join(rows), "a.json": "[" + ",\n".join(rows) + "]", "a.tsv": "a\tb\n" * n}[name]
        (tmp_path / name).write_text(text)
        counts.append(steps(read_pairs, str(tmp_path / name), TRANSLATION, RowReader()))
    assert counts[1] <= 11 * counts[0] and counts[2] <= 11 * counts[1]


def test_pipes_and_folders_are_refused_by_name(tmp_path: Path):
    with pytest.raises(InputError, match="is a device"):
        read_pairs("/dev/zero", TRANSLATION, RowReader())
    (tmp_path / "a.jsonl").mkdir()
    with pytest.raises(InputError, match="is a folder"):
        read_pairs(str(tmp_path / "a.jsonl"), TRANSLATION, RowReader())

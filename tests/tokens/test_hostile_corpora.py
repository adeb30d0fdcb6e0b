"""Corpora of odd sources and damaged corpora: one sentence, or whole."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wenloom.cli.info import info
from wenloom.core.errors import CheckpointError, InputError
from wenloom.text.documents import ReadOptions
from wenloom.tokens.prepare import PrepareOptions, prepare
from wenloom.tokens.shards import Dataset
from wenloom.tokens.tokenizer import TextTokenizer

BYTE = PrepareOptions("byte")


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": f"row {n}"}) + "\n" for n in range(30)))
    prepare([str(tmp_path / "a.jsonl")], tmp_path / "out", BYTE)
    return tmp_path / "out"


def test_rows_left_out_are_counted_listed_and_part_of_the_key(tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    rows = [json.dumps({"text": f"row {n}"}) for n in range(30)]
    rows[4], rows[9] = "null", '{"text": "\\ud83d"}'
    (tmp_path / "a.jsonl").write_text("\n".join(rows))
    (tmp_path / "b.txt").write_bytes(b"\xff")
    with pytest.raises(InputError, match=r"a\.jsonl, line 5: "):
        prepare([str(tmp_path / "a.jsonl")], tmp_path / "out", BYTE)
    found = prepare(
        [str(tmp_path / "a.jsonl"), str(tmp_path / "b.txt")], tmp_path / "out", BYTE, ReadOptions(skip_bad=True)
    )
    left_out = found.dataset.manifest["left_out"]
    assert left_out["rows"] == 3 and [(Path(each["file"]).name, each["line"]) for each in left_out["first"]] == [
        ("a.jsonl", 5), ("a.jsonl", 10), ("b.txt", 0)]  # fmt: skip
    assert sum(split.documents for split in found.dataset.splits.values()) == 28
    assert [Path(each["file"]).name for each in found.dataset.manifest["sources"]] == ["a.jsonl"]  # b.txt gave nothing
    said = " ".join(capfd.readouterr().err.split())
    assert "line 5: " in said and "line 10: " in said
    info(str(found.dataset.folder), json=True)
    assert json.loads(capfd.readouterr().out)["corpus"]["left_out"] == "3 rows or files, listed in dataset.json"
    assert prepare(
        [str(tmp_path / "a.jsonl"), str(tmp_path / "b.txt")], tmp_path / "out", BYTE, ReadOptions(skip_bad=True)
    ).reused


@pytest.mark.parametrize("name, options", [
    ("a.jsonl", {"separator": "---"}), ("a.csv", {"separator": "---"}), ("a.html", {"separator": "---"}),
    ("a.txt", {"text_field": ("body",)}), ("a.md", {"text_field": ("body",)}), ("a.html", {"text_field": ("body",)}),
])  # fmt: skip
def test_options_for_files_of_another_kind_are_refused(name: str, options: dict[str, Any], tmp_path: Path):
    (tmp_path / name).write_text("text,body\nx,y\n")
    option = "--" + next(iter(options)).replace("_", "-")
    with pytest.raises(InputError, match=f"{option} has no effect here"):
        prepare([str(tmp_path / name)], tmp_path / "out", BYTE, ReadOptions(**options))
    assert not (tmp_path / "out").exists()


def test_a_limit_that_stops_nothing_makes_no_other_corpus(corpus: Path):
    source = [str(corpus.parent / "a.jsonl")]
    assert prepare(source, corpus, BYTE, ReadOptions(max_document_mb=1)).reused


def test_sources_whose_names_are_no_text_are_kept_in_the_manifest(tmp_path: Path):
    folder = tmp_path / "texts"
    folder.mkdir()
    for name in (b"\xff\xfe.txt", b"a\nb.txt", b"\x1b[31m.txt"):
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_text(f"text of {name!r}")
    prepare([str(folder)], tmp_path / "out", BYTE)
    sources = {
        os.fsencode(each["file"]).rpartition(b"/")[2] for each in Dataset.open(tmp_path / "out").manifest["sources"]
    }
    assert sources == {b"\xff\xfe.txt", b"a\nb.txt", b"\x1b[31m.txt"}


ODD: list[Any] = [None, True, -1, 1.5, "", "x", [], [None], {}, {"a": 1}, "/dev/zero", 10**30]


def test_a_manifest_with_anything_else_in_any_place_is_refused_or_read(corpus: Path):
    path = corpus / "dataset.json"
    manifest = json.loads(path.read_text())

    def variants(value: Any) -> list[Any]:
        if isinstance(value, dict):
            return [{**value, name: other} for name in value for other in [*variants(value[name]), *ODD]] + [
                {key: each for key, each in value.items() if key != name} for name in value]  # fmt: skip
        return (
            [[other, *value[1:]] for other in [*variants(value[0]), *ODD]] if isinstance(value, list) and value else []
        )

    for variant in [*variants(manifest), *ODD]:
        path.write_text(json.dumps(variant))
        try:
            dataset = Dataset.open(corpus)
        except InputError as error:
            assert str(corpus) in str(error)
        else:
            assert isinstance(dataset.key, str)
            try:
                assert len(dataset.stream("train").window(0, 5)) == 5
            except InputError as error:
                assert "the vocabulary has 1" in str(error)


@pytest.mark.parametrize("content", [
    b"", b"\x93NUMPY", b"junk" * 100, np.zeros(300, np.float32), np.zeros((10, 30), np.uint16), np.full(300, 60_000, np.uint16),
    np.array(3, np.uint16), np.zeros(300, ">u4"), np.array([{}] * 300, object),
], ids=["empty", "cut", "junk", "floats", "a table", "tokens beyond", "a number", "other order", "objects"])  # fmt: skip
def test_a_damaged_shard_is_a_sentence(content: Any, corpus: Path):
    shard = corpus / Dataset.open(corpus).splits["train"].shards[0]
    n = len(np.load(shard))
    if isinstance(content, bytes):
        shard.write_bytes(content)
    else:
        np.save(shard, content if content.ndim != 1 else content[:1].repeat(n))
    with pytest.raises(InputError, match=r"damaged|not a file|tokens"):
        Dataset.open(corpus).stream("train").window(0, n)


def test_a_shard_that_is_a_device_or_elsewhere_is_refused(corpus: Path):
    shard = corpus / Dataset.open(corpus).splits["train"].shards[0]
    shard.unlink()
    shard.symlink_to("/dev/zero")
    with pytest.raises(InputError, match="is a device"):
        Dataset.open(corpus)


@pytest.mark.parametrize("prefix", ["*", "\0", "[", "##"])
def test_a_prefix_at_which_the_library_ends_the_process_is_refused(
    prefix: str, tokenizer: TextTokenizer, tmp_path: Path
):
    tokenizer.save_pretrained(tmp_path)
    path = tmp_path / "tokenizer.json"
    spec = json.loads(path.read_text())
    spec["model"]["continuing_subword_prefix"] = prefix
    path.write_text(json.dumps(spec))
    with pytest.raises(CheckpointError, match=r"tokenizer\.json: .*continuing_subword_prefix"):
        TextTokenizer.from_pretrained(tmp_path)

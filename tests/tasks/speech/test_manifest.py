"""Manifests of every layout, and evaluating on them from the command line."""

import json
from pathlib import Path

import pytest

from wenloom.core.errors import InputError
from wenloom.tasks.rows import RowReader
from wenloom.tasks.speech.manifest import read_manifest

from ...cli.calling import call
from ...hearing import write_hearing, write_spoken


def test_tables_and_lines_give_the_same(tmp_path: Path):
    write_spoken(tmp_path / "sounds/a.wav", 2.0)
    (tmp_path / "m.tsv").write_text('file\ttext\tlang\nsounds/a.wav\tThe "lamp" was lit.\ten-US\n')
    (tmp_path / "m.csv").write_text('path,sentence,locale\nsounds/a.wav,"The ""lamp"" was lit.",en\n')
    row = {"audio_filepath": "sounds/a.wav", "text": 'The "lamp" was lit.', "language": "en"}
    (tmp_path / "m.jsonl").write_text(json.dumps(row) + "\n")
    for name in ("m.tsv", "m.csv", "m.jsonl"):
        [found] = read_manifest(tmp_path / name, RowReader(strict=True))
        assert (found.name, found.text, found.language) == ("sounds/a.wav", 'The "lamp" was lit.', "en")
        assert found.read().seconds == 2


def test_a_stretch_of_a_recording_is_cut_out(tmp_path: Path):
    write_spoken(tmp_path / "a.wav", 2.0)
    rows = [{"path": "a.wav", "text": "x", "start": 0.5, "end": 1.25}, {"path": "a.wav", "text": "x", "offset": 0.5, "duration": 0.75},
            {"path": "a.wav", "text": "x", "start": 9}]  # fmt: skip
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    one, other, beyond = read_manifest(tmp_path / "m.jsonl", RowReader(strict=True))
    assert one.read().seconds == other.read().seconds == 0.75
    with pytest.raises(InputError, match="ends at second 2"):
        beyond.read()


@pytest.mark.parametrize(
    ("content", "words"),
    [("path\ttext\na.wav\n", "1 columns"), ("path\tsaid\na.wav\tx\n", "text"), ("", "is empty"), ("path\ttext\n", "no row"), ("path\ttext\tstart\na.wav\tx\tone\n", "seconds"),
     ("path\ttext\tstart\tend\na.wav\tx\t3\t2\n", "no stretch of time")],
)  # fmt: skip
def test_a_row_that_cannot_be_used_is_named(content: str, words: str, tmp_path: Path):
    (tmp_path / "m.tsv").write_text(content)
    with pytest.raises(InputError, match=words):
        read_manifest(tmp_path / "m.tsv", RowReader(strict=True))


def test_evaluate_measures_by_language_and_keeps_the_transcripts(tmp_path: Path):
    write_hearing(tmp_path / "model")
    write_spoken(tmp_path / "a.wav", 2.0)
    rows = [("a.wav", "the lamp", "en"), ("a.wav", "一盏灯", "zh"), ("a.wav", "x", "fr"), ("gone.wav", "x", "en")]
    (tmp_path / "m.tsv").write_text("path\ttext\tlanguage\n" + "".join("\t".join(row) + "\n" for row in rows))
    done = call("evaluate", "model", "--on", "m.tsv", "--json", cwd=tmp_path)
    assert done.code == 0, done
    found = json.loads(done.out)
    assert {(each["language"], each["metric"], each["n"]) for each in found["figures"]["model"]} == {
        ("en", "wer", 1),
        ("zh", "cer", 1),
    }
    assert [each["file"] for each in found["left_out"]] == ["a.wav", "gone.wav"]
    kept = (tmp_path / "evaluation/model/m.transcripts.jsonl").read_text().splitlines()
    assert [json.loads(each)["text"] for each in kept] and len(kept) == 2
    refused = call("evaluate", "model", "--on", "m.tsv", "--metric", "bleu", cwd=tmp_path)
    assert refused.code == 2 and "--metric" in refused.err
    refused = call("evaluate", "model", "--on", "lambada", cwd=tmp_path)
    assert refused.code == 2 and "manifest" in refused.err

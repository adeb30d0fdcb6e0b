"""Data sets of a hub by name, from a stand-in on this machine."""

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from wenloom.core.errors import InputError
from wenloom.text.documents import find_files, read_documents

from ..stand_in_hub import run_asking, stand_in_hub


def _parquet() -> bytes:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    file = io.BytesIO()
    parquet.write_table(pyarrow.table({"body": ["one of a table", "two of a table"]}), file)
    return file.getvalue()


FILES = {
    "README.md": b"about it",
    "loader.py": b"raise SystemExit",
    "plain/train.jsonl": b'{"body": "one of plain"}\n{"body": "two of plain"}\n',
    "plain/test.jsonl": b'{"body": "a test of plain"}\n',
    "other/train-00000-of-00001.json": b'[{"body": "one of other"}, {"body": "two of other"}]',
    "table/train-00000-of-00001.parquet": _parquet(),
    "lambada_test.jsonl": b'{"text": "She lit the lamp"}\n',
}


@pytest.fixture(scope="module")
def hub() -> Iterator[str]:
    with stand_in_hub("datasets", FILES) as found:
        yield found.endpoint


PREPARE = ("--text-field", "body", "--kind", "byte", "--validation", "0.5", "--out", "out", "--json")


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("hf:me/tiny", ["train-00000-of-00001.json", "train-00000-of-00001.parquet", "train.jsonl"]),
        ("hf:me/tiny/table", ["train-00000-of-00001.parquet"]),
        ("hf:me/tiny/plain", ["train.jsonl"]),
        ("hf:me/tiny/plain:test", ["test.jsonl"]),
        ("hf:me/tiny/other:train", ["train-00000-of-00001.json"]),
    ],
)
def test_a_data_set_is_prepared_by_name_configuration_and_split(name: str, read: list[str], hub: str, tmp_path: Path):
    done = run_asking(hub, tmp_path, "prepare", name, *PREPARE)
    assert done.returncode == 0, done.stderr
    assert sorted(Path(each["file"]).name for each in json.loads(done.stdout)["sources"]) == read


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("hf:me/none", "no such data set on the hub"),
        ("hf:me/tiny/third", "has no configuration"),
        ("hf:me/tiny:validation", 'has no split "validation" (train, test)'),
        ("hf:tiny", "name a data set as hf:owner/name"),
    ],
)
def test_what_the_hub_does_not_have_is_said_with_what_it_has(name: str, said: str, hub: str, tmp_path: Path):
    done = run_asking(hub, tmp_path, "prepare", name, *PREPARE)
    assert done.returncode == 2 and said in done.stdout + done.stderr and "Traceback" not in done.stderr


@pytest.mark.slow  # the client asks again for twenty seconds
def test_a_hub_that_does_not_answer_ends_in_one_sentence(tmp_path: Path):
    done = run_asking("http://127.0.0.1:9", tmp_path, "prepare", "hf:me/tiny", *PREPARE)
    assert done.returncode == 2 and "the hub could not be asked" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_suites_find_their_files_in_a_data_set_of_the_hub(hub: str, tmp_path: Path):
    done = run_asking(hub, tmp_path, "evaluate", "--list", "--data", "hf:me/tiny", "--json")
    assert done.returncode == 0, done.stderr
    files = {each["name"]: each["file"] for each in json.loads(done.stdout)}
    assert files["lambada"] == "lambada_test.jsonl" and not files["hellaswag"]


def test_parquet_gives_its_rows(tmp_path: Path):
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    table = arrow.table({"text": ["one", "二"], "n": [1, 2]})
    parquet.write_table(table, tmp_path / "a.parquet")
    found = list(read_documents(find_files([str(tmp_path)])))
    assert [each.text for each in found] == ["one", "二"] and found[1].fields == {"n": 2}
    assert found[1].source.endswith("a.parquet, row 2")
    (tmp_path / "b.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(InputError, match=r"b\.parquet: is not Parquet, or damaged"):
        list(read_documents([tmp_path / "b.parquet"]))

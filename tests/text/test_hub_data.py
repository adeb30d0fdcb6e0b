"""Data sets of a hub by name, from a stand-in on this machine."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from wenloom.core.errors import InputError
from wenloom.text.documents import find_files, read_documents

FILES = {
    "README.md": b"about it",
    "loader.py": b"raise SystemExit",
    "plain/train.jsonl": b'{"body": "one of plain"}\n{"body": "two of plain"}\n',
    "plain/test.jsonl": b'{"body": "a test of plain"}\n',
    "other/train-00000-of-00001.json": b'[{"body": "one of other"}, {"body": "two of other"}]',
    "lambada_test.jsonl": b'{"text": "She lit the lamp"}\n',
}


class _Hub(BaseHTTPRequestHandler):
    """The few answers of a hub that a download needs."""

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        path = self.path.partition("?")[0]
        headers = {"X-Repo-Commit": "c" * 40}
        status, data = 200, b""
        if path.startswith("/api/datasets/me/tiny"):
            tree = [{"type": "file", "path": name, "size": len(data), "oid": "0" * 40} for name, data in FILES.items()]
            siblings = [{"rfilename": name} for name in FILES]
            found = tree if "/tree/" in path else {"id": "me/tiny", "sha": "c" * 40, "siblings": siblings}
            data = json.dumps(found).encode()
            headers["Content-Type"] = "application/json"
        elif path.startswith("/datasets/me/tiny/resolve/"):
            data = FILES[path.split("/", 6)[6]]
            headers["ETag"] = f'"{abs(hash(data)):x}"'
        else:
            status, headers = 404, {"X-Error-Code": "RepoNotFound"}
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if body:
            self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def hub() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def run(endpoint: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"HF_ENDPOINT": endpoint, "HF_HOME": str(folder / "cache"), "HF_HUB_DISABLE_XET": "1",
                                "NO_PROXY": "127.0.0.1"}  # fmt: skip
    return subprocess.run([sys.executable, "-m", "wenloom", *arguments], env=environment, capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, cwd=folder, check=False)  # fmt: skip


PREPARE = ("--text-field", "body", "--kind", "byte", "--validation", "0.5", "--out", "out", "--json")


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("hf:me/tiny", ["train-00000-of-00001.json", "train.jsonl"]),
        ("hf:me/tiny/plain", ["train.jsonl"]),
        ("hf:me/tiny/plain:test", ["test.jsonl"]),
        ("hf:me/tiny/other:train", ["train-00000-of-00001.json"]),
    ],
)
def test_a_data_set_is_prepared_by_name_configuration_and_split(name: str, read: list[str], hub: str, tmp_path: Path):
    done = run(hub, tmp_path, "prepare", name, *PREPARE)
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
    done = run(hub, tmp_path, "prepare", name, *PREPARE)
    assert done.returncode == 2 and said in done.stdout + done.stderr and "Traceback" not in done.stderr


def test_a_hub_that_does_not_answer_ends_in_one_sentence(tmp_path: Path):
    done = run("http://127.0.0.1:9", tmp_path, "prepare", "hf:me/tiny", *PREPARE)
    assert done.returncode == 2 and "the hub could not be asked" in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_suites_find_their_files_in_a_data_set_of_the_hub(hub: str, tmp_path: Path):
    done = run(hub, tmp_path, "evaluate", "--list", "--data", "hf:me/tiny", "--json")
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
    with pytest.raises(InputError, match=r"b\.parquet: is no Parquet, or damaged"):
        list(read_documents([tmp_path / "b.parquet"]))

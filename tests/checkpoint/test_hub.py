"""Hub names: what counts as one, and a download from a stand-in on this machine."""

import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from wenloom.checkpoint.folder import write_model_files
from wenloom.checkpoint.hub import resolve
from wenloom.core.errors import CheckpointError
from wenloom.model.decoder import Decoder
from wenloom.tokens.tokenizer import TextTokenizer


@pytest.mark.parametrize("name", ["nowhere/at/all", "./gone", "/gone", "~/gone-too", "a b/c", "", "é" * 3 + "/../x"])
def test_what_cannot_be_a_hub_name_never_asks_the_network(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *a, **k: pytest.fail("asked the hub"))
    with pytest.raises(CheckpointError, match="no such folder"):
        resolve(name or "/nothing")


def test_a_mistyped_path_below_a_real_folder_never_asks_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *a, **k: pytest.fail("asked the hub"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    with pytest.raises(CheckpointError, match="runs/typo: no such folder"):
        resolve("runs/typo")


@pytest.mark.parametrize(
    "name", ["a\0b", "x" * 5000, "~nobody-of-that-name/x", "\x1b[31m/x", "a/" * 3000, "\udcff/\udcff"]
)
def test_odd_names_end_in_one_sentence(name: str):
    with pytest.raises(CheckpointError, match=r"no such folder|is no name of a folder") as caught:
        resolve(name)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 700


@pytest.mark.parametrize(
    "error", [RuntimeError("a\nb"), ValueError(), OSError(28, "no space"), KeyError("x"), TimeoutError()]
)
def test_whatever_the_network_or_the_cache_raises_ends_in_one_sentence(
    error: Exception, monkeypatch: pytest.MonkeyPatch
):
    def fails(*rest: object, **more: object) -> None:
        raise error

    monkeypatch.setattr("huggingface_hub.snapshot_download", fails)
    with pytest.raises(CheckpointError, match="the hub could not be asked") as caught:
        resolve("owner/model-that-is-not-here")
    assert "\n" not in str(caught.value)


def test_half_of_a_download_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "model.safetensors.incomplete").write_bytes(b"x")
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *rest, **more: str(tmp_path))
    with pytest.raises(CheckpointError, match="not complete"):
        resolve("owner/model-that-is-not-here")


class _Hub(BaseHTTPRequestHandler):
    """The few answers of a hub that a download needs."""

    folder: Path
    asked: list[str] = []

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        type(self).asked.append(self.path)
        path = self.path.partition("?")[0]
        headers = {"X-Repo-Commit": "c" * 40}
        if path.startswith("/api/models/me/tiny"):
            files = [
                {"type": "file", "path": file.name, "size": file.stat().st_size, "oid": "0" * 40}
                for file in self.folder.iterdir()
            ]
            siblings = [{"rfilename": file["path"]} for file in files]
            data = json.dumps(
                files if "/tree/" in path else {"id": "me/tiny", "sha": "c" * 40, "siblings": siblings}
            ).encode()
            headers["Content-Type"] = "application/json"
        elif path.startswith("/me/tiny/resolve/"):
            data = (self.folder / path.rpartition("/")[2]).read_bytes()
            headers["ETag"] = f'"{abs(hash(data)):x}"'
        else:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if body:
            self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_download_takes_safetensors_only(decoder: Decoder, tokenizer: TextTokenizer, tmp_path: Path):
    (tmp_path / "repo").mkdir()
    write_model_files(decoder, tmp_path / "repo")
    tokenizer.save_pretrained(tmp_path / "repo")
    (tmp_path / "repo" / "pytorch_model.bin").write_bytes(b"pickle")
    (tmp_path / "repo" / "modeling_evil.py").write_text("raise SystemExit")
    hub = type("Hub", (_Hub,), {"folder": tmp_path / "repo", "asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    environment = os.environ | {
        "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HOME": str(tmp_path / "cache"), "HF_HUB_DISABLE_XET": "1",
        "NO_PROXY": "127.0.0.1",
    }  # fmt: skip

    def run(name: str) -> subprocess.CompletedProcess[str]:
        command = [
            sys.executable,
            "-m",
            "wenloom",
            "generate",
            name,
            "The lamp",
            "--greedy",
            "--max-new-tokens",
            "5",
            "--json",
        ]
        return subprocess.run(
            command,
            env=environment,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            cwd=tmp_path,
            check=False,
        )

    done, missing = run("me/tiny"), run("me/other")
    server.shutdown()
    server.server_close()
    offline = run("me/third")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["continuations"][0]
    asked = [path for path in hub.asked if "/resolve/" in path]
    assert any("model.safetensors" in path for path in asked)
    assert not any(path.endswith((".bin", ".py")) for path in asked)
    assert missing.returncode == 2 and "no such model on the hub" in missing.stderr
    assert (
        offline.returncode == 2 and "the hub could not be asked" in offline.stderr and "Traceback" not in offline.stderr
    )

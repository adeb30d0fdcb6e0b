"""Hub names: what counts as one, and a download from a stand-in on this machine."""

import json
import subprocess
from pathlib import Path

import pytest

from wenloom.checkpoint.folder import write_model_files
from wenloom.checkpoint.hub import resolve
from wenloom.core.errors import CheckpointError
from wenloom.model.decoder import Decoder
from wenloom.tokens.tokenizer import TextTokenizer

from ..stand_in_hub import run_asking, stand_in_hub


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
    with pytest.raises(CheckpointError, match=r"no such folder|is not a name of a folder") as caught:
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


def test_download_takes_safetensors_only(decoder: Decoder, tokenizer: TextTokenizer, tmp_path: Path):
    (tmp_path / "repo").mkdir()
    write_model_files(decoder, tmp_path / "repo")
    tokenizer.save_pretrained(tmp_path / "repo")
    (tmp_path / "repo" / "pytorch_model.bin").write_bytes(b"pickle")
    (tmp_path / "repo" / "modeling_evil.py").write_text("raise SystemExit")
    files = {path.name: path.read_bytes() for path in (tmp_path / "repo").iterdir()}

    def run(name: str) -> subprocess.CompletedProcess[str]:
        asks = ("generate", name, "The lamp", "--greedy", "--max-new-tokens", "5", "--json")
        return run_asking(hub.endpoint, tmp_path, *asks)

    with stand_in_hub("models", files) as hub:
        done, missing = run("me/tiny"), run("me/other")
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

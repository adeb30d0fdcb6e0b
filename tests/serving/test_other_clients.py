"""Clients that other people made, each in a process of its own: WENLOOM_CLIENTS names a Python that has them, WENLOOM_NODE a folder
with node_modules/openai. Those that are missing are skipped; the official client for Python is there in any case."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from wenloom.serving.app import create_app
from wenloom.serving.models import Models
from wenloom.serving.settings import ServerSettings
from wenloom.tokens.tokenizer import TextTokenizer

from .conftest import LIMITS, Served, chat_model, serving
from .other_clients import USES
from .test_tools import TAGGED

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def asked(tokenizer: TextTokenizer) -> Iterator[Served]:
    model = chat_model(tokenizer, TAGGED, 2048)
    with serving(create_app(Models({"tiny": lambda: model}), ServerSettings(limits=LIMITS)), model) as running:
        yield running


def run(command: list[str], cwd: Path | None = None) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, cwd=cwd)
    if done.returncode == 77:
        pytest.skip(done.stdout.strip())
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]


@pytest.mark.slow
@pytest.mark.parametrize("name", USES)
def test_a_client_of_somebody_elses_finds_no_difference(asked: Served, name: str):
    python = os.environ.get("WENLOOM_CLIENTS", sys.executable)
    run([python, str(HERE / "other_clients.py"), name, f"{asked.url}/v1", "tiny", "tiny"])


@pytest.mark.slow
def test_the_official_client_for_node_finds_no_difference(asked: Served):
    node, folder = shutil.which("node"), os.environ.get("WENLOOM_NODE")
    if node is None or folder is None:
        pytest.skip("WENLOOM_NODE names no folder with node_modules/openai, or there is no node")
    run([node, str(HERE / "other_client.mjs"), folder, f"{asked.url}/v1", "tiny", "tiny"])


@pytest.mark.slow
def test_drawn_requests_are_never_answered_with_an_error_of_the_server(asked: Served, tmp_path: Path):
    """schemathesis draws them from the server's own description, and finds no 5xx."""
    python = os.environ.get("WENLOOM_CLIENTS", sys.executable)
    if subprocess.run([python, "-c", "import schemathesis"], capture_output=True).returncode != 0:
        pytest.skip("schemathesis is not installed")
    run([python, "-m", "schemathesis.cli", "run", f"{asked.url}/openapi.json", "--checks", "not_a_server_error",
         "--max-examples", "100", "--seed", "1", "--generation-database", "none", "--request-timeout", "60"], tmp_path)  # fmt: skip

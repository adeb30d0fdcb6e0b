"""Long use, and the server as a process of its own: nothing grows, nothing is left behind, nothing goes out."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from wenloom.serving.app import create_app
from wenloom.serving.models import Models
from wenloom.serving.settings import ServerSettings
from wenloom.tokens.tokenizer import TextTokenizer

from .conftest import LIMITS, Served, chat_model, saved, serving
from .test_refusals import BAD, CHAT, TEXT
from .test_safety import ENDLESS, raw

pytestmark = pytest.mark.slow
TOWN: Any = {"type": "object", "properties": {"town": {"enum": ["Bath", "苏州"]}}, "required": ["town"], "additionalProperties": False}  # fmt: skip


@pytest.fixture(scope="module")
def fresh(tokenizer: TextTokenizer) -> Iterator[Served]:
    """A server that nobody has asked yet."""
    model = chat_model(tokenizer)
    with serving(create_app(Models({"tiny": lambda: model}), ServerSettings(limits=LIMITS)), model) as running:
        yield running


def test_a_thousand_clients_that_leave_keep_no_slot(fresh: Served):
    for number in range(1000):
        connection = raw(fresh, {**ENDLESS, "stream": number % 3 != 2, "n": 1 + number % 2})
        if number % 3 == 0:
            connection.recv(300)
        connection.close()
        if number % 40 == 39:  # as many as are let in at a time
            fresh.wait_until(lambda: fresh.model.engine.slots_in_use == 0)
    fresh.wait_until(lambda: fresh.model.engine.slots_in_use == 0 and fresh.model.engine.load.waiting == 0)
    held = httpx2.get(f"{fresh.url}/metrics").text
    assert "wenloom_requests_under_way 0.0" in held and "wenloom_queued_prompt_tokens 0.0" in held
    answer = fresh.post("/v1/completions", TEXT)
    assert answer.status_code == 200, answer.text


def resident() -> float:
    """Memory of this process in MB."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1000


def asked(number: int) -> tuple[str, dict[str, Any]]:
    """Requests of every kind, no two alike: prompts, samples, streams, schemas, functions, refusals."""
    message = [{"role": "user", "content": f"Is {number} lit? " + "灯" * (number % 7)}]
    text = {"model": "tiny", "prompt": f"{number} lamps", "max_tokens": 2, "seed": number}
    chat = {"model": "tiny", "messages": message, "max_tokens": 12, "seed": number}
    named = {**TOWN, "properties": {"town": {"enum": ["Bath", f"town {number}"]}}}
    return [
        ("completions", text), ("completions", {**text, "stream": True, "n": 2}), ("completions", {**text, "echo": True, "logprobs": 2}),
        ("chat/completions", chat), ("chat/completions", {**chat, "stream": True}),
        ("chat/completions", {**chat, "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": named, "strict": True}}}),
        ("chat/completions", {**chat, "temperature": 9}), ("responses", {"model": "tiny", "input": f"{number}?", "max_output_tokens": 16}),
        ("score", {"model": "tiny", "input": f"{number} lamps"}), ("tokenize", {"model": "tiny", "prompt": f"{number} lamps"}),
    ][number % 10]  # fmt: skip


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_ten_thousand_requests_leave_memory_as_it_was(fresh: Served):
    """Of the process, which is the server's and the client's; measured after the caches have filled.

    The cache of prompts' beginnings, which may take 256 MB, is held at one.
    """
    measured = []
    for runner in fresh.model.engine.models:
        runner.prefixes._max_bytes = 2**20
    with httpx2.Client(base_url=fresh.url, timeout=60) as client:
        for number in range(10_000):
            path, body = asked(number)
            status = client.post(f"/v1/{path}", json=body).status_code
            assert status == (400 if body.get("temperature") == 9 else 200), (path, body)
            if number % 1000 == 999:
                measured.append(resident())
    print("MB after each thousand:", *(f"{each:.0f}" for each in measured))
    assert measured[-1] - measured[2] < 20, measured


LAUNCH = """
import runpy, sys
def hook(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
        address = arguments[1] if event in ("socket.connect", "socket.sendto") else arguments[0]
        host = address[0] if isinstance(address, tuple) else address
        if host not in ("127.0.0.1", "::1", "localhost", None):
            with open({log!r}, "a") as file:
                file.write(f"{event} {address}\\n")
    if event == "subprocess.Popen" and "curl" in str(arguments):
        raise RuntimeError(arguments)
sys.addaudithook(hook)
sys.argv = ["wenloom", *sys.argv[1:]]
runpy.run_module("wenloom", run_name="__main__")
"""


@contextlib.contextmanager
def process(folder: Path, *options: str, log: Path) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    """`wenloom serve` under `python OPTIONS`; each address that it asks for stands in `log`."""
    log.write_text("")
    launch = LAUNCH.replace("{log!r}", repr(str(log)))
    command = [sys.executable, *options, "-c", launch, "serve", f"tiny={folder}", "--port", "0"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "0"}
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
    try:
        assert running.stdout is not None
        url = None
        for line in running.stdout:
            if "http://127.0.0.1:" in line:
                url = "http://127.0.0.1:" + line.partition("http://127.0.0.1:")[2].split("/")[0].split()[0].rstrip(".,")
                break
        assert url is not None
        threading.Thread(target=running.stdout.read, daemon=True).start()
        while True:
            with contextlib.suppress(httpx2.HTTPError):
                if httpx2.get(f"{url}/readyz").status_code == 200:
                    break
            assert running.poll() is None
        yield url, running
    finally:
        running.kill()
        running.wait()


@pytest.fixture(scope="module")
def folder(fresh: Served, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(fresh.model, tmp_path_factory.mktemp("model"))


ELSEWHERE = ["http://example.org/model", "hf:owner/name", "../../etc/passwd", "file:///etc/passwd"]
"""What a request may name to make a server fetch it."""


def answers(url: str) -> list[Any]:
    """What a server answers to all kinds of requests, without what differs by nature (ids, times)."""
    found = []
    asks = [
        (f"/v1/{path}", {**(CHAT if path.startswith("chat") else TEXT), "seed": 1, **more}) for path, more, _ in BAD
    ]
    asks += [(f"/v1/{path}", body) for path, body in map(asked, range(20))]
    for away in ELSEWHERE:
        image = [{"type": "image_url", "image_url": {"url": away}}]
        asks += [("/v1/completions", {**TEXT, "model": away}), ("/v1/completions", {**TEXT, "adapter": away}),
                ("/v1/chat/completions", {**CHAT, "messages": [{"role": "user", "content": image}]}),
                ("/v1/chat/completions", {**CHAT, "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"$ref": away}}}}),
                ("/v1/completions", {**TEXT, "json_schema": {"properties": {"a": {"$ref": away}}}})]  # fmt: skip
    for path, body in asks:
        answer = httpx2.post(url + path, json=body, timeout=60)
        text = answer.text
        if not body.get("stream"):
            kept = json.loads(text)
            for name in ("id", "created", "created_at", "completed_at"):
                kept.pop(name, None)
            text = "" if path == "/v1/responses" else json.dumps(kept)
        found.append((path, answer.status_code, "" if body.get("stream") else text))
    return found


def test_without_asserts_it_answers_the_same_and_asks_nobody(folder: Path, tmp_path: Path):
    """`python -O` takes assertions away; and no request makes the server open a connection."""
    with process(folder, log=tmp_path / "plain") as (url, _):
        plain = answers(url)
    with process(folder, "-O", log=tmp_path / "optimized") as (url, _):
        optimized = answers(url)
    assert plain == optimized
    assert {status for _, status, _ in plain} <= {200, 400, 404}
    assert (tmp_path / "plain").read_text() == (tmp_path / "optimized").read_text() == ""


def test_what_would_be_asked_for_is_seen(tmp_path: Path):
    """The guard of the test above sees a request that does go out."""
    launch = LAUNCH.replace("{log!r}", repr(str(tmp_path / "log"))).replace(
        'runpy.run_module("wenloom", run_name="__main__")',
        "import socket\ntry: socket.create_connection(('192.0.2.1', 80), 0.1)\nexcept OSError: pass",
    )
    subprocess.run([sys.executable, "-c", launch], check=True)
    assert "socket.connect ('192.0.2.1', 80)" in (tmp_path / "log").read_text()


def test_the_first_signal_truncates_no_stream_under_load(folder: Path, tmp_path: Path):
    with process(folder, log=tmp_path / "log") as (url, running):
        began, ended = threading.Barrier(25), list[str]()

        def stream(number: int) -> None:
            body = {**ENDLESS, "prompt": f"{number} lamps"}
            with httpx2.stream("POST", f"{url}/v1/completions", json=body, timeout=60) as answer:
                lines = answer.iter_lines()
                next(lines)
                began.wait()
                rest = [line for line in lines if line]
            ended.append(rest[-1] if '"finish_reason":"length"' in rest[-2].replace(" ", "") else "cut")

        threads = [threading.Thread(target=stream, args=(number,)) for number in range(24)]
        for each in threads:
            each.start()
        began.wait()
        running.send_signal(signal.SIGTERM)
        for each in threads:
            each.join(60)
        assert ended == ["data: [DONE]"] * 24
        assert running.wait(30) == 0

"""The judge against a local stand-in of an OpenAI-compatible endpoint."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from wenloom.core.errors import InputError, WenloomError
from wenloom.evaluation.judge import Judge, win_rate


class Endpoint(BaseHTTPRequestHandler):
    """Prefers the answer with "good" in it; where both or none have it, what stands first."""

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        question = body["messages"][0]["content"]
        if body["model"] == "broken":
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"nothing": 1}')
            return
        if self.headers.get("Authorization") != "Bearer key":
            self.send_error(401)
            return
        second = question.split("<answer-2>")[1].split("</answer-2>")[0]
        first = question.split("<answer-1>")[1].split("</answer-1>")[0]
        verdict = 2 if "good" in second and "good" not in first else 1
        self.send_response(200)
        self.end_headers()
        reply: Any = {"choices": [{"message": {"content": f"Because.\nVerdict: {verdict}"}}]}
        self.wfile.write(json.dumps(reply).encode())

    def log_message(self, *_: object):
        pass


@pytest.fixture
def url() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Endpoint)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()


def test_only_verdicts_that_survive_the_swap_count(url: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OPENAI_API_KEY", "key")
    prompts = ["what? {first}", "写诗", "c", "d"]
    found, verdicts = win_rate(
        Judge("m", url), prompts, ["bad", "good {prompt}", "bad", "good"], ["good", "bad", "bad", "good"]
    )
    assert verdicts == ["second", "first", "tie", "tie"] and found.value == 50


def test_an_endpoint_that_fails(url: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(WenloomError, match="401"):
        Judge("m", url).ask("x")
    with pytest.raises(WenloomError, match="none of the OpenAI form"):
        Judge("broken", url).ask("x")
    with pytest.raises(WenloomError, match="cannot be reached"):
        Judge("m", "http://127.0.0.1:9").ask("x")
    with pytest.raises(InputError, match="http://"):
        Judge("m", "file:///etc/passwd").ask("x")
    with pytest.raises(InputError, match="equally many"):
        win_rate(Judge("m", url), ["a"], [], ["b"])

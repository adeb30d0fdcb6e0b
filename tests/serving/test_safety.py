"""Who is let in, what is bounded, and that one client's doings are its own."""

import asyncio
import json
import logging
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI

from wenloom.core.errors import InputError
from wenloom.serving.app import create_app
from wenloom.serving.guard import OPEN
from wenloom.serving.keys import Keys
from wenloom.serving.log import AccessLog
from wenloom.serving.models import Models
from wenloom.serving.server import listen
from wenloom.serving.settings import Access, RequestLimits, Running, ServerSettings
from wenloom.tokens.tokenizer import TextTokenizer

from ..cli.calling import refused
from .conftest import Served, chat_model, serving

KEY, OTHER = "sk-a-key-of-ann-0123456789", "sk-a-key-of-bob-0123456789"
ENDLESS = {"model": "tiny", "prompt": "The", "max_tokens": 200, "temperature": 0, "eos_token_id": [], "stream": True}


@pytest.fixture(scope="module")
def locked(tokenizer: TextTokenizer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server with keys, narrow limits and a log."""
    folder = tmp_path_factory.mktemp("keys")
    (folder / "keys.txt").write_text(f"# who\nann:{KEY}\n\n{OTHER}\n")
    model = chat_model(tokenizer)
    settings = ServerSettings(
        Access(api_key_file=folder / "keys.txt", allow_origin=("https://page.example",), allow_host=("named.example",)),
        RequestLimits(max_body_mb=0.01, rate=600, max_concurrent_requests=3),
    )
    with (
        (folder / "log.jsonl").open("w") as log,
        serving(create_app(Models({"tiny": lambda: model}), settings, AccessLog(log)), model) as running,
    ):
        yield running
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert {"ann", "key 4"} <= {line["client"] for line in lines}
    assert KEY not in (folder / "log.jsonl").read_text() and "The lamp" not in (folder / "log.jsonl").read_text()


def routes() -> list[tuple[str, str]]:
    """Every route of the server, and paths that it does not have."""
    from wenloom.serving import app as module
    from wenloom.serving.service import Service

    api = FastAPI(docs_url=None, redoc_url=None)
    module._add_routes(api, Service(Models({}), RequestLimits()), ServerSettings())
    found = [(method, route.path) for route in api.routes for method in sorted(getattr(route, "methods", ()))]  # pyright: ignore
    assert len(found) > 6
    return [*found, ("GET", "/"), ("POST", "/v1/nothing"), ("GET", "/docs"), ("DELETE", "/v1/models/tiny")]


@pytest.mark.parametrize(("method", "path"), routes())
def test_every_route_without_a_key_answers_401(locked: Served, method: str, path: str):
    for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": KEY}, {"authorization": f"Bearer {KEY}x"}):
        answer = httpx2.request(method, locked.url + path, headers=headers)
        if path in OPEN:
            assert answer.text == "ok" or answer.status_code == 405
            continue
        assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer"
        if method != "HEAD":
            assert answer.json()["error"]["code"] in ("missing_api_key", "invalid_api_key")


def test_keys_name_who_asks(locked: Served):
    for key in (KEY, OTHER):
        found = locked.client(key).completions.create(model="tiny", prompt="The lamp", max_tokens=1)
        assert found.usage is not None and found.usage.completion_tokens == 1
    assert Keys({"ann": KEY}).name_of(KEY) == "ann" and Keys({"ann": KEY}).name_of(OTHER) is None


@pytest.mark.parametrize(
    "content", ["", "# nothing\n", "short\n", f"{KEY}\n{KEY}\n", f"a:{KEY}\na:{OTHER}\n", "ann:schlüssel-schlüssel"]
)
def test_a_file_of_keys_that_protects_nothing_is_refused(tmp_path: Path, content: str):
    (tmp_path / "keys").write_text(content)
    with pytest.raises(InputError, match="key"):
        Keys.read(tmp_path / "keys")


def test_an_address_that_others_reach_needs_keys():
    with pytest.raises(InputError, match="--api-key-file"):
        Access(host="0.0.0.0")
    with pytest.raises(InputError, match="one of them"):
        Access(no_auth=True, api_key_file=Path("x"))
    Access(host="0.0.0.0", no_auth=True)


@pytest.mark.parametrize(("headers", "status"), [
    ({"host": "evil.example"}, 403), ({"host": "named.example:80"}, 200), ({"host": "localhost"}, 200), ({"host": "10.0.0.7:8000"}, 200),
    ({"host": "[::1]:8000"}, 200), ({"origin": "https://evil.example"}, 403), ({"origin": "null"}, 403), ({"origin": "https://page.example"}, 200),
])  # fmt: skip
def test_pages_of_others_reach_nothing(locked: Served, headers: dict[str, str], status: int):
    answer = httpx2.get(f"{locked.url}/v1/models", headers={"authorization": f"Bearer {KEY}", **headers})
    assert answer.status_code == status
    allowed = answer.headers.get("access-control-allow-origin")
    assert allowed == (headers["origin"] if status == 200 and "origin" in headers else None)


def test_a_browser_asks_before_it_asks(locked: Served):
    asked = {"origin": "https://page.example", "access-control-request-method": "POST"}
    assert httpx2.options(f"{locked.url}/v1/models", headers=asked).status_code == 204
    assert (
        httpx2.options(f"{locked.url}/v1/models", headers={**asked, "origin": "https://evil.example"}).status_code
        == 403
    )


def test_large_bodies_are_refused_whether_or_not_they_say_their_length(locked: Served):
    headers = {"authorization": f"Bearer {KEY}"}
    assert locked.post("/v1/completions", {"prompt": "x" * 20_000}, headers=headers).status_code == 413

    def pieces() -> Iterator[bytes]:
        for _ in range(20):
            yield b"x" * 1000

    answer = httpx2.post(f"{locked.url}/v1/completions", content=pieces(), headers=headers)
    assert answer.status_code == 413 and answer.json()["error"]["code"] == "request_too_large"


def test_more_requests_than_there_is_room_for_are_told_when_to_come_again(locked: Served):
    host, port = locked.url.removeprefix("http://").split(":")
    key = {"authorization": f"Bearer {KEY}"}
    slow = [socket.create_connection((host, int(port))) for _ in range(3)]
    for each in slow:  # whose bodies never come to their end
        each.sendall(
            f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\nContent-Length: 9\r\n\r\n{{".encode()
        )

    def under_way(number: int) -> bool:
        return f"wenloom_requests_under_way {number}.0" in httpx2.get(f"{locked.url}/metrics", headers=key).text

    locked.wait_until(lambda: under_way(3))
    answer = locked.post("/v1/completions", {"model": "tiny", "prompt": "x"}, headers=key)
    assert answer.status_code == 429 and int(answer.headers["retry-after"]) > 0
    for each in slow:
        each.close()
    locked.wait_until(lambda: under_way(0))


def test_a_client_that_asks_too_often_waits_and_others_do_not():
    from wenloom.serving.admission import Admission
    from wenloom.serving.errors import APIError

    admission = Admission(RequestLimits(rate=2))
    for _ in range(2):
        admission.enter("ann")
    with pytest.raises(APIError) as found:
        admission.enter("ann")
    assert found.value.status == 429 and 29 <= (found.value.retry_after or 0) <= 31
    admission.enter("bob")
    assert admission.n_requests == 3


def test_prompts_that_wait_are_bounded():
    from wenloom.serving.admission import Admission
    from wenloom.serving.errors import APIError

    admission = Admission(RequestLimits(max_queued_tokens=100))
    alone = admission.queue(500)
    with pytest.raises(APIError, match="wait"):
        admission.queue(1)
    alone.give_back()
    alone.give_back()
    assert admission.queued_tokens == 0
    admission.queue(60)
    admission.queue(40)


def raw(served: Served, body: dict[str, Any]) -> socket.socket:
    """A request of a client that need not read."""
    host, port = served.url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)))
    text = json.dumps(body).encode()
    connection.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                       b"Content-Length: %d\r\n\r\n%s" % (len(text), text))  # fmt: skip
    return connection


def test_clients_that_leave_keep_no_slot(served: Served):
    """In the midst of a stream, before the first token, and where they wait for a whole answer."""
    for number in range(60):
        connection = raw(served, {**ENDLESS, "stream": number % 3 != 2, "n": 1 + number % 2})
        if number % 3 == 0:
            connection.recv(300)
        connection.close()
    served.wait_until(lambda: served.model.engine.slots_in_use == 0 and served.model.engine.load.waiting == 0)
    held = httpx2.get(f"{served.url}/metrics").text
    assert "wenloom_requests_under_way 0.0" in held and "wenloom_queued_prompt_tokens 0.0" in held


def test_a_hostile_request_fails_alone(served: Served, client: Any):
    """Beside a prompt beyond measure, schemas that explode and readers that do not read, texts are as if alone."""
    plain: Any = {
        "model": "tiny",
        "prompt": "The lamp",
        "max_tokens": 40,
        "seed": 7,
        "extra_body": {"eos_token_id": []},
    }
    alone = client.completions.create(**plain).choices[0].text
    deep: Any = {}
    for _ in range(200):
        deep = {"anyOf": [deep, deep]} if len(json.dumps(deep)) < 20_000 else {"not": deep}
    hostile: list[dict[str, Any]] = [
        {"prompt": "x" * 1_900_000}, {"json_schema": deep}, {"regex": "((a{1,999}){1,999}){1,999}"}, {"regex": "(a+)+b" * 300},
        {"logit_bias": {str(n): 100 for n in range(9**5)}}, {"max_tokens": 10**6}, {"stop": ["a" * 9999] * 4},
    ]  # fmt: skip

    async def all_at_once() -> list[Any]:
        lazy = raw(served, {**ENDLESS, "n": 4})
        async with httpx2.AsyncClient(timeout=60) as others:
            posts = [
                others.post(f"{served.url}/v1/completions", json={"model": "tiny", "prompt": "x", **each})
                for each in hostile
            ]
            mine = asyncio.to_thread(lambda: client.completions.create(**plain).choices[0].text)
            found = await asyncio.gather(mine, *posts)
        lazy.close()
        return found

    text, *answers = asyncio.run(all_at_once())
    assert text == alone
    assert [each.status_code < 500 for each in answers] == [True] * len(answers)
    served.wait_until(lambda: served.model.engine.slots_in_use == 0)


def test_what_fails_in_the_midst_of_a_stream_is_its_last_event(served: Served):
    body = {"model": "tiny", "prompt": "The", "max_tokens": 9, "stream": True, "regex": "ab", "suppress_tokens": [0],
            "logit_bias": {}, "eos_token_id": [0]}  # fmt: skip
    answer = served.post("/v1/completions", {**body, "bad_words": ["b"]})
    assert answer.status_code == 200
    last = [
        json.loads(each.removeprefix("data: ")) for each in answer.text.split("\n\n") if each.startswith("data: {")
    ][-1]
    assert last["error"]["message"] and "[DONE]" not in answer.text


def test_the_first_signal_lets_streams_end_whole(tokenizer: TextTokenizer):
    model = chat_model(tokenizer)
    with serving(create_app(Models({"tiny": lambda: model})), model) as running:
        with httpx2.stream("POST", f"{running.url}/v1/completions", json=ENDLESS, timeout=60) as stream:
            lines = stream.iter_lines()
            first = next(lines)
            running.server.handle_exit(signal.SIGTERM, None)
            rest = [line for line in lines if line]
        running.thread.join(60)
    assert first.startswith("data: {") and rest[-1] == "data: [DONE]"
    assert json.loads(rest[-2].removeprefix("data: "))["choices"][0]["finish_reason"] == "length"


def test_a_request_has_a_deadline(tokenizer: TextTokenizer):
    model = chat_model(tokenizer)
    settings = ServerSettings(limits=RequestLimits(deadline=0.2), running=Running())
    with serving(create_app(Models({"tiny": lambda: model}), settings), model) as running:
        long = {**ENDLESS, "n": 100, "temperature": 1}
        assert running.post("/v1/completions", {**long, "stream": False}).status_code == 504
        answer = running.post("/v1/completions", long)
        assert answer.status_code in (200, 504) and "deadline_exceeded" in answer.text
        running.wait_until(lambda: model.engine.slots_in_use == 0)


def test_counters_tell_what_was_done(served: Served, client: Any):
    client.completions.create(model="tiny", prompt="The lamp", max_tokens=3)
    text = httpx2.get(f"{served.url}/metrics").text
    for name in ("time_to_first_token_seconds_count", "time_between_tokens_seconds_bucket", "tokens_total", "slots_in_use",
                 "cache_bytes", "refusals_total", "requests_total"):  # fmt: skip
        assert f"wenloom_{name}" in text


def test_an_answer_carries_the_id_of_its_request(served: Served):
    assert httpx2.get(f"{served.url}/v1/models").headers["x-request-id"].startswith("req_")
    given = httpx2.get(f"{served.url}/v1/models", headers={"x-request-id": "mine-1"})
    assert given.headers["x-request-id"] == "mine-1"
    odd = httpx2.get(f"{served.url}/v1/models", headers={"x-request-id": "a b"})
    assert odd.headers["x-request-id"] != "a b"


class _Noted(logging.Handler):
    closed = False

    def close(self) -> None:
        self.closed = True
        super().close()


def test_handlers_of_the_process_s_logging_stay_open(tmp_path: Path):
    handler = _Noted()
    (tmp_path / "config.json").write_text("{}")
    assert "config.json" in refused("serve", tmp_path, "--port", 0, cwd=tmp_path)
    assert not handler.closed


def test_answers_do_not_wait_for_acknowledgements():
    """Without it each answer on an open connection takes 40 ms more."""
    with listen(Access(port=0)) as listening, socket.create_connection(listening.getsockname()):
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

"""Clients that send what nobody expects: each gets an answer of its own, and those beside it theirs."""

import concurrent.futures
import itertools
import json
from typing import Any

import httpx2
import openai
import pytest

from wenloom.serving.fields import OWN

from ..field_listing import BODIES
from .conftest import Served
from .test_fields import ASKED
from .test_tools import TOOLS

ODD: list[Any] = [
    None, True, 0, -1, 2**63, 10**4000, 1e308, -0.5, "", "x", "1", "\ud800", "\x00", "春眠" * 50, "a" * 20_000, [], [[]], [None], [{}], ["\udfff"], {}, {"": ""},
    {"type": "function"}, {"type": ["function"]}, {"type": {}}, [{"type": "function", "function": None}], {"type": "json_schema", "json_schema": {"name": "x", "schema": {"$ref": "#"}}},
    {"type": "object", "properties": {"a": {"$ref": "#/nowhere"}}}, {"anyOf": []}, {"enum": []}, {"type": "string", "pattern": "[" * 500},
    {"format": {"type": "json_schema", "name": "x", "schema": {"allOf": [{"$ref": "#"}]}}}, [{"role": "tool"}], [{"role": {}}], [{"role": "user", "content": [{"type": "text", "text": None}]}],
]  # fmt: skip


def is_fair(answer: httpx2.Response) -> bool:
    """Done, or refused in OpenAI's shape; no failure of the server's."""
    if answer.status_code == 200:
        return True
    error = answer.json()["error"]
    return 400 <= answer.status_code < 500 and bool(error["message"]) and len(error["message"]) < 2000


@pytest.mark.parametrize("path", BODIES)
def test_odd_values_of_every_field_are_answered_or_refused(served: Served, path: str):
    base = {"model": "tiny", **ASKED[path]}
    if "stream" in BODIES[path].model_fields:
        base["stream"] = False
        base.pop("stream_options", None)
    bounded = {name: base[name] for name in ("max_tokens", "max_output_tokens") if name in base}
    with httpx2.Client(base_url=served.url, timeout=60) as client:
        shared = {each.name for each in OWN} if path != "/v1/completions" else set()
        for name, value in itertools.product([each for each in BODIES[path].model_fields if each not in shared], ODD):
            body = {**base, (BODIES[path].model_fields[name].alias or name): value}
            if name in bounded and value is None:
                continue  # as long as the model likes
            answer = client.post(path, content=json.dumps(body), headers={"content-type": "application/json"})
            assert is_fair(answer), (name, value, answer.text)
    assert served.post("/v1/completions", {"model": "tiny", "prompt": "Hi", "max_tokens": 1}).status_code == 200


BIG = {"type": "object", "properties": {f"p{n}": {"enum": [n]} for n in range(60_000)}}
WIDE = {"type": "object", "properties": {f"p{n}": {"enum": ["x", n]} for n in range(900)}}


@pytest.mark.parametrize("schema", [BIG, WIDE], ids=["1 MB", "900 properties"])
def test_large_schemas_are_refused_or_answered_wherever_they_stand(served: Served, schema: dict[str, Any]):
    form = {"type": "json_schema", "name": "x", "schema": schema}
    places: list[tuple[str, dict[str, Any]]] = [
        ("/v1/chat/completions", {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}}),
        ("/v1/chat/completions", {"tools": [{"type": "function", "function": {"name": "f", "parameters": schema}}], "on_overflow": "left"}),
        ("/v1/chat/completions", {"json_schema": schema}), ("/v1/chat/completions", {"grammar": json.dumps(schema)}),
        ("/v1/responses", {"text": {"format": form}}), ("/v1/completions", {"json_schema": schema}),
        ("/v1/completions", {"regex": "|".join(f"({n})" for n in range(100_000))}), ("/v1/completions", {"choices": [str(n) for n in range(1000)]}),
    ]  # fmt: skip
    for path, more in places:
        limit = {"max_output_tokens": 3} if path.endswith("responses") else {"max_tokens": 3}
        asked = {k: v for k, v in ASKED[path].items() if k in ("prompt", "messages", "input")}
        answer = served.post(path, {"model": "tiny", **asked, **limit, **more})
        assert is_fair(answer), answer.text
        if schema is BIG:
            assert answer.status_code in (400, 413) or "choices" in more


@pytest.mark.parametrize("content", [
    b'{"model":"tiny","%s":"\xff\xfe"}', b'{"model":"tiny","%s":"\\ud800"}', '{"model":"tiny","%s":"春"}'.encode("gb18030"), '{"model":"tiny","%s":"春"}'.encode("utf-16"),
    b'{"model":"tiny","%s":' + b'{"a":' * 5000 + b"1" + b"}" * 5001, b'{"model":"tiny","model":"tiny","%s":""',
], ids=["no UTF-8", "half a pair", "GB 18030", "UTF-16", "deep", "cut off"])  # fmt: skip
def test_broken_text_is_refused(served: Served, content: bytes):
    for path, field in (("completions", b"prompt"), ("tokenize", b"prompt"), ("embeddings", b"input"), ("responses", b"input"), ("score", b"input")):  # fmt: skip
        answer = httpx2.post(f"{served.url}/v1/{path}", content=content.replace(b"%s", field), headers={"content-type": "application/json"}, timeout=60)  # fmt: skip
        assert answer.status_code == 400 and answer.json()["error"]["message"], answer.text


def test_many_at_once_get_what_they_get_alone(served: Served, client: openai.OpenAI):
    """Sixty-four requests of every kind, some of them hopeless."""
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"enum": ["春", "秋", [1, 2]]}}}
    messages = [{"role": "user", "content": "春眠不觉晓"}]
    kinds: list[tuple[str, dict[str, Any]]] = [
        ("/v1/completions", {"prompt": "The lamp", "max_tokens": 12, "seed": 1}),
        ("/v1/chat/completions", {"messages": messages, "max_tokens": 12, "seed": 2, "logprobs": True}),
        ("/v1/chat/completions", {"messages": messages, "seed": 3, "response_format": form}),
        ("/v1/chat/completions", {"messages": messages, "seed": 4, "tools": TOOLS[1:], "tool_choice": "required", "parallel_tool_calls": False, "on_overflow": "left", "max_tokens": 50}),
        ("/v1/responses", {"input": "春眠", "max_output_tokens": 12, "seed": 5}), ("/v1/embeddings", {"input": ["The lamp", "春"]}),
        ("/v1/score", {"input": "The lamp was lit."}), ("/v1/completions", {"prompt": "x" * 5000}),
    ]  # fmt: skip

    def ask(kind: tuple[str, dict[str, Any]]) -> Any:
        answer = served.post(kind[0], {"model": "tiny", **kind[1]})
        found = answer.json()
        for name in ("id", "created", "created_at", "usage"):
            found.pop(name, None)
        text = json.dumps(found)
        return answer.status_code, [
            part for part in text.split('"') if not part.startswith(("msg_", "call")) and len(part) != 9
        ]

    alone = [ask(kind) for kind in kinds]
    assert [status for status, _ in alone] == [200] * 7 + [400]
    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        found = list(pool.map(ask, kinds * 8))
    for number, each in enumerate(found):
        if kinds[number % 8][0] in ("/v1/embeddings", "/v1/score") or "logprobs" in kinds[number % 8][1]:
            assert each[0] == 200  # their figures differ in the last digit
        else:
            assert each == alone[number % 8]


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses"])
def test_streams_that_nobody_reads_on_are_given_up(served: Served, path: str):
    asked = {"input": "Hi"} if path.endswith("responses") else {"messages": [{"role": "user", "content": "Hi"}]}
    body = {"model": "tiny", **asked, "stream": True, "eos_token_id": [], "temperature": 0}
    for _ in range(20):
        with httpx2.stream("POST", served.url + path, json=body, timeout=60) as answer:
            assert next(answer.iter_raw())
    served.wait_until(lambda: served.model.engine.load.running == served.model.engine.load.waiting == 0)

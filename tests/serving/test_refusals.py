"""No field is ignored: each is honoured, or refused with its name in OpenAI's shape."""

from typing import Any

import openai
import pytest

from .conftest import Served

CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}
TEXT = {"model": "tiny", "prompt": "Hi", "max_tokens": 2}
BAD: list[tuple[str, dict[str, Any], str | None]] = [
    ("chat/completions", {"tempreature": 1}, "tempreature"), ("chat/completions", {"temperature": 3}, "temperature"),
    ("chat/completions", {"temperature": "1"}, "temperature"), ("chat/completions", {"n": 0}, "n"),
    ("chat/completions", {"n": 1000}, "n"), ("chat/completions", {"max_tokens": 5000}, "max_tokens"),
    ("chat/completions", {"messages": []}, "messages"), ("chat/completions", {"messages": [{"role": "king", "content": "x"}]}, "messages[0].role"),
    ("chat/completions", {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}, "messages[0].content[0].type"),
    ("chat/completions", {"messages": [{"role": "user", "content": "x", "name": "Ann"}]}, "messages[0].name"),
    ("chat/completions", {"messages": [{"role": "user"}]}, "messages[0].content"),
    ("chat/completions", {"store": True}, "store"), ("chat/completions", {"audio": {"voice": "a"}}, "audio"),
    ("chat/completions", {"web_search_options": {}}, "web_search_options"), ("chat/completions", {"modalities": ["audio"]}, "modalities"),
    ("chat/completions", {"service_tier": "flex"}, "service_tier"), ("chat/completions", {"functions": [{"name": "f"}]}, "functions"),
    ("chat/completions", {"stop": list("abcde")}, "stop"), ("chat/completions", {"stop": ""}, "stop"),
    ("chat/completions", {"top_logprobs": 3}, "top_logprobs"), ("chat/completions", {"stream_options": {"include_usage": True}}, "stream_options"),
    ("chat/completions", {"stream": True, "stream_options": {"include_obfuscation": True}}, "stream_options.include_obfuscation"),
    ("chat/completions", {"max_completion_tokens": 2}, "max_tokens"), ("chat/completions", {"logit_bias": {"x": 1}}, "logit_bias.x"),
    ("chat/completions", {"logit_bias": {"99999": 1}}, "logit_bias"), ("chat/completions", {"top_k": -1}, "top_k"),
    ("chat/completions", {"regex": "("}, "regex"), ("chat/completions", {"regex": "a", "choices": ["b"]}, "regex"),
    ("chat/completions", {"adapter": "none"}, "adapter"), ("chat/completions", {"do_sample": False, "temperature": 0.5}, "do_sample"),
    ("chat/completions", {"allowed_token_ids": [7], "suppress_tokens": [7], "eos_token_id": []}, None),
    ("completions", {"suffix": "x"}, "suffix"), ("completions", {"prompt": []}, "prompt"), ("completions", {"prompt": [[1], "a"]}, "prompt[1]"),
    ("completions", {"prompt": [99999]}, None), ("completions", {"best_of": 2, "stream": True}, "best_of"),
    ("completions", {"best_of": 1, "n": 2}, "best_of"), ("completions", {"max_tokens": 0}, "max_tokens"), ("completions", {"logprobs": 50}, "logprobs"),
    ("completions", {"num_beams": 2, "n": 3, "temperature": 0}, "num_beams"), ("completions", {"prompt": ["a"] * 20}, "n"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "more", "param"), BAD, ids=lambda each: str(each)[:60])
def test_what_is_not_honoured_is_refused_by_name(served: Served, path: str, more: dict[str, Any], param: str | None):
    answer = served.post(f"/v1/{path}", {**(CHAT if path.startswith("chat") else TEXT), **more})
    assert answer.status_code == 400, answer.text
    error = answer.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"} and error["type"] == "invalid_request_error"
    assert error["param"] == param and error["message"]


def test_null_is_as_if_not_given(served: Served):
    from wenloom.serving.chat_schema import ChatRequest
    from wenloom.serving.completion_schema import CompletionRequest

    for path, body, model in (("chat/completions", CHAT, ChatRequest), ("completions", TEXT, CompletionRequest)):
        nulls = {name: None for name in model.model_fields if name not in body}
        assert served.post(f"/v1/{path}", {**nulls, **body}).status_code == 200


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"null", b"\xff", b'{"model": NaN}', b"[" * 100_000, b'{"model":"tiny","prompt":"' + b"9" * 5000 + b'","seed":' + b"9" * 5000 + b"}"])  # fmt: skip
def test_a_body_that_is_no_request_is_refused(served: Served, content: bytes):
    import httpx2

    answer = httpx2.post(f"{served.url}/v1/completions", content=content, headers={"content-type": "application/json"})
    assert answer.status_code == 400 and answer.json()["error"]["message"]
    as_text = httpx2.post(
        f"{served.url}/v1/completions", content=b'{"model":"tiny"}', headers={"content-type": "text/plain"}
    )
    assert as_text.status_code == 400


def test_the_client_raises_its_own_errors(client: openai.OpenAI):
    with pytest.raises(openai.NotFoundError):
        client.completions.create(model="other", prompt="x")
    with pytest.raises(openai.BadRequestError, match="suffix"):
        client.completions.create(model="tiny", prompt="x", suffix="y")
    with pytest.raises(openai.NotFoundError):
        client.images.generate(prompt="x")

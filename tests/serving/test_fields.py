"""No field is ignored: the listing in the documents is the schemas', and what they call honoured is read."""

from typing import Any, get_type_hints

import pytest
from openai.types import completion_create_params, embedding_create_params
from openai.types.chat import completion_create_params as chat_create_params
from openai.types.responses import response_create_params

from wenloom.serving.fields import Body, NotOffered

from ..field_listing import BODIES, PAGES, fields_of, written
from .conftest import Served

OPENAI: dict[str, Any] = {
    "/v1/responses": response_create_params.ResponseCreateParamsBase,
    "/v1/embeddings": embedding_create_params.EmbeddingCreateParams,
    "/v1/completions": completion_create_params.CompletionCreateParamsBase,
    "/v1/chat/completions": chat_create_params.CompletionCreateParamsBase,
}
ASKED: dict[str, dict[str, Any]] = {
    "/v1/completions": {"prompt": "Hi", "max_tokens": 1},
    "/v1/chat/completions": {
        "messages": [
            {"role": "system", "content": [{"type": "text", "text": "Hi"}]}, {"role": "user", "content": "Hi"},
            {"role": "assistant", "tool_calls": [{"id": "x", "function": {"name": "f", "arguments": "{}"}}]},
            {"role": "tool", "content": "y", "tool_call_id": "x"},
        ], "tools": [{"type": "function", "function": {"name": "f"}}], "on_overflow": "left",
        "max_tokens": 1, "stream": True, "stream_options": {}, "response_format": {"type": "json_schema", "json_schema": {
            "name": "x", "description": "y"}},
    },
}  # fmt: skip
ASKED |= {
    "/v1/responses": {
        "input": [{"role": "user", "content": [{"type": "input_text", "text": "Hi"}]}, {"type": "function_call", "call_id": "x", "name": "f", "arguments": "{}"},
                  {"type": "function_call_output", "call_id": "x", "output": "y"}],
        "max_output_tokens": 1, "truncation": "auto", "tools": [{"type": "function", "name": "f"}],
        "text": {"format": {"type": "json_schema", "name": "x", "description": "y"}},
    },
    "/v1/tokenize": {"prompt": "Hi", "messages": None}, "/v1/detokenize": {"tokens": [5]}, "/v1/score": {"input": "Hi"}, "/v1/embeddings": {"input": "Hi"},
}  # fmt: skip
VALUES = ("x", True, False, 1, 0.5, {"type": "x"}, ["x"], [{"type": "x"}])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.parent.name)
def test_the_documents_list_the_fields_of_the_schemas(page: Any):
    assert written(page) == page.read_text(encoding="utf-8"), "run `python -m tests.field_listing`"


@pytest.mark.parametrize("path", OPENAI)
def test_every_field_of_the_official_client_is_known(path: str):
    known = {field.alias or name for name, field in BODIES[path].model_fields.items()}
    assert set(get_type_hints(OPENAI[path])) <= known


@pytest.mark.parametrize("path", BODIES)
def test_what_is_called_honoured_is_read(path: str, served: Served, monkeypatch: pytest.MonkeyPatch):
    read: set[tuple[type[Any], str]] = set()

    def noted(self: Body, name: str) -> Any:
        read.update((kind, name) for kind in type(self).__mro__)
        return object.__getattribute__(self, name)

    with monkeypatch.context() as patched:
        patched.setattr(Body, "__getattribute__", noted)
        answer = served.post(path, {"model": "tiny", **ASKED[path]})
    assert answer.status_code == 200, answer.text
    asked = {each.body for each in fields_of(BODIES[path]) if any(kind is each.body for kind, _ in read)}
    for each in fields_of(BODIES[path]):  # by type and role the kinds of objects are told apart
        if each.mark is None and each.name not in ("type", "role") and each.body in asked:
            assert (each.body, each.name) in read, f"{each.path} is honoured by nobody"


@pytest.mark.parametrize("path", BODIES)
def test_what_is_called_refused_is_refused_and_its_exceptions_are_not(path: str, served: Served):
    for each in fields_of(BODIES[path]):
        if not isinstance(each.mark, NotOffered) or "." in each.path:
            continue
        for value in each.mark.but:
            assert served.post(path, {"model": "tiny", **ASKED[path], each.path: value}).status_code == 200
        others = [value for value in VALUES if value not in each.mark.but]
        for value in others:
            answer = served.post(path, {"model": "tiny", **ASKED[path], each.path: value})
            assert answer.status_code == 400 and answer.json()["error"]["param"].startswith(each.path), answer.text
        assert any("is not offered" in served.post(path, {"model": "tiny", **ASKED[path], each.path: value}).text
                   for value in others), f"{each.path} is refused for its type alone"  # fmt: skip

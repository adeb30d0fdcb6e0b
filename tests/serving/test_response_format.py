"""Replies that are JSON documents, as the official client asks for them."""

import json
import random
from collections.abc import Sequence
from typing import Any, Literal

import jsonschema
import openai
import pydantic
import pytest

from .conftest import Served

ASK: Any = [{"role": "user", "content": "Describe the lamp 春眠"}]
SCHEMAS: list[dict[str, Any]] = [
    {"type": "object", "properties": {"lit": {"type": "boolean"}, "colour": {"enum": ["red", "青"]}},
     "required": ["lit", "colour"], "additionalProperties": False},
    {"type": "object", "properties": {"姓名": {"type": "string", "maxLength": 4}, "ages": {
        "type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 99}, "maxItems": 3}},
     "required": ["姓名", "ages"], "additionalProperties": False},
    {"$defs": {"leaf": {"type": "object", "properties": {"on": {"type": "boolean"}}, "required": ["on"], "additionalProperties": False}},
     "type": "object", "properties": {"left": {"$ref": "#/$defs/leaf"}, "right": {"anyOf": [{"$ref": "#/$defs/leaf"}, {"type": "null"}]}},
     "required": ["left", "right"], "additionalProperties": False},
    {"type": "array", "items": {"const": 7}, "minItems": 2, "maxItems": 2},
]  # fmt: skip


def schema_format(schema: dict[str, Any], **more: Any) -> Any:
    return {"type": "json_schema", "json_schema": {"name": "lamp", "schema": schema, "strict": True, **more}}


@pytest.mark.parametrize("schema", SCHEMAS, ids=range(len(SCHEMAS)))
def test_a_model_of_random_weights_never_breaks_a_schema(client: openai.OpenAI, schema: dict[str, Any]):
    asked: Any = dict(
        model="tiny", messages=ASK, response_format=schema_format(schema), seed=random.Random(1).randrange(99)
    )
    whole = client.chat.completions.create(n=3, **asked)
    for each in whole.choices:
        assert each.finish_reason == "stop"
        jsonschema.validate(json.loads(each.message.content or ""), schema)
    chunks = client.chat.completions.create(n=3, stream=True, **asked)
    texts = ["", "", ""]
    for chunk in chunks:
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
    assert texts == [each.message.content for each in whole.choices]


class Lamp(pydantic.BaseModel):
    colour: Literal["red", "青"]
    parts: list[Literal["wick", "oil"]] = pydantic.Field(max_length=2)


def test_the_client_parses_a_class_of_its_own(client: openai.OpenAI):
    found = client.chat.completions.parse(model="tiny", messages=ASK, response_format=Lamp, seed=3)
    assert isinstance(found.choices[0].message.parsed, Lamp)
    with client.chat.completions.stream(model="tiny", messages=ASK, response_format=Lamp, seed=3) as stream:
        assert stream.get_final_completion().choices[0].message.parsed == found.choices[0].message.parsed


def test_a_json_object_is_one(client: openai.OpenAI):
    for form in ({"type": "json_object"}, {"type": "json_schema", "json_schema": {"name": "x"}}):
        found = client.chat.completions.create(model="tiny", messages=ASK, response_format=form, seed=1, max_tokens=4)  # pyright: ignore
        assert (found.choices[0].message.content or "").startswith("{")


def test_a_description_is_read_by_the_model(served: Served, client: openai.OpenAI):
    def read(messages: Sequence[Any], **more: Any) -> int:
        found = client.chat.completions.create(
            model="tiny", messages=messages, response_format=schema_format(SCHEMAS[0], **more)
        )  # pyright: ignore
        assert found.usage is not None
        return found.usage.prompt_tokens

    told = "Reply with the JSON document lamp: How it burns."
    system = served.model.tokenizer.encode(f"<|im_start|>system\n{told}<|im_end|>\n")
    assert read(ASK, description="How it burns.") == read(ASK) + len(system)
    after = [{"role": "system", "content": f"Be kind.\n\n{told}"}, *ASK]
    assert read([{"role": "system", "content": "Be kind."}, *ASK], description="How it burns.") == read(after)


BAD: list[tuple[Any, str]] = [
    ({"type": "xml"}, "response_format.type"), ({}, "response_format.type"), ("json", "response_format"),
    ({"type": "json_schema"}, "response_format.json_schema"),
    ({"type": "json_schema", "json_schema": {"schema": {}}}, "response_format.json_schema.name"),
    (schema_format({}, name="a b"), "response_format.json_schema.name"),
    (schema_format({}, strikt=True), "response_format.json_schema.strikt"),
    (schema_format({"type": "object", "properties": 3}), "response_format"),
    (schema_format({"type": "string", "pattern": "("}), "response_format"),
    (schema_format({"type": "array", "uniqueItems": True}), "response_format"),
    (schema_format({"enum": ["x" * 70_000]}), "response_format"),
    (schema_format({"$ref": "https://example.org/schema"}), "response_format"),
    (schema_format({"allOf": [{"type": "string"}, {"type": "null"}]}), "response_format"),
    (schema_format({"enum": ["\ud800"]}), "response_format"),
]  # fmt: skip


@pytest.mark.parametrize(("form", "param"), BAD, ids=lambda each: str(each)[:50])
def test_a_format_that_cannot_be_kept_is_refused_by_name(served: Served, form: Any, param: str):
    answer = served.post(
        "/v1/chat/completions", {"model": "tiny", "messages": ASK, "response_format": form, "max_tokens": 3}
    )
    assert answer.status_code == 400 and answer.json()["error"]["param"] == param, answer.text


def test_a_deep_schema_is_refused(served: Served):
    deep: Any = {"type": "string"}
    for _ in range(200):
        deep = {"type": "array", "items": deep}
    answer = served.post("/v1/chat/completions", {"model": "tiny", "messages": ASK, "response_format": schema_format(deep)})  # fmt: skip
    assert answer.status_code == 400 and answer.json()["error"]["param"] == "response_format"


@pytest.mark.parametrize("own", [{"regex": "a+"}, {"json_schema": {}}, {"choices": ["a"]}, {"grammar": 'start: "a"'}])
def test_a_format_and_the_engines_own_constraint_are_one_too_many(served: Served, own: dict[str, Any]):
    body = {"model": "tiny", "messages": ASK, "response_format": {"type": "json_object"}, **own}
    answer = served.post("/v1/chat/completions", body)
    assert answer.status_code == 400 and answer.json()["error"]["param"] == "response_format"


@pytest.mark.parametrize("pattern", ["(a+)+b", "(a|a)*c", "((a{1,1000}){1,1000}){1,1000}", "(.*a){60}", "(x+x+)+y"])
def test_no_pattern_holds_the_server_up(served: Served, pattern: str):
    """Each is answered, or refused by name; those that wait beside it get theirs."""
    form = schema_format({"type": "string", "pattern": f"^{pattern}$", "maxLength": 200})
    body = {"model": "tiny", "messages": ASK, "response_format": form, "max_tokens": 30}
    answer = served.post("/v1/chat/completions", body)
    assert answer.status_code == 200 or answer.json()["error"]["param"] == "response_format"
    assert served.post("/v1/completions", {"model": "tiny", "prompt": "The", "max_tokens": 1}).status_code == 200


def test_names_of_control_tokens_are_text_in_grammars(client: openai.OpenAI):
    found = client.chat.completions.create(
        model="tiny", messages=ASK, response_format=schema_format({"enum": ["<|im_end|>"]})
    )
    assert json.loads(found.choices[0].message.content or "") == "<|im_end|>"

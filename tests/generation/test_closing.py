"""Documents that come to their end within their room, by a model of random weights, which would never end them itself."""

import json
from typing import Any

import jsonschema
import pytest

from wenloom.api import LanguageModel
from wenloom.generation.closing import Closing
from wenloom.generation.request import GenerationRequest
from wenloom.tokens.tokenizer import TextTokenizer

from ..conftest import random_decoder, tiny_config


def closed(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


TEXT, WHOLE = {"type": "string"}, {"type": "integer"}
ORDER = closed(
    收件人=closed(姓名=TEXT, 电话={"type": "string", "pattern": "^1[0-9]{10}$"}),
    商品={"type": "array", "items": closed(名称=TEXT, 数量=WHOLE, 备注={"anyOf": [TEXT, {"type": "null"}]})},
    付款方式={"enum": ["微信", "支付宝"]},
)
SCHEMAS: dict[str, dict[str, Any]] = {
    "a string": closed(name=TEXT), "objects in a list": ORDER, "numbers": {"type": "array", "items": {"type": "number"}},
    "lists in lists": {"type": "array", "items": {"type": "array", "items": {"type": "array", "items": TEXT}}},
    "nothing required": {"type": "object", "properties": {"a": TEXT, "b": {"type": "boolean"}}},
    "any keys": {"type": "object", "additionalProperties": WHOLE}, "at least four": {"type": "array", "items": TEXT, "minItems": 4},
    "long": {"type": "string", "minLength": 30}, "a tree": {"$ref": "#/$defs/node", "$defs": {"node": closed(
        value=TEXT, children={"type": "array", "items": {"$ref": "#/$defs/node"}})}},
    "a date": closed(day={"type": "string", "format": "date"}, at={"type": "string", "format": "date-time"}), "anything": {},
}  # fmt: skip


CALL = {"grammar": 'start: "<call>" body "</call>"\nbody: %json ' + json.dumps(closed(name=TEXT))}


@pytest.fixture(scope="module")
def model(tokenizer: TextTokenizer) -> LanguageModel:
    return LanguageModel(random_decoder(tiny_config(context_length=512)), tokenizer)


def written(model: LanguageModel, **asked: Any) -> Any:
    job = model.engine.submit("The lamp", GenerationRequest(**asked))
    model.engine.run([job])
    return job.result()[0]


def shortest(model: LanguageModel, schema: dict[str, Any]) -> int:
    vocabulary = model.engine.vocabulary
    way = (
        vocabulary.grammars(vocabulary.endings(GenerationRequest()))
        .matcher("json_schema", json.dumps(schema))
        .ending(400)
    )
    assert way is not None
    jsonschema.validate(json.loads(model.tokenizer.decode(way)), schema)
    return len(way)


@pytest.mark.parametrize("kind", SCHEMAS)
def test_a_document_is_whole_wherever_a_whole_one_fits(model: LanguageModel, kind: str):
    schema = SCHEMAS[kind]
    least = shortest(model, schema)
    for more in (0, 1, 2, 5, 11, 40, 120):
        for seed in range(3):
            found = written(model, max_new_tokens=least + more, json_schema=json.dumps(schema), seed=seed)
            is_open = isinstance(json.loads(found.text), int | float)  # a number that is whole could be longer
            assert found.finish_reason == "stop" or is_open, (more, seed, found.text)
            assert len(found.tokens) <= least + more
            jsonschema.validate(json.loads(found.text), schema)


def test_where_none_fits_it_is_cut_off_and_says_so(model: LanguageModel):
    least = shortest(model, ORDER)
    found = written(model, max_new_tokens=least // 2, json_schema=json.dumps(ORDER), seed=0)
    assert found.finish_reason == "length"


def test_what_ends_by_itself_is_as_it_was(model: LanguageModel, monkeypatch: pytest.MonkeyPatch):
    schema = json.dumps(closed(lit={"type": "boolean"}, kind={"enum": ["lamp", "boat"]}))
    asked: list[dict[str, Any]] = [{"max_new_tokens": 200, "json_schema": schema, "seed": seed} for seed in range(8)]
    asked += [{"max_new_tokens": 200, "regex": "(a|b){1,9}c", "seed": seed} for seed in range(8)]
    with_it = [written(model, **each).tokens for each in asked]
    monkeypatch.setattr(Closing, "chosen", lambda self, matcher, token, *_: token)
    assert with_it == [written(model, **each).tokens for each in asked]


@pytest.mark.parametrize("form", [CALL, {"choices": ("a lamp", "a boat at dusk")}])
def test_other_forms_come_to_an_end_too(model: LanguageModel, form: dict[str, Any]):
    for seed in range(6):
        found = written(model, max_new_tokens=40, seed=seed, **form)
        vocabulary, request = model.engine.vocabulary, GenerationRequest(**form)
        kind, source = request.constraint or ("", "")
        assert vocabulary.grammars(vocabulary.endings(request)).obeyed(kind, source, found.text), found.text


def test_what_is_forbidden_otherwise_stays_forbidden(model: LanguageModel):
    quote = [
        token for token, data in enumerate(model.tokenizer.token_bytes(model.decoder.config.vocab_size)) if data == b'"'
    ]
    found = written(model, max_new_tokens=30, json_schema=json.dumps(TEXT), seed=0, suppress_tokens=quote)
    assert quote[0] not in found.tokens

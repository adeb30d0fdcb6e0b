"""Keywords of JSON schemas that are written anew for the grammar: what it lets pass obeys the schema as it was given."""

import itertools
import json
from typing import Any

import jsonschema
import pytest

from wenloom.core.errors import InputError
from wenloom.generation.grammars import Grammars
from wenloom.tokens.tokenizer import TextTokenizer

SWITCH = {
    "type": "object",
    "properties": {"k": {"enum": ["a", "b", "c"]}, "x": {"type": "integer"}},
    "required": ["k"],
    "additionalProperties": False,
}
EXACT: list[Any] = [
    {"type": "array", "items": {"enum": ["a", "b", 1]}, "uniqueItems": True},
    {"type": "array", "items": {"type": "boolean"}, "uniqueItems": True, "minItems": 1},
    {"type": "array", "items": {"$ref": "#/$defs/v"}, "uniqueItems": True, "maxItems": 2, "$defs": {"v": {"enum": ["a", "c", None]}}},
    {"type": "array", "items": {"type": "integer"}, "uniqueItems": True, "maxItems": 1},
    {"type": "array", "items": {"type": "integer"}, "uniqueItems": False, "maxItems": 2},
    {"enum": ["a", "b", 1, True], "not": {"enum": ["a", 1.0]}},
    {"type": "string", "not": {"const": "a"}}, {"type": "string", "not": {"enum": ["", "ab", "苏/"]}}, {"type": "boolean", "not": {"const": True}},
    {"type": "integer", "not": {"enum": [1, 3]}, "minimum": 0}, {"type": ["string", "null", "integer"], "not": {"type": "string"}},
    {"not": {"type": ["object", "array", "string"]}},
    {"oneOf": [{"enum": ["a", "b"]}, {"enum": ["b", "c"]}]}, {"oneOf": [{"type": "string"}, {"type": "integer"}, {"type": "null"}]},
    {"oneOf": [{**SWITCH, "properties": {**SWITCH["properties"], "k": {"const": "a"}}}, {**SWITCH, "properties": {"k": {"enum": ["b", "c"]}}}]},
    {"oneOf": [{"type": "object", "properties": {key: {"type": "integer"}}, "required": [key], "additionalProperties": False} for key in "kx"]},
    {**SWITCH, "if": {"properties": {"k": {"const": "a"}}}, "then": {"required": ["x"]}},
    {**SWITCH, "if": {"properties": {"k": {"enum": ["a", "b"]}}, "required": ["k"]}, "then": {"properties": {"x": {"maximum": 1}}}, "else": {"required": ["x"]}},
    {"type": "string", "then": {"maxLength": 0}, "maxContains": 3},
    {"$ref": "#/$defs/地点 1", "$defs": {"地点 1": {"enum": ["a", "苏"]}}},
]  # fmt: skip
"""Those whose documents the grammar holds all."""
SOME: list[Any] = [
    {"type": "array", "items": {"enum": list("abcdefgh")}, "uniqueItems": True},
    {"type": "array", "items": {"enum": ["a", "b", 1]}, "contains": {"const": "a"}, "maxItems": 3},
    {"type": "array", "items": {"type": "integer"}, "contains": {"maximum": 1}, "minContains": 2},
]  # fmt: skip
ATOMS = [None, True, False, 0, 1, 2, 3, "", "a", "b", "ab", "abc", "c", "苏", "苏/", "苏//"]
DOCUMENTS: list[Any] = [
    *ATOMS, *(list(each) for n in range(4) for each in itertools.product(["a", "b", "c", 1, True, None, 2], repeat=n)),
    *({"k": k, "x": x} for k in ["a", "b", "c", 1] for x in [0, 1, 2, "a"]), *({"k": k} for k in ["a", "b", "c", 1]), {"x": 1}, {},
]  # fmt: skip


@pytest.fixture(scope="module")
def grammars(tokenizer: TextTokenizer) -> Grammars:
    return Grammars(tokenizer, tokenizer.vocab_size, frozenset([tokenizer.eos_token_id or 0]))


@pytest.mark.parametrize("schema", [*EXACT, *SOME], ids=lambda each: json.dumps(each)[:60])
def test_what_the_grammar_holds_obeys_the_schema(grammars: Grammars, schema: Any):
    check = jsonschema.Draft202012Validator(schema)
    source, n_held = json.dumps(schema), 0
    for each in DOCUMENTS:
        is_held = grammars.obeyed("json_schema", source, json.dumps(each, ensure_ascii=False))
        assert check.is_valid(each) if is_held else True, each
        assert is_held or schema in SOME or not check.is_valid(each), each
        n_held += is_held
    assert n_held


@pytest.mark.parametrize(
    ("schema", "named"),
    [
        ({"type": "array", "items": {"type": "integer"}, "uniqueItems": True}, "uniqueItems"),
        ({"type": "array", "items": {"enum": list(range(40))}, "uniqueItems": True}, "uniqueItems"),
        ({"not": {"minLength": 3}}, "not"), ({"type": "number", "not": {"const": 1}}, "not"), ({"type": "number", "not": {"type": "integer"}}, "not"),
        ({"properties": {"a": {"if": {"minimum": 3}, "then": {"multipleOf": 2}}}}, "if"),
        ({"oneOf": [{"type": "number"}, {"type": "integer"}]}, "oneOf"), ({"oneOf": [{"type": "object"}, {"type": "object", "required": ["a"]}]}, "oneOf"),
        ({"type": "array", "contains": {"const": 1}, "maxContains": 1}, "contains"), ({"type": "object", "dependentRequired": {"a": ["b"]}}, "dependentRequired"),
    ],
)  # fmt: skip
def test_what_no_grammar_forces_is_refused_by_name(grammars: Grammars, schema: Any, named: str):
    with pytest.raises(InputError, match=rf"^json_schema: .*\b{named}\b"):
        grammars.matcher("json_schema", json.dumps(schema))


def test_names_of_arguments_are_no_keywords(grammars: Grammars):
    """What is called like a keyword, and what stands in values, is left as it is."""
    schema = {"type": "object", "properties": {"not": {"type": "integer"}, "uniqueItems": {"const": {"oneOf": [1], "if": 2}}},
              "required": ["not", "uniqueItems"], "additionalProperties": False}  # fmt: skip
    document = '{"not": 3, "uniqueItems": {"oneOf": [1], "if": 2}}'
    jsonschema.validate(json.loads(document), schema)
    assert grammars.obeyed("json_schema", json.dumps(schema), document)

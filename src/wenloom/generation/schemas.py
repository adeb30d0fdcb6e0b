"""JSON schemas in the words that the compiler of grammars knows: what only says it otherwise is written anew, the rest is refused.

The document obeys the schema as it was given. Where a grammar cannot hold all documents that do, it holds some of them: an array that
contains something begins with it, and unique items of a long list stand in the list's order.
"""

import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import quote, unquote

from wenloom.core.errors import InputError

_ONE = ("items", "additionalProperties", "contains", "not", "if", "then", "else", "propertyNames", "additionalItems")
_MANY = ("anyOf", "oneOf", "allOf", "prefixItems")
_NAMED = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_MOST_ARRAYS = 2000
"""Arrays of unique items that are written out."""
_TYPES = ("null", "boolean", "integer", "number", "string", "array", "object")
Schema = dict[str, Any]


def forced(schema: Any) -> Any:
    """A schema that a grammar can hold, and that no document satisfies which the given one forbids.

    Raises:
        InputError: it says what no grammar forces; names the keyword.
    """
    return _forced(schema, schema)


def _forced(schema: Any, root: Any) -> Any:
    if not isinstance(schema, dict):
        return schema
    found: Schema = {}
    for name, value in schema.items():
        if name in _ONE:
            found[name] = _forced(value, root)
        elif name in _MANY and isinstance(value, list):
            found[name] = [_forced(each, root) for each in value]
        elif name in _NAMED and isinstance(value, dict):
            found[name] = {key: _forced(each, root) for key, each in value.items()}
        elif name == "$ref" and isinstance(value, str):
            found[name] = quote(value, safe="#/%:?&=+,;@!$'()*~[]")  # llguidance reads ASCII alone
        else:
            found[name] = value
    for rule in _RULES:
        found = rule(found, root)
    return found


def _without_unique_items(schema: Schema, root: Any) -> Schema:
    if not schema.get("uniqueItems"):
        return {name: value for name, value in schema.items() if name != "uniqueItems"}
    rest = {name: value for name, value in schema.items() if name != "uniqueItems"}
    low, high = schema.get("minItems", 0), schema.get("maxItems", math.inf)
    if high <= 1:
        return rest
    values = _values(schema.get("items"), root)
    if values is None or schema.keys() & {"prefixItems", "contains", "anyOf", "oneOf", "allOf", "enum", "const"}:
        raise InputError("uniqueItems can be forced where the items are an enum and nothing else is said of them")
    lengths = [n for n in range(len(values) + 1) if low <= n <= high]
    if sum(math.perm(len(values), n) for n in lengths) <= _MOST_ARRAYS:
        arrays = [list(each) for n in lengths for each in itertools.permutations(values, n)]
    elif sum(math.comb(len(values), n) for n in lengths) <= _MOST_ARRAYS:
        arrays = [list(each) for n in lengths for each in itertools.combinations(values, n)]
    else:
        raise InputError(
            f"uniqueItems can be forced for at most {_MOST_ARRAYS:,} arrays, and of {len(values)} values there are more"
        )
    kept = {name: value for name, value in rest.items() if name not in ("type", "items", "minItems", "maxItems")}
    return {**kept, "enum": arrays}


def _without_not(schema: Schema, root: Any) -> Schema:
    if "not" not in schema:
        return schema
    forbidden, rest = _resolved(schema["not"], root), {name: value for name, value in schema.items() if name != "not"}
    if forbidden is False or forbidden == {"not": {}}:
        return rest
    values, own = _values(forbidden, root), _values(rest, root)
    if values is not None and own is not None:
        kept = [each for each in own if not _is_in(each, values)]
        return {**{name: value for name, value in rest.items() if name != "const"}, "enum": kept}
    types = _types(rest)
    if isinstance(forbidden, dict) and forbidden.keys() == {"type"}:
        kept = [
            each for each in types if not (set(_types(forbidden)) & {each, *(["number"] if each == "integer" else [])})
        ]
        if "integer" in _types(forbidden) and "number" in kept and "number" not in _types(forbidden):
            raise InputError("not integer cannot be forced for a number")
        return {**rest, "type": kept}
    if values is not None and rest.keys() & {"pattern", "format"} == set():
        if types == ["string"]:
            return {**rest, "pattern": _other_than([each for each in values if isinstance(each, str)])}
        if types == ["integer"]:
            whole = {
                int(each)
                for each in values
                if isinstance(each, int | float) and not isinstance(each, bool) and each == int(each)
            }
            return _integers_other_than(rest, sorted(whole))
    raise InputError("not can be forced against values of an enum, a text or an integer, and against types")


def _without_if(schema: Schema, root: Any) -> Schema:
    if "if" not in schema:
        return {name: value for name, value in schema.items() if name not in ("then", "else")}
    rest = {name: value for name, value in schema.items() if name not in ("if", "then", "else")}
    condition = _resolved(schema["if"], root)
    asked = (
        condition.get("properties")
        if isinstance(condition, dict) and condition.keys() <= {"properties", "required", "type"}
        else None
    )
    if isinstance(asked, dict) and len(asked) == 1:
        ((name, wanted),) = asked.items()
        own, values = _values((rest.get("properties") or {}).get(name), root), _values(wanted, root)
        if own is not None and values is not None and name in rest.get("required", ()):
            branches = []
            for values_here, then in (([each for each in own if _is_in(each, values)], schema.get("then", True)),
                                      ([each for each in own if not _is_in(each, values)], schema.get("else", True))):  # fmt: skip
                if values_here:
                    here = {**rest, "properties": {**rest["properties"], name: {"enum": values_here}}}
                    branches.append(here if then is True or then == {} else {"allOf": [here, then]})
            named = {key: rest[key] for key in ("$defs", "definitions") if key in rest}
            return {**named, "anyOf": branches}
    raise InputError("if can be forced where it asks for values of one required argument whose own values are an enum")


def _without_contains(schema: Schema, _: Any) -> Schema:
    if "contains" not in schema:
        return {name: value for name, value in schema.items() if name not in ("minContains", "maxContains")}
    least = schema.get("minContains", 1)
    if "maxContains" in schema or "prefixItems" in schema:
        raise InputError("contains can be forced where neither maxContains nor prefixItems is given")
    rest = {name: value for name, value in schema.items() if name not in ("contains", "minContains")}
    if not least:
        return rest
    items = schema.get("items", True)
    first = schema["contains"] if items is True or items == {} else {"allOf": [items, schema["contains"]]}
    return {**rest, "prefixItems": [first] * least, "minItems": max(least, schema.get("minItems", 0))}


def _without_one_of(schema: Schema, root: Any) -> Schema:
    if "oneOf" not in schema:
        return schema
    rest = {name: value for name, value in schema.items() if name != "oneOf"}
    options = [_resolved(each, root) for each in schema["oneOf"]]
    lists = [_values(each, root) for each in options]
    if all(each is not None for each in lists):
        everything = [value for each in lists for value in each or ()]
        once = [value for value in everything if sum(_is_in(value, each or ()) for each in lists) == 1]
        chosen: Any = {"enum": once}
    elif all(_exclude(one, other, root) for one, other in itertools.combinations(options, 2)):
        chosen = {"anyOf": schema["oneOf"]}
    else:
        raise InputError("oneOf can be forced where its alternatives exclude each other: by type, by values, or by a required "
                         "property with other values in each")  # fmt: skip
    return {**rest, **chosen} if not rest.keys() & chosen.keys() else {"allOf": [rest, chosen]}


_RULES: tuple[Callable[[Schema, Any], Schema], ...] = (
    _without_not, _without_unique_items, _without_contains, _without_if, _without_one_of,
)  # fmt: skip


def _exclude(one: Any, other: Any, root: Any) -> bool:
    """Whether no document obeys both."""
    one, other = _resolved(one, root), _resolved(other, root)
    if not isinstance(one, dict) or not isinstance(other, dict):
        return one is False or other is False
    values, others = _values(one, root), _values(other, root)
    if values is not None and others is not None:
        return not any(_is_in(each, others) for each in values)
    types = [{"number" if each == "integer" else each for each in _types(each)} for each in (one, other)]
    if not types[0] & types[1]:
        return True
    if types[0] != {"object"} or types[1] != {"object"}:
        return False
    for mine, theirs in ((one, other), (other, one)):
        for name in mine.get("required", ()):
            if (
                name not in theirs.get("properties", {})
                and theirs.get("additionalProperties") is False
                and "patternProperties" not in theirs
            ):
                return True
            if name in theirs.get("required", ()) and _exclude(mine.get("properties", {}).get(name, {}), theirs.get("properties", {}).get(name, {}), root):  # fmt: skip
                return True
    return False


def _resolved(schema: Any, root: Any) -> Any:
    """What a reference to a definition means."""
    for _ in range(8):
        if not isinstance(schema, dict) or schema.keys() != {"$ref"} or not str(schema["$ref"]).startswith("#/"):
            break
        schema = _at(root, unquote(str(schema["$ref"])).split("/")[1:])
    return schema


def _at(schema: Any, path: Sequence[str]) -> Any:
    for step in path:
        schema = schema.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(schema, dict) else None
    return schema


def _values(schema: Any, root: Any) -> list[Any] | None:
    """The values that there are, where a schema says no more than that; None: there are others, or it says more."""
    schema = _resolved(schema, root)
    if not isinstance(schema, dict):
        return None
    said = schema.keys() - {"title", "description", "default", "examples", "$comment"}
    found = {"boolean": [True, False], "null": [None]}.get(str(schema.get("type"))) if said == {"type"} else None
    if said - {"type"} == {"enum"} and isinstance(schema["enum"], list):
        found = schema["enum"]
    elif said - {"type"} == {"const"}:
        found = [schema["const"]]
    if found is None:
        return None
    types = _types(schema)
    kept = [each for each in found if _type_of(each) in types or (_type_of(each) == "integer" and "number" in types)]
    return [each for place, each in enumerate(kept) if not _is_in(each, kept[:place])]


def _types(schema: Mapping[str, Any]) -> list[str]:
    types = schema.get("type", [each for each in _TYPES if each != "integer"])
    return [types] if isinstance(types, str) else list(types)


def _type_of(value: Any) -> str:
    kinds = ((bool, "boolean"), (int, "integer"), (float, "number"), (str, "string"), (list, "array"), (dict, "object"))
    return next((name for kind, name in kinds if isinstance(value, kind)), "null")


def _is_in(value: Any, values: Sequence[Any]) -> bool:
    """Whether values hold one, as JSON compares: 1 is 1.0 and not true."""
    return any(_same(value, each) for each in values)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, bool) or isinstance(other, bool) or _type_of(one) != _type_of(other):
        return one is other or (not isinstance(one, bool) and not isinstance(other, bool) and isinstance(one, int | float)
                                and isinstance(other, int | float) and one == other)  # fmt: skip
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    return one == other


def _other_than(texts: Sequence[str]) -> str:
    """A pattern of all texts but some: those that leave them at a letter, or end before or behind them.

    >>> import re
    >>> [text for text in ("", "a", "ab", "abc", "b") if re.search(_other_than(["a", "abc"]), text)]
    ['', 'ab', 'b']
    """
    parts = []
    for prefix in sorted({text[:n] for text in texts for n in range(len(text) + 1)}):
        nexts = sorted({text[len(prefix)] for text in texts if len(text) > len(prefix) and text.startswith(prefix)})
        another = "[^" + "".join(map(_escaped, nexts)) + "]" if nexts else r"[\s\S]"
        parts.append("".join(map(_escaped, prefix)) + f"{another}[\\s\\S]*")
        if prefix not in texts:
            parts.append("".join(map(_escaped, prefix)))
    return "^(" + "|".join(parts) + ")$"


def _escaped(letter: str) -> str:
    """A letter in a pattern, also between brackets."""
    return f"\\{letter}" if letter in "\\^$.|?*+()[]{}-/&~" else json.dumps(letter)[1:-1] if letter < " " else letter


def _integers_other_than(schema: Schema, values: Sequence[int]) -> Schema:
    """The ranges between some integers."""
    edges = [None, *values, None]
    ranges = []
    for low, high in itertools.pairwise(edges):
        bounds = {**({} if low is None else {"minimum": low + 1}), **({} if high is None else {"maximum": high - 1})}
        if "minimum" in schema:
            bounds["minimum"] = max(schema["minimum"], bounds.get("minimum", schema["minimum"]))
        if "maximum" in schema:
            bounds["maximum"] = min(schema["maximum"], bounds.get("maximum", schema["maximum"]))
        if bounds.get("minimum", -math.inf) <= bounds.get("maximum", math.inf):
            ranges.append({**schema, **bounds})
    return {"anyOf": ranges}

"""Arguments as pairs: which of them stand as plain text, and the grammar that they obey."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from wenloom.core.errors import InputError, printable
from wenloom.serving.lark import ANY, Literals, json_rule, quoted
from wenloom.serving.tool_form import Pairs

_OF_OBJECTS = frozenset(
    "type properties required additionalProperties description title default examples $schema $id $defs definitions $comment".split()
)
_SAYING = frozenset("description title default examples $comment deprecated readOnly writeOnly".split())
_OF_TEXTS = _SAYING | frozenset(["type", "enum", "const", "minLength", "maxLength", "pattern"])
_DEFINITIONS = ("$defs", "definitions")


@dataclass(frozen=True)
class Argument:
    """An argument of a function."""

    name: str
    schema: Any
    """Of its value; whole where that is a text, else with the definitions that it names."""
    is_required: bool
    is_text: bool
    """Whether its value can only be a text, and stands as it is."""


def arguments_of(schema: Mapping[str, Any] | None) -> list[Argument]:
    """The arguments that a schema of an object allows, those aside that it does not name.

    Raises:
        InputError: it says what pairs cannot keep; names the keyword.
    """
    schema = schema or {}
    if wrong := sorted(schema.keys() - _OF_OBJECTS):
        raise InputError(
            f"{printable(wrong[0], 60)} of all arguments together cannot be kept in this model's form of calls."
        )
    properties, required = dict(schema.get("properties") or {}), schema.get("required") or []
    others = schema.get("additionalProperties", True)
    for name in required:
        if name not in properties:
            properties[name] = others
    found = []
    for name, each in properties.items():
        is_required = name in required
        if each is False:
            if is_required:
                raise InputError(f"the argument {printable(name, 60)} is required and not allowed.")
            continue
        resolved = _resolved(each, schema)
        is_text = isinstance(resolved, dict) and _is_text(resolved)
        whole = resolved if is_text else _with_definitions({} if each is True else each, schema)
        found.append(Argument(name, whole, is_required, is_text))
    return found


def texts_of(schema: Mapping[str, Any] | None) -> frozenset[str]:
    """The names of the arguments that stand as plain text."""
    return frozenset(each.name for each in arguments_of(schema) if each.is_text)


def _resolved(schema: Any, root: Mapping[str, Any]) -> Any:
    """What a reference to a definition means."""
    for _ in range(8):
        if not isinstance(schema, dict) or schema.keys() - _SAYING != {"$ref"}:
            break
        parts = str(schema["$ref"]).split("/")
        if len(parts) != 3 or parts[0] != "#" or parts[1] not in _DEFINITIONS:
            break
        schema = (root.get(parts[1]) or {}).get(parts[2])
    return schema


def _with_definitions(schema: Mapping[str, Any], root: Mapping[str, Any]) -> dict[str, Any]:
    whole = {**schema, **{name: root[name] for name in _DEFINITIONS if name in root}}
    for reference in _references(whole):
        if not reference.startswith(tuple(f"#/{name}/" for name in _DEFINITIONS)):
            raise InputError(f"$ref {printable(reference, 60)} of an argument must lead to a definition in $defs.")
    return whole


def _references(schema: Any) -> Iterator[str]:
    if isinstance(schema, dict):
        if isinstance(schema.get("$ref"), str):
            yield schema["$ref"]
        for inner in schema.values():
            yield from _references(inner)
    elif isinstance(schema, list):
        for inner in schema:
            yield from _references(inner)


def _is_text(schema: dict[str, Any]) -> bool:
    if schema.keys() - _OF_TEXTS:
        return False
    values = schema.get("enum", [schema["const"]] if "const" in schema else None)
    if values is not None:
        return isinstance(values, list) and all(isinstance(each, str) for each in values) and not _bounds(schema)
    return schema.get("type") == "string" and ("pattern" not in schema or _inside(schema["pattern"]) is not None)


def _bounds(schema: Mapping[str, Any]) -> bool:
    return not schema.keys().isdisjoint(("minLength", "maxLength", "pattern"))


def _inside(pattern: Any) -> str | None:
    """A pattern of a whole text without its anchors; None: it is of another kind.

    >>> _inside("^[a-z/]+$"), _inside("a"), _inside("^a|b$")
    ('[a-z\\\\/]+', None, None)
    """
    if not isinstance(pattern, str) or not re.fullmatch(r"\^[^\\^$|]*(\\[^bBA-Z][^\\^$|]*)*\$", pattern):
        return None
    return re.sub(r"(?<!\\)/", r"\\/", pattern[1:-1])


def pair_rules(number: int, schema: Mapping[str, Any] | None, literals: Literals) -> Iterator[str]:
    """The rules of the arguments of a function, the first of which is called arguments_NUMBER.

    Raises:
        InputError: they cannot be kept.
    """
    pairs = literals.form.pairs
    assert pairs is not None
    arguments = arguments_of(schema)
    for each in arguments:
        if pairs.neck in each.name or not each.name:
            raise InputError(
                f"the argument {printable(each.name, 60)} has a name that this model's form of calls cannot hold."
            )
    places = [f"pair_{number}_{place}{'' if each.is_required else '?'}" for place, each in enumerate(arguments)]
    yield f"arguments_{number}: {' '.join(places)}"
    for place, each in enumerate(arguments):
        key = literals.text(pairs.begin + each.name + pairs.neck)
        value = f"value_{number}_{place}"
        if not each.is_text:
            yield f"pair_{number}_{place}: {key} {value} {literals.text(pairs.end)}"
            yield f"{value}: {json_rule(each.schema)}"
            continue
        yield f"pair_{number}_{place}: {key} {value}"
        values = each.schema.get("enum", [each.schema["const"]] if "const" in each.schema else None)
        if values is not None:
            yield f"{value}: " + " | ".join(quoted(text + pairs.end) for text in values if pairs.end not in text)
            continue
        low, high = each.schema.get("minLength", 0), each.schema.get("maxLength", "")
        texts = [rf"/(.|\n){{{low},{high}}}/" if low or high != "" else ANY]
        if "pattern" in each.schema:
            texts.append(f"/{_inside(each.schema['pattern'])}/")
        if len(texts) > 1 or low:  # what is lazy ends with the first text that fits, which may hold the end by then
            texts.append(f"~({ANY} {quoted(pairs.end)} {ANY})")
        yield f"{value}[lazy]: ({' & '.join(texts)}) {quoted(pairs.end)}"


class PairReader:
    """Turns pairs into a JSON object, piece by piece.

    Args:
        are_text: the names of the arguments that stand as plain text.

    >>> from wenloom.serving.tool_form import Pairs
    >>> reader = PairReader(Pairs("<p=", ">", "</p>"), frozenset(["a"]))
    >>> [*reader.feed('<p=a>x"</p><p=b>[1]</p></f>')], reader.rest
    (['{', '"a": "', 'x\\\\"', '"', ', "b": ', '[1]', '}'], '</f>')
    """

    def __init__(self, pairs: Pairs, are_text: frozenset[str]):
        self._pairs, self._are_text = pairs, are_text
        self.rest = ""
        """What has come and is not yet given out; what follows the call, once it is done."""
        self.is_done = False
        self._n, self._name = 0, None
        self._began, self._in_string, self._is_escaped = False, False, False

    def feed(self, text: str) -> Iterator[str]:
        """Pieces of JSON that are certain by a further text."""
        self.rest += text
        if not self._began:
            self._began = True
            yield "{"
        while not self.is_done:
            before = (len(self.rest), self._name)
            yield from self._between() if self._name is None else self._inside_value(self._name)
            if before == (len(self.rest), self._name):
                return

    def _between(self) -> Iterator[str]:
        begin, neck = self._pairs.begin, self._pairs.neck
        if self.rest.startswith(begin):
            at = self.rest.find(neck, len(begin))
            if at < 0:
                return
            self._name, self.rest = self.rest[len(begin) : at], self.rest[at + len(neck) :]
            quote = '"' if self._name in self._are_text else ""
            yield f"{', ' if self._n else ''}{json.dumps(self._name, ensure_ascii=False)}: {quote}"
            self._n += 1
        elif not begin.startswith(self.rest):
            self.is_done = True
            yield "}"

    def _inside_value(self, name: str) -> Iterator[str]:
        end, is_text = self._pairs.end, name in self._are_text
        at = self.rest.find(end) if is_text else self._end_of_json(end)
        if at < 0:
            held = next((n for n in range(min(len(self.rest), len(end) - 1), 0, -1) if self.rest.endswith(end[:n])), 0)
            at = len(self.rest) - held
            piece, self.rest = self.rest[:at], self.rest[at:]
        else:
            piece, self.rest, self._name = self.rest[:at], self.rest[at + len(end) :], None
        for char in "" if is_text else piece:
            self._note(char)
        if piece:
            yield json.dumps(piece, ensure_ascii=False)[1:-1] if is_text else piece
        if self._name is None and is_text:
            yield '"'

    def _end_of_json(self, end: str) -> int:
        """Where the value ends; what stands in a text of JSON ends nothing. -1: not yet."""
        kept = (self._in_string, self._is_escaped)
        found = -1
        for place, char in enumerate(self.rest):
            if not self._in_string and self.rest.startswith(end, place):
                found = place
                break
            self._note(char)
        self._in_string, self._is_escaped = kept
        return found

    def _note(self, char: str) -> None:
        if self._in_string:
            self._in_string = char != '"' or self._is_escaped
            self._is_escaped = char == "\\" and not self._is_escaped
        else:
            self._in_string = char == '"'

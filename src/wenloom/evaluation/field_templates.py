"""Texts with `{field}` in them, filled from a row: what suites in TOML say of prompts. No code is run.

{question}                a field
{question.choices.text}   a field of a field; of a list of objects, that field of each
{answers.0}               an item of a list
{question.stem|question}  the first of several that the row has
{{ and }}                 braces
"""

import re
from collections.abc import Sequence
from typing import Any

_PART = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")
_ABSENT = object()


class NoField(Exception):
    """A row has no such field."""


class Template:
    """A text with fields.

    >>> Template("Question: {q.stem}\\nAnswer:").text({"q": {"stem": "Why?"}})
    'Question: Why?\\nAnswer:'
    >>> Template("{c.text}").values({"c": [{"text": "a"}, {"text": "b"}]})
    ['a', 'b']

    Raises:
        ValueError: a brace without its partner, or without a field between them.
    """

    def __init__(self, template: str, joined_by: str = ", "):
        """
        Args:
            template: see the module.
            joined_by: what stands between the items of a list inside a text.
        """
        self._joined_by = joined_by
        self._parts: list[str | tuple[str, ...]] = []
        """Texts, and fields with their alternatives."""
        end = 0
        for found in _PART.finditer(template):
            self._parts.append(template[end : found.start()])
            end = found.end()
            if found[0] in ("{{", "}}"):
                self._parts.append(found[0][0])
                continue
            names = tuple((found[1] or "").split("|"))
            if not all(name.strip() for name in names):
                raise ValueError(
                    f"{template[found.start() : found.start() + 30]!r}: a field in braces was expected; {{{{ is a brace"
                )
            self._parts.append(names)
        self._parts.append(template[end:])

    @property
    def fields(self) -> list[str]:
        """What it asks for."""
        return ["|".join(part) for part in self._parts if isinstance(part, tuple)]

    def text(self, row: dict[str, Any]) -> str:
        """
        Raises:
            NoField: the row has none of that name, or an object there.
        """
        return "".join(part if isinstance(part, str) else self._joined(_value(row, part)) for part in self._parts)

    def values(self, row: dict[str, Any]) -> list[str]:
        """The items of the list that its only field holds; else its text alone.

        Raises:
            NoField: see `text`.
        """
        only = [part for part in self._parts if part]
        if len(only) == 1 and isinstance(only[0], tuple):
            value = _value(row, only[0])
            return [_shown(each) for each in value] if isinstance(value, list) else [_shown(value)]
        return [self.text(row)]

    def _joined(self, value: Any) -> str:
        return self._joined_by.join(map(_shown, value)) if isinstance(value, list) else _shown(value)


def _value(row: dict[str, Any], names: Sequence[str]) -> Any:
    for name in names:
        found: Any = row
        for step in name.strip().split("."):
            found = _step(found, step)
        if found is not _ABSENT and found is not None:
            return found
    raise NoField("|".join(names))


def _step(value: Any, step: str) -> Any:
    if isinstance(value, dict):
        return value.get(step, _ABSENT)
    if not isinstance(value, list):
        return _ABSENT
    if step.isdecimal():
        return value[int(step)] if int(step) < len(value) else _ABSENT
    each = [_step(item, step) for item in value]
    return _ABSENT if _ABSENT in each else each


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (dict, list)):
        raise NoField("a text or a number, where the row has a list or an object")
    return str(value)

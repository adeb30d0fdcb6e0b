"""Pieces of grammars in llguidance's dialect of Lark."""

import json
import re
from collections.abc import Mapping
from typing import Any

from wenloom.generation.schemas import forced
from wenloom.serving.tool_form import ToolForm

ANY = r"/(.|\n)*/"
"""Any text."""
SPELLING = {"x-guidance": {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}}
"""One spelling of JSON."""


def quoted(text: str) -> str:
    """A text as a terminal; nothing for none."""
    return json.dumps(text) if text else ""


def json_rule(schema: Any) -> str:
    """A JSON document by a schema.

    Raises:
        InputError: it says what no grammar forces.
    """
    return "%json " + json.dumps({**forced(schema), **SPELLING} if isinstance(schema, Mapping) else schema)


def terminals(text: str, special: Mapping[str, int]) -> str:
    """A text in which special tokens are tokens.

    >>> terminals('[CALLS]{"', {"[CALLS]": 7})
    '<[7]> "{\\\\""'
    """
    if not special:
        return quoted(text)
    parts = re.split("|".join(f"({re.escape(name)})" for name in sorted(special, key=len, reverse=True)), text)
    return " ".join(f"<[{special[part]}]>" if part in special else quoted(part) for part in parts if part)


class Literals:
    """The fixed texts of a form of calls."""

    def __init__(self, form: ToolForm):
        self.form = form
        self._special = dict(form.special)

    def text(self, text: str) -> str:
        """A text of the form as terminals."""
        return terminals(text, self._special)

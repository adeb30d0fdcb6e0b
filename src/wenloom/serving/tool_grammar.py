"""The grammar of a reply with calls, in llguidance's dialect of Lark: names that there are, arguments by their schemas."""

import json
from collections.abc import Mapping
from typing import Any

from wenloom.serving.tool_form import ToolForm

MOST_CALLS = 32
"""Calls of one reply."""
_NO_ARGUMENTS = {"type": "object", "properties": {}, "additionalProperties": False}
_SPELLING = {"x-guidance": {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}}


def calls_grammar(
    form: ToolForm, functions: Mapping[str, Mapping[str, Any] | None], *, most: int, is_forced: bool, reply: str | None
) -> str:
    """
    Args:
        functions: schemas of their arguments by their names; None: they take none.
        most: calls.
        is_forced: whether the reply has to be calls; else they may follow a text, or not come.
        reply: the schema of a reply without calls; None: any text. Only where a tag tells calls from documents.
    """
    lines = ["%llguidance {}"]
    trigger, rest = form.trigger, form.begin.removeprefix(form.trigger)
    more = f"({_text(form.between)} call){{0,{most - 1}}}" if form.between is not None and most > 1 else ""
    calls = f"trigger {_text(rest)} call {more} {_text(form.end)}"
    if is_forced:
        lines += [f"start: {calls}", f"trigger: {_text(trigger)}"]
    elif reply is not None:
        lines += [
            f"start: document | {calls}",
            f"document: %json {_spelled(json.loads(reply))}",
            f"trigger: {_text(trigger)}",
        ]
    else:  # a lazy text ends where the trigger does, so that what follows is a call
        before = "" if form.is_first else "TEXT "
        lines += [f"start: TEXT | {calls}", f"trigger[lazy]: {before}{_text(trigger)}", "TEXT: /(.|\\n)*/"]
    lines.append("call: " + " | ".join(f"call_{number}" for number in range(len(functions))))
    for number, (name, schema) in enumerate(functions.items()):
        arguments = _NO_ARGUMENTS if schema is None else {"type": "object", **schema}
        lines.append(f"call_{number}: {_text(name + form.neck)} %json {_spelled(arguments)}")
    return "\n".join(lines) + "\n"


def _text(text: str) -> str:
    return json.dumps(text) if text else ""


def _spelled(schema: Any) -> str:
    return json.dumps({**schema, **_SPELLING} if isinstance(schema, dict) else schema)

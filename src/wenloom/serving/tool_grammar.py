"""The grammar of a reply with calls, in llguidance's dialect of Lark: names that there are, arguments by their schemas."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from wenloom.serving.lark import ANY, Literals, json_rule, quoted
from wenloom.serving.pairs import pair_rules
from wenloom.serving.reasoning import Reasoning
from wenloom.serving.tool_form import ToolForm

MOST_CALLS = 32
"""Calls of one reply."""
_NO_ARGUMENTS = {"type": "object", "properties": {}, "additionalProperties": False}
_ID = "/[a-zA-Z0-9]{9}/"


def document_grammar(schema: str, reasoning: Reasoning) -> str:
    """A JSON document behind the reasoning that leads to it."""
    return _joined(["start: document", f"document: {json_rule(json.loads(schema))}"], reasoning, True)


def calls_grammar(
    form: ToolForm, functions: Mapping[str, Mapping[str, Any] | None], *, most: int, is_forced: bool, reply: str | None,
    reasoning: Reasoning | None = None,
) -> str:  # fmt: skip
    """
    Args:
        functions: schemas of their arguments by their names; None: they take none.
        most: calls.
        is_forced: whether the reply has to be calls; else they may follow a text, or not come.
        reply: the schema of a reply without calls; None: any text. Only where a tag tells calls from documents.
        reasoning: what may stand before all that.

    Raises:
        InputError: arguments cannot be kept in this form.
    """
    literals = Literals(form)
    is_token = form.trigger in dict(form.special)
    more = f"({literals.text(form.between)} call){{0,{most - 1}}}" if form.between is not None and most > 1 else ""
    calls = f"{literals.text(form.rest)} call {more} {literals.text(form.end)}"
    lead = form.begin[: len(form.begin) - len(form.begin.lstrip())]
    if is_forced:
        lines = [f"start: {quoted(lead)} {literals.text(form.trigger)} {calls}"]
    elif reply is not None:
        lines = [
            f"start: document | {literals.text(form.trigger)} {calls}",
            f"document: {json_rule(json.loads(reply))}",
        ]
    elif is_token:  # what only looks like the token is no text, as nobody could tell them apart later
        lines = [f"start: TEXT ({literals.text(form.trigger)} {calls})?", _text(reasoning, form.trigger)]
    else:  # a lazy text ends where the trigger does, so that what follows is a call
        before = "" if form.is_first else "TEXT "
        lines = [f"start: TEXT | trigger {calls}", f"trigger[lazy]: {before}{quoted(form.trigger)}", _text(reasoning)]
    lines += ["call: " + " | ".join(f"call_{number}" for number in range(len(functions)))]
    for number, (name, schema) in enumerate(functions.items()):
        lines += _call(number, name, schema, literals)
    return _joined(lines, reasoning, is_forced or reply is not None)


def _call(number: int, name: str, schema: Mapping[str, Any] | None, literals: Literals) -> Iterator[str]:
    form = literals.form
    head = literals.text(name + form.neck)
    if form.id_begin is not None:
        head = f"{literals.text(name)} ({literals.text(form.id_begin)} {_ID})? {literals.text(form.neck)}"
    if form.pairs is None:
        arguments = _NO_ARGUMENTS if schema is None else {"type": "object", **schema}
        yield f"call_{number}: {head} {json_rule(arguments)}"
    else:
        yield f"call_{number}: {head} arguments_{number}"
        yield from pair_rules(number, schema, literals)


def _text(reasoning: Reasoning | None, without: str | None = None) -> str:
    """Any text, but for what would be read as something else."""
    none = [] if without is None else [f"~({ANY} {quoted(without)} {ANY})"]
    if reasoning is not None:
        none.append(rf"~(/\s*/ {quoted(reasoning.begin)} {ANY})")
    return "TEXT: " + " & ".join([ANY, *none])


def _joined(lines: list[str], reasoning: Reasoning | None, has_blanks: bool) -> str:
    """A whole grammar, its first rule behind the reasoning."""
    if reasoning is not None:
        blanks = " BLANKS?" if has_blanks else ""
        lead = f"thought{blanks}" if reasoning.is_begun else f"(thought{blanks})?"
        start, rule = lines[0].split(": ", 1)
        lines = [
            f"{start}: {lead} reply",
            f"reply: {rule}",
            *reasoning.rules(),
            *lines[1:],
            *([r"BLANKS: /\n{1,2}/"] if has_blanks else []),
        ]
    return "%llguidance {}\n" + "\n".join(lines) + "\n"

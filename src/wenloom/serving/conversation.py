"""The turns of a request as the tokens that the model reads."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from wenloom.serving.errors import refused
from wenloom.serving.models import ServedModel
from wenloom.serving.reasoning import Reasoning
from wenloom.serving.tool_form import ToolForm, told_of
from wenloom.serving.tools import ToolUse
from wenloom.tokens.chat import Message


class Call(NamedTuple):
    """A call that was made."""

    id: str
    name: str
    arguments: str
    """A JSON object."""


class Turn(NamedTuple):
    """A turn, whatever the API's words for it are."""

    role: str
    """system, user, assistant or tool."""
    content: str
    calls: Sequence[Call] = ()
    """Of an assistant."""
    answers: str = ""
    """Of a tool: the id of the call."""
    param: str = ""
    """Where the body has it."""
    thought: str = ""
    """Of an assistant: what it thought before."""


class PromptOfTurns(NamedTuple):
    """A conversation as the model reads it."""

    ids: list[int]
    reasoning: Reasoning | None
    """What may stand at the beginning of the reply."""


def prompt_of(
    served: ServedModel, turns: Sequence[Turn], use: ToolUse | None, told: str | None = None,
    values: Mapping[str, Any] | None = None,
) -> PromptOfTurns:  # fmt: skip
    """The conversation up to where the reply begins.

    Args:
        use: the tools that the reply may call.
        told: what else the model reads at the end of the system message.
        values: what else the template reads.

    Raises:
        APIError: calls and their answers do not match.
        InputError: the template refuses the turns.
    """
    has_calls = any(each.calls or each.role == "tool" for each in turns)
    form = served.tool_form if use or has_calls else None
    if has_calls:
        _check_answers(turns)
    if form is not None and not form.is_in_template:
        messages = list(_told_turns(turns, form))
    else:
        messages = list(_template_turns(turns, form is not None and form.arguments_as_text))
    tools = None
    if use is not None and use.form.is_in_template:
        tools = use.described
    elif use is not None:
        told = "\n\n".join(filter(None, [told_of(use.described), told]))
    if told:
        messages = with_system(messages, told, served.knows_system)
    rendered = served.chat.render(messages, tools=tools, values=values)
    reasoning = None if served.reasoning is None else served.reasoning.after(rendered.text)
    return PromptOfTurns(served.chat.encode(rendered).ids, reasoning)


def _check_answers(turns: Sequence[Turn]) -> None:
    called: set[str] = set()
    for turn in turns:
        for call in turn.calls:
            try:
                is_object = isinstance(json.loads(call.arguments), dict)
            except (ValueError, RecursionError):
                is_object = False
            if not is_object:
                raise refused(turn.param, f"{turn.param}: the arguments of {call.name} are no JSON object.")
            called.add(call.id)
        if turn.role == "tool" and turn.answers not in called:
            raise refused(turn.param, f"{turn.param}: answers a call that no turn before it made.")


def _template_turns(turns: Sequence[Turn], arguments_as_text: bool) -> Iterator[Message]:
    """As templates that know tools read them."""
    names: dict[str, str] = {}
    for turn in turns:
        more: dict[str, Any] = _thought(turn)
        if turn.calls:
            names |= {call.id: call.name for call in turn.calls}
            more["tool_calls"] = [
                {"id": call.id, "type": "function", "function": {
                    "name": call.name, "arguments": call.arguments if arguments_as_text else json.loads(call.arguments)}}
                for call in turn.calls
            ]  # fmt: skip
        if turn.role == "tool":
            more = {"tool_call_id": turn.answers, "name": names[turn.answers]}
        yield Message(turn.role, turn.content, more or None)


def _told_turns(turns: Sequence[Turn], form: ToolForm) -> Iterator[Message]:
    """For templates that know no tools: calls are what the assistant says, and their answers what the user says."""
    answers: list[str] = []
    for turn in turns:
        if turn.role == "tool":
            answers.append(f"<tool_response>\n{turn.content}\n</tool_response>")
            continue
        if answers:
            yield Message("user", "\n".join(answers))
            answers = []
        said = form.written([(call.name, call.arguments) for call in turn.calls]) if turn.calls else ""
        yield Message(turn.role, "\n".join(filter(None, [turn.content, said])), _thought(turn) or None)
    if answers:
        yield Message("user", "\n".join(answers))


def _thought(turn: Turn) -> dict[str, Any]:
    """Under both names by which templates know it."""
    return {"reasoning_content": turn.thought, "reasoning": turn.thought} if turn.thought else {}


def with_system(messages: Sequence[Message], told: str, knows_system: bool = True) -> list[Message]:
    """A conversation whose system message ends with a text; without one, its first message begins with it.

    >>> with_system([Message("user", "Hi")], "Be brief.")[0]
    Message(role='system', content='Be brief.', more=None)
    >>> with_system([Message("user", "Hi")], "Be brief.", False)
    [Message(role='user', content='Be brief.\\n\\nHi', more=None)]
    """
    first = messages[0]
    if first.role == "system":
        return [first._replace(content=f"{first.content}\n\n{told}"), *messages[1:]]
    if knows_system or first.role != "user":
        return [Message("system", told), *messages]
    return [first._replace(content=f"{told}\n\n{first.content}"), *messages[1:]]

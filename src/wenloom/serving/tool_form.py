"""How a model writes the calls of functions: its chat template tells, from a conversation that holds two."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from wenloom.core.errors import InputError
from wenloom.tokens.chat import ChatRenderer, Message

_NAMES, _IDS = ("probe_of_one", "probe_of_two"), ("probeid01", "probeid02")
_KEY, _VALUE = "probe_key", "probe_value"
_QUESTION, _REPLY = "probe question", "probe reply"
_LONGEST_NECK = 100
_ARGUMENTS = re.compile(rf"\{{\s*\"{_KEY}\":\s*\"{_VALUE}\"\s*\}}")
_ID = re.compile(rf",\s*\"id\":\s*\"({'|'.join(_IDS)})\"")
_TAG = re.compile(r"<[^<>]{1,40}>|\[[A-Z_]{1,40}\]")


@dataclass(frozen=True)
class ToolForm:
    """What stands around names and arguments of calls.

    A reply with calls is `begin NAME neck ARGUMENTS (between NAME neck ARGUMENTS)* end`, the arguments a JSON object.
    """

    begin: str
    neck: str
    between: str | None
    """None: a reply makes one call at most."""
    end: str
    is_in_template: bool = True
    """Whether the template writes tools and calls; else the server does, in messages."""
    arguments_as_text: bool = False
    """How the template reads arguments."""

    @property
    def trigger(self) -> str:
        """Where a reply turns into calls: the first tag of the beginning, or all of it."""
        tag = _TAG.match(self.begin)
        return tag.group() if tag else self.begin

    @property
    def is_first(self) -> bool:
        """Whether calls can only begin a reply: they have no tag that text before them lacks."""
        return _TAG.match(self.begin) is None

    def written(self, calls: Sequence[tuple[str, str]]) -> str:
        """Names and arguments as a reply."""
        between = f"{self.end}\n{self.begin}" if self.between is None else self.between
        return self.begin + between.join(f"{name}{self.neck}{arguments}" for name, arguments in calls) + self.end


TOLD = ToolForm(
    '<tool_call>\n{"name": "', '", "arguments": ', '}\n</tool_call>\n<tool_call>\n{"name": "', "}\n</tool_call>", False
)
"""For templates that know no tools: as models of the families Hermes, Qwen and SmolLM3 write them."""
_TOLD = """# Tools

You may call one or more functions to help with the request. These are the functions, one JSON object a line:
<tools>
{tools}
</tools>

For each call, reply with its name and arguments as a JSON object between tags:
<tool_call>
{{"name": NAME, "arguments": ARGUMENTS}}
</tool_call>"""


def told_of(tools: Sequence[dict[str, Any]]) -> str:
    """What a model is told of tools where its template does not tell it."""
    return _TOLD.format(tools="\n".join(json.dumps(each, ensure_ascii=False) for each in tools))


def form_of(renderer: ChatRenderer) -> ToolForm | None:
    """How calls are written in conversations; None: in a way that is not a name, JSON object and fixed text between.

    Raises:
        InputError: the template fails on the simplest conversation.
    """
    tools = [_tool(name) for name in _NAMES]
    asked = Message("user", _QUESTION)
    bare = renderer.render([asked]).text
    try:
        prompt = renderer.render([asked], tools=tools).text
    except InputError:
        return None
    if prompt == bare or _NAMES[0] not in prompt:
        return TOLD
    for as_text in (False, True):
        for n_calls in (2, 1):
            try:
                found = _found(renderer, tools, n_calls, as_text)
            except InputError:
                continue
            if found is not None:
                return found
    return None


def _tool(name: str) -> dict[str, Any]:
    parameters = {"type": "object", "properties": {_KEY: {"type": "string", "description": "x"}}, "required": [_KEY]}
    return {"type": "function", "function": {"name": name, "description": "x", "parameters": parameters}}


def _found(renderer: ChatRenderer, tools: list[dict[str, Any]], n_calls: int, as_text: bool) -> ToolForm | None:
    """What the template writes where a reply of so many calls stands."""
    arguments: Any = {_KEY: _VALUE}
    made = list(zip(_NAMES[:n_calls], _IDS, strict=False))
    calls = [
        {"id": call, "type": "function", "function": {"name": name, "arguments": json.dumps(arguments) if as_text else arguments}}
        for name, call in made
    ]  # fmt: skip
    answers = [Message("tool", "probe answer", {"tool_call_id": call, "name": name}) for name, call in made]
    asked, said = Message("user", _QUESTION), Message("assistant", _REPLY)
    after = [*answers, said, asked]  # templates write the last turn otherwise, and tools beside it
    whole = renderer.render([asked, Message("assistant", "", {"tool_calls": calls}), *after], tools=tools).text
    plain = renderer.render([asked, said, asked, said, asked], tools=tools).text
    lead = plain[plain.find(_QUESTION) + len(_QUESTION) : plain.find(_REPLY)]
    rest = whole[whole.find(_QUESTION) + len(_QUESTION) :]
    rest = _ID.sub("", rest[_alike(lead, rest) :])
    places = [match.span() for match in _ARGUMENTS.finditer(rest)]
    names = [rest.find(name) for name, _ in made]
    if len(places) != n_calls or min(names) < 0:
        return None
    necks = {rest[at + len(name) : place[0]] for at, (name, _), place in zip(names, made, places, strict=True)}
    if len(necks) != 1 or len(neck := necks.pop()) > _LONGEST_NECK:
        return None
    between = rest[places[0][1] : names[1]] if n_calls == 2 else None
    behind = rest[places[-1][1] :]
    ids = renderer.tokenizer.backend
    special = [each.content for each in ids.get_added_tokens_decoder().values() if each.special]
    ends = [at for token in renderer.ends if (at := behind.find(ids.id_to_token(token) or "\0")) >= 0]
    if not ends or any(name in rest[: places[-1][1]] for name in special):
        return None
    return ToolForm(rest[: names[0]], neck, between, behind[: min(ends)].rstrip(), True, as_text)


def _alike(one: str, other: str) -> int:
    """Characters with which both begin."""
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))

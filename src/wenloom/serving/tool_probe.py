"""The form of calls, read from a chat template: it writes a conversation that holds two."""

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from wenloom.core.errors import InputError
from wenloom.serving.tool_form import TOLD, Pairs, ToolForm
from wenloom.tokens.chat import ChatRenderer, Message

_NAMES, _IDS = ("probe_of_one", "probe_of_two"), ("probeid01", "probeid02")
_KEYS, _VALUES = ("probe_key", "probe_other"), ("probe_value", "probe_second")
_QUESTION, _REPLY, _ANSWER = "probe question", "probe reply", "probe answer"
_LONGEST_NECK = 100
_ARGUMENTS = re.compile(rf"\{{\s*\"{_KEYS[0]}\":\s*\"{_VALUES[0]}\"\s*\}}")
_ID = re.compile(rf",\s*\"id\":\s*\"({'|'.join(_IDS)})\"")
_THOUGHT = re.compile(r"\s*(<think>\s*</think>|</think>)\s*")


def form_of(renderer: ChatRenderer) -> ToolForm | None:
    """How calls are written in conversations; None: in a way that is not a name, arguments and fixed text between.

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
            probe = _Probe(renderer, tools, n_calls, as_text)
            for find in (_in_json, _in_pairs):
                try:
                    found = find(probe)
                except InputError:
                    continue
                if found is None or "probe" in repr(found) or not found.begin.strip():
                    continue
                found = dataclasses.replace(found, arguments_as_text=as_text, special=_special(renderer, found))
                in_pairs = [] if found.pairs is None else dataclasses.astuple(found.pairs)
                is_odd = any(name in text for name, _ in found.special for text in in_pairs)
                # special tokens that no tag begins: gpt-oss
                return None if is_odd or (found.is_first and found.special) else found
    return None


def _tool(name: str) -> dict[str, Any]:
    properties = {key: {"type": "string", "description": "x"} for key in _KEYS}
    parameters = {"type": "object", "properties": properties, "required": [_KEYS[0]]}
    return {"type": "function", "function": {"name": name, "description": "x", "parameters": parameters}}


class _Probe(NamedTuple):
    """A template, and how it is asked."""

    renderer: ChatRenderer
    tools: Sequence[Mapping[str, Any]]
    n_calls: int
    as_text: bool

    @property
    def names(self) -> Sequence[str]:
        """Of the functions that are called."""
        return _NAMES[: self.n_calls]

    def reply(self, arguments: Mapping[str, Any]) -> str | None:
        """What the template writes for a reply of so many calls with these arguments, without its end; None: more than one
        turn.

        Raises:
            InputError: the template refuses it.
        """
        given: Any = json.dumps(arguments) if self.as_text else arguments
        made = list(zip(self.names, _IDS, strict=False))
        calls = [
            {"id": call, "type": "function", "function": {"name": name, "arguments": given}} for name, call in made
        ]
        answers = [Message("tool", _ANSWER, {"tool_call_id": call, "name": name}) for name, call in made]
        asked, said = Message("user", _QUESTION), Message("assistant", _REPLY)
        after = [*answers, said, asked]  # templates write the last turn otherwise, and tools beside it
        turn = Message("assistant", "", {"tool_calls": calls})
        whole = self.renderer.render([asked, turn, *after], tools=self.tools).text
        plain = self.renderer.render([asked, said, asked, said, asked], tools=self.tools).text
        lead = plain[plain.find(_QUESTION) + len(_QUESTION) : plain.find(_REPLY)]
        rest = whole[whole.find(_QUESTION) + len(_QUESTION) :]
        rest = rest[_alike(lead, rest) :]
        last = max(rest.find(word) for word in (self.names[-1], *map(str, arguments.values())))
        answer = rest.find(_ANSWER, last)
        end = self._end_of_turn(plain)
        special = [self.renderer.tokenizer.backend.id_to_token(token) or "" for token in self.renderer.ends]
        behind = [at for name in ([end] if 0 <= rest.find(end, last) < answer else special) if (at := rest.find(name, last)) >= 0]  # fmt: skip
        if not end or not behind or end in rest[:last]:
            return None
        reply = _ID.sub("", rest[: min(behind)].rstrip())
        thought = _THOUGHT.match(reply)
        return reply[thought.end() :] if thought else reply

    def _end_of_turn(self, plain: str) -> str:
        """The special token behind a reply."""
        after = plain[plain.find(_REPLY) + len(_REPLY) :]
        found = [(at, name) for token in self.renderer.ends if (name := self.renderer.tokenizer.backend.id_to_token(token))
                 and (at := after.find(name)) >= 0]  # fmt: skip
        return min(found, default=(0, ""))[1]


def _in_json(probe: _Probe) -> ToolForm | None:
    reply = probe.reply({_KEYS[0]: _VALUES[0]})
    if reply is None:
        return None
    places = [match.span() for match in _ARGUMENTS.finditer(reply)]
    names = [reply.find(name) for name in probe.names]
    if len(places) != probe.n_calls or min(names) < 0:
        return None
    necks = {reply[at + len(name) : place[0]].replace(own, _IDS[0])
             for at, name, own, place in zip(names, probe.names, _IDS, places, strict=False)}  # fmt: skip
    if len(necks) != 1 or len(neck := necks.pop()) > _LONGEST_NECK:
        return None
    before, _, behind = neck.partition(_IDS[0])
    id_begin, neck = (before, behind) if behind else (None, neck)
    between = reply[places[0][1] : names[1]] if probe.n_calls == 2 else None
    return ToolForm(reply[: names[0]], neck, between, reply[places[-1][1] :], id_begin=id_begin)


def _in_pairs(probe: _Probe) -> ToolForm | None:
    """Names and values stand apart; where the text around a pair ends is told by a call without arguments."""
    full, empty = probe.reply(dict(zip(_KEYS, _VALUES, strict=True))), probe.reply({})
    if full is None or empty is None:
        return None
    if probe.reply({_KEYS[0]: [5], _KEYS[1]: _VALUES[1]}) != full.replace(_VALUES[0], "[5]"):
        return None  # what stands around a value tells its kind
    words = [
        word
        for name in probe.names
        for word in (name, *(each for pair in zip(_KEYS, _VALUES, strict=True) for each in pair))
    ]
    pieces = _split(full, words)
    bare = _split(empty, probe.names)
    if pieces is None or bare is None or pieces[2] != pieces[4]:
        return None
    behind_name, between_pairs, last = pieces[1], pieces[3], pieces[5]
    neck = behind_name[: _alike(behind_name, bare[1])]
    if "<" in (tail := neck[neck.rfind(">") + 1 :]):
        neck = neck[: len(neck) - len(tail) + tail.find("<")]
    begin = behind_name.removeprefix(neck)
    if not begin or not between_pairs.endswith(begin):
        return None
    end = between_pairs.removesuffix(begin)
    if not end or not last.startswith(end) or bare[1] != neck + last.removeprefix(end):
        return None
    between = last.removeprefix(end) if probe.n_calls == 2 else None
    closing = pieces[-1].removeprefix(end)
    return ToolForm(pieces[0], neck, between, closing, pairs=Pairs(begin, pieces[2], end))


def _split(text: str, words: Sequence[str]) -> list[str] | None:
    """What stands before, between and behind words, each of which comes once, in their order."""
    pieces = []
    for word in words:
        before, found, text = text.partition(word)
        if not found:
            return None
        pieces.append(before)
    return [*pieces, text]


def _special(renderer: ChatRenderer, form: ToolForm) -> tuple[tuple[str, int], ...]:
    """The special tokens that a form writes."""
    texts = [form.begin, form.neck, form.between or "", form.end, form.id_begin or ""]
    if form.pairs is not None:
        texts += dataclasses.astuple(form.pairs)
    added = renderer.tokenizer.backend.get_added_tokens_decoder()
    return tuple((each.content, token) for token, each in sorted(added.items())
                 if each.special and any(each.content in text for text in texts))  # fmt: skip


def _alike(one: str, other: str) -> int:
    """Characters with which both begin."""
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))

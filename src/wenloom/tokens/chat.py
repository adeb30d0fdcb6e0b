"""From the turns of a conversation to the text that a model reads, and to its tokens."""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from wenloom.core.errors import InputError, printable
from wenloom.tokens.literal import Placed, Range, names_pattern
from wenloom.tokens.templates import render_template, template_variables, template_words
from wenloom.tokens.tokenizer import TextTokenizer


class Message(NamedTuple):
    """One turn."""

    role: str
    """system, user or assistant; with tools also tool, who answers a call."""
    content: str
    more: Mapping[str, Any] | None = None
    """What else a template may read of the turn, as JSON holds it: the assistant's tool_calls, a tool's tool_call_id."""


PLAIN_TEMPLATE = (
    "{% for message in messages %}"
    "{% if message.role == 'system' %}{{ message.content }}\n\n"
    "{% elif message.role == 'user' %}User: {{ message.content }}\n"
    "{% else %}Assistant: {{ message.content }}{{ eos_token }}\n{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{% endif %}"
)
"""For models that are taught to chat and have no template of their own: a transcript whose replies end with the end
token."""
STOP_OF_PLAIN = "\nUser:"
"""Where a reply of a model without a template ends: it would go on with the other's turn."""
_MARKS = (0xF0000, 0xFFFFD)
"""Characters of a private plane, of which those that no message holds mark places in it."""


class Rendered(NamedTuple):
    """A conversation as its template writes it."""

    text: str
    words: list[Range]
    """Where it holds names of control tokens that a message only mentions."""
    replies: list[Range]
    """Where the assistant's contents stand, if asked for and found, each once and in order; else none."""


class Marks(NamedTuple):
    """Characters that no message holds: around words of a message that name control tokens, and around replies."""

    opening: str
    closing: str
    begin: str
    end: str


class ChatRenderer:
    """Writes conversations by a tokenizer's chat template, and keeps apart what the template and what people wrote.

    The names of control tokens in messages are marked before the template sees them: `<|im_end|>` in a message is ten
    characters, whatever the template does with it. Control tokens are the special tokens; in what users and systems say
    also other added tokens that the template writes itself, such as `<｜User｜>`. In the assistant's own turns those
    stay tokens: a model's `</think>` is one.

    Args:
        tokenizer: without a chat template of its own, a plain transcript without end tokens is written. Where it has one for
            the use of tools (`tool_use`, as Hermes has), that one writes conversations with tools.

    Raises:
        InputError: there are several templates and none is the usual one.
    """

    def __init__(self, tokenizer: TextTokenizer):
        self.tokenizer = tokenizer
        self.template, self._names = tokenizer.chat_template, dict(tokenizer.special_tokens)
        if self.template is None and tokenizer.other_templates:
            names = printable(", ".join(sorted(tokenizer.other_templates)), 200)
            raise InputError(f"the model has chat templates for {names}, but none that is the usual one (default).")
        if self.template is None:
            self.template = PLAIN_TEMPLATE
            self._names.pop("eos_token", None)
        self._for_tools = tokenizer.other_templates.get("tool_use", self.template)
        decoder = tokenizer.backend.get_added_tokens_decoder()
        added = decoder.values()
        ends = {number for number, token in decoder.items() if token.special and number != tokenizer.pad_token_id}
        self.ends = frozenset(ends | {number for number in (tokenizer.eos_token_id,) if number is not None})
        """The tokens that may end a turn: every special one but the padding."""
        others = [token.content for token in added if not token.special and token.content.strip()]
        special = [token.content for token in added if token.special]
        written = f"{template_words(self.template)} {template_words(self._for_tools)}" if added else ""
        self._others = [name for name in others if name in written]
        self._special, self._spoken = special, [name for name in special if name in written]
        self._by_default = names_pattern([*special, *self._others])
        normalized = any(token.normalized for token in added if token.special)
        self._needs_care = tokenizer.splits_special or normalized  # found in other spellings than their names

    @property
    def variables(self) -> frozenset[str]:
        """The names of the values that the template reads.

        Raises:
            InputError: the template is wrong.
        """
        return template_variables(self.template or "")

    def mentions(self, word: str) -> bool:
        """Whether the template itself holds a text.

        Raises:
            InputError: the template is wrong.
        """
        return word in template_words(self.template or "")

    def render(
        self, messages: Sequence[Message], reply: bool = True, find_replies: bool = False,
        tools: Sequence[Mapping[str, Any]] | None = None, values: Mapping[str, Any] | None = None,
    ) -> Rendered:  # fmt: skip
        """The conversation so far.

        Args:
            reply: end where the assistant's reply begins.
            find_replies: say where the assistant's contents stand.
            tools: functions that the model may call, as the OpenAI API describes them; a template may not read them.
            values: what else the template reads, such as {"enable_thinking": False}.

        Raises:
            InputError: the template fails on these messages, see `templates.render_template`.
        """
        texts = [json.dumps([each.more, tools], ensure_ascii=False) for each in messages if each.more or tools]
        marks = Marks(*_unused([self.template or "", self._for_tools, *texts, *(each.content for each in messages)]))
        rest = _Rest(reply, tools, values or {})
        return self._render(messages, rest, find_replies, marks, self._parsed(messages, rest, marks))

    def _parsed(self, messages: Sequence[Message], rest: "_Rest", marks: Marks) -> frozenset[str]:
        """The special tokens in the assistant's turns that the template looks for and that a mark would hide from it:
        the model's own `</think>`, behind which it strips line breaks, where that is special."""
        said = [each.content for each in messages if each.role == "assistant"]
        parsed = frozenset(name for name in self._spoken if any(name in content for content in said))
        if not parsed:
            return parsed
        turns = [{"role": each.role, "content": each.content, **(each.more or {})} for each in messages]
        plain = self._filled(turns, rest)
        if self._render(messages, rest, False, marks, frozenset()).text == plain:
            return frozenset()
        for name in sorted(parsed):
            if self._render(messages, rest, False, marks, parsed - {name}).text == plain:
                parsed -= {name}
        return parsed

    def _render(
        self, messages: Sequence[Message], rest: "_Rest", find_replies: bool, marks: Marks, parsed: frozenset[str]
    ) -> Rendered:
        own = names_pattern([name for name in self._special if name not in parsed])
        turns, is_marked = [], False

        def marked(text: str, pattern: re.Pattern[str] = self._by_default) -> str:
            nonlocal is_marked
            found, n_marked = pattern.subn(lambda match: f"{marks.opening}{match.group()}{marks.closing}", text)
            is_marked |= n_marked > 0
            return found

        for role, content, more in messages:
            said = marked(content, own if role == "assistant" else self._by_default)
            if find_replies and role == "assistant":  # blanks around it stay outside, where a template may trim them
                at = len(said) - len(said.lstrip())
                core = said.strip()
                said = f"{said[:at]}{marks.begin}{core}{marks.end}{said[at + len(core) :]}"
            turns.append({"role": role, "content": said, **_changed(dict(more or {}), marked)})
        text = self._filled(turns, rest._replace(tools=_changed(rest.tools, marked)))
        if not is_marked and not find_replies:
            return Rendered(text, [], [])
        n_replies = sum(each.role == "assistant" for each in messages) if find_replies else 0
        return _unmarked(text, marks, n_replies)

    def _filled(self, turns: list[dict[str, Any]], rest: "_Rest") -> str:
        """What the template makes of turns."""
        values = {"messages": turns, "add_generation_prompt": rest.reply, "tools": rest.tools, "documents": None, **self._names, **rest.values}  # fmt: skip
        return render_template(self.template or "" if rest.tools is None else self._for_tools, values)

    def encode(self, rendered: Rendered) -> Placed:
        """The tokens of a rendered conversation: the template's control tokens as such, the words of messages as text."""
        if not rendered.words and not self._needs_care:
            encoding = self.tokenizer.encoding(rendered.text, add_special_tokens=False)
            return Placed(encoding.ids, [begin for begin, _ in encoding.offsets])
        return self.tokenizer.literal(self._others).encode(rendered.text, rendered.words)


class _Rest(NamedTuple):
    """What a template reads beside the turns."""

    reply: bool
    tools: Any
    values: Mapping[str, Any]


def _changed(value: Any, change: Callable[[str], str]) -> Any:
    """A JSON document with all its texts changed, keys too."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {change(key): _changed(inner, change) for key, inner in value.items()}
    return [_changed(inner, change) for inner in value] if isinstance(value, list | tuple) else value


def render(tokenizer: TextTokenizer, messages: Sequence[Message], reply: bool = True) -> str:
    """The conversation so far, see `ChatRenderer`. To encode it, take `chat_ids`: a text does not say who wrote it.

    Raises:
        InputError: the template fails on these messages, see `templates.render_template`.
    """
    return ChatRenderer(tokenizer).render(messages, reply).text


def chat_ids(tokenizer: TextTokenizer, messages: Sequence[Message], reply: bool = True) -> list[int]:
    """The tokens of the conversation so far; names of special tokens in messages are text.

    Raises:
        InputError: the template fails on these messages, see `templates.render_template`.
    """
    renderer = ChatRenderer(tokenizer)
    return renderer.encode(renderer.render(messages, reply)).ids


def _unused(texts: Iterable[str]) -> Iterator[str]:
    """Four characters that stand in none of some texts."""
    used = {char for text in texts for char in re.findall(f"[{chr(_MARKS[0])}-{chr(_MARKS[1])}]", text)}
    free = (char for char in map(chr, range(*_MARKS)) if char not in used)
    found = [char for _, char in zip(range(4), free, strict=False)]
    if len(found) < 4:
        raise InputError("the conversation holds every character of a private plane: it is not text.")
    return iter(found)


def _unmarked(text: str, marked_by: Marks, n_replies: int) -> Rendered:
    """A rendered conversation without its marks, and where they stood."""
    opening, closing, begin, end = marked_by
    plain: list[str] = []
    words: list[Range] = []
    marks: list[str] = []
    places: list[int] = []
    length, word_from = 0, None
    for part in re.split(f"([{opening}{closing}{begin}{end}])", text):
        if part == opening:
            word_from = length
        elif part == closing and word_from is not None:
            words.append((word_from, length))
            word_from = None
        elif part in (begin, end) and part:
            marks.append(part)
            places.append(length)
        elif part != closing:
            plain.append(part)
            length += len(part)
    replies = list(zip(places[::2], places[1::2], strict=False)) if marks == [begin, end] * n_replies else []
    return Rendered("".join(plain), words, replies)

"""From the turns of a conversation to the text that a model reads, and to the tokens that it learns."""

from collections.abc import Sequence
from typing import NamedTuple

from wenloom.core.errors import InputError
from wenloom.tokens.templates import render_template
from wenloom.tokens.tokenizer import TextTokenizer


class Message(NamedTuple):
    """One turn."""

    role: str
    """system, user or assistant."""
    content: str


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


def render(tokenizer: TextTokenizer, messages: Sequence[Message], reply: bool = True) -> str:
    """The conversation so far.

    By the tokenizer's own chat template; without one as a plain transcript without end tokens.

    Args:
        reply: end where the assistant's reply begins.

    Raises:
        InputError: the template fails on these messages, see `templates.render_template`.
    """
    names = {name: getattr(tokenizer, name) or "" for name in ("bos_token", "eos_token", "unk_token", "pad_token")}
    turns = [each._asdict() for each in messages]
    template = tokenizer.chat_template
    if template is None:
        template, names = PLAIN_TEMPLATE, names | {"eos_token": ""}
    return render_template(template, {"messages": turns, "add_generation_prompt": reply, **names})


class Lesson(NamedTuple):
    """A conversation as tokens, and which of them are learned."""

    tokens: list[int]
    learned: list[bool]


def lesson(tokenizer: TextTokenizer, messages: Sequence[Message]) -> Lesson:
    """Tokens of a conversation; those of the assistant's turns are learned, up to the token that ends them.

    What belongs to a turn is found by rendering the conversation up to each: a template must only add to what stands
    before.

    Raises:
        InputError: the template fails, or changes what it wrote of earlier turns, or no end token follows a turn.
        ValueError: these messages are no conversation to learn from; says why.
    """
    _check(tokenizer, messages)
    text, spans = "", []
    for index, message in enumerate(messages):
        if message.role != "assistant":
            continue
        before, after = render(tokenizer, messages[:index]), render(tokenizer, messages[: index + 1], reply=False)
        if not (before.startswith(text) and after.startswith(before)):
            raise InputError("the chat template changes what it wrote of earlier turns: it cannot be learned from.")
        spans.append((len(before), len(after)))
        text = after
    encoded = tokenizer.backend.encode(text, add_special_tokens=False)
    learned = [False] * len(encoded.ids)
    place = 0
    for begin, end in spans:
        last = None
        for index in range(place, len(encoded.ids)):
            start = encoded.offsets[index][0]
            if start >= end:
                break
            place = index + 1
            if start >= begin:
                learned[index] = True
                last = index if encoded.ids[index] in _ends(tokenizer) else last
        if last is None:
            raise InputError(
                "the chat template puts no end token behind the assistant's turns: the model would never learn to stop."
            )
        for index in range(last + 1, place):
            learned[index] = False
    return Lesson(list(encoded.ids), learned)


def _ends(tokenizer: TextTokenizer) -> frozenset[int]:
    """The tokens that may end a turn: every special one but the padding."""
    added = tokenizer.backend.get_added_tokens_decoder()
    special = {token for token, content in added.items() if content.special and token != tokenizer.pad_token_id}
    return frozenset(special | ({tokenizer.eos_token_id} - {None}))  # pyright: ignore


def _check(tokenizer: TextTokenizer, messages: Sequence[Message]) -> None:
    roles = [each.role for each in messages]
    if strange := sorted(set(roles) - {"system", "user", "assistant"}):
        raise ValueError(f'role "{strange[0]}"; system, user and assistant are known')
    if "system" in roles[1:]:
        raise ValueError("a system message stands first or not at all")
    talk = roles[1:] if roles[:1] == ["system"] else roles
    if not talk or talk != ["user", "assistant"] * (len(talk) // 2):
        raise ValueError("user and assistant must take turns, the user first and the assistant last")
    for number, each in enumerate(messages, 1):
        if not each.content.strip():
            raise ValueError(f"message {number} ({each.role}) is empty")
        names = (
            content.content for content in tokenizer.backend.get_added_tokens_decoder().values() if content.special
        )
        if (name := next((name for name in names if name in each.content), None)) is not None:
            raise ValueError(f"message {number} holds the special token {name}")

"""Conversations with a loss mask: tokens, and which of them a model learns to write."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from wenloom.core.errors import InputError
from wenloom.tokens.chat import ChatRenderer, Message, Rendered
from wenloom.tokens.literal import Range

_LONGEST_LEAD = 64
"""Characters that a template writes between a prompt and the content of a reply, at most."""


class MaskedConversation(NamedTuple):
    """A conversation as tokens, and which of them are learned."""

    tokens: list[int]
    learned: list[bool]

    @property
    def turns(self) -> int:
        """Replies that are learned."""
        return sum(now and not before for before, now in pairwise([False, *self.learned]))


def masked_conversations(
    renderer: ChatRenderer, messages: Sequence[Message], longest: int | None = None
) -> list[MaskedConversation]:
    """Tokens of a conversation; those of the assistant's turns are learned, up to the token that ends them.

    Where the template only adds to what it wrote of earlier turns, that is one example. Where it writes them otherwise
    once they are past (Qwen3 drops their reasoning), every turn is an example of its own, after what the model sees before
    it writes that turn. The characters that are rendered and encoded grow linearly with the conversation; turn by turn,
    up to `longest` tokens.

    Args:
        longest: most tokens of an example; a conversation of one example loses the turns that do not fit, of one turn by
            turn those that do not fit are left out.

    Returns:
        The examples; none where not even the first turn fits.

    Raises:
        InputError: the template fails, or changes both a reply and what stands before it, or no end token follows a
            turn.
        ValueError: these messages are no conversation to learn from; says why.
    """
    check(messages)
    places = [index for index, each in enumerate(messages) if each.role == "assistant"]
    if len(places) > 1 and (found := _in_one(renderer, messages, places)) is not None:
        whole = shortened(_lesson(renderer, *found), longest)
        return [] if whole is None else [whole]
    made: list[MaskedConversation] = []
    for place in places:
        turn = last_turn(renderer, messages[: place + 1])
        if longest is not None and len(turn.tokens) > longest:
            break
        made.append(turn)
    return made


def last_turn(renderer: ChatRenderer, messages: Sequence[Message]) -> MaskedConversation:
    """A conversation of which only the last reply is learned.

    Raises:
        InputError, ValueError: see `masked_conversations`.
    """
    check(messages)
    before, after = renderer.render(messages[:-1]), renderer.render(messages, reply=False, find_replies=True)
    start = _prompt_length(renderer, messages, before.text, after.text)
    if start is None:
        after, start = _behind_prompt(before, after)
    return _lesson(renderer, after, [(start, len(after.text))])


def shortened(masked: MaskedConversation, longest: int | None) -> MaskedConversation | None:
    """As many of a conversation's turns as fit; None where not one does."""
    if longest is None or len(masked.tokens) <= longest:
        return masked
    learned = masked.learned
    end = next((index for index in range(longest, 0, -1) if learned[index - 1] and not learned[index]), None)
    return None if end is None else MaskedConversation(masked.tokens[:end], learned[:end])


def _prompt_length(renderer: ChatRenderer, messages: Sequence[Message], before: str, after: str) -> int | None:
    """Characters that stand before the last reply, of those that the model sees before it writes it; None where the
    template writes them otherwise once the reply is there."""
    if after.startswith(before):
        return len(before)
    common = next((index for index, (one, other) in enumerate(zip(before, after, strict=False)) if one != other),
                  min(len(before), len(after)))  # fmt: skip
    if common < len(renderer.render(messages[:-1], reply=False).text):
        return None
    return common  # the reply is asked for with words that a finished one does not have (DeepSeek-R1: <think>)


def _behind_prompt(before: Rendered, after: Rendered) -> tuple[Rendered, int]:
    """The prompt as the model sees it and behind it the last reply, from where the text before it ends like the prompt.

    Mistral's template, say, writes the system message into the last turn of the user, as long as that is the last turn.
    """
    if not after.replies:
        raise InputError("the chat template changes what it wrote before a reply: it cannot be learned from.")
    content = after.replies[-1][0]
    begin = max(range(max(0, content - _LONGEST_LEAD), content + 1),
                key=lambda end: (_same_end(before.text, after.text, end), end))  # fmt: skip
    shift = len(before.text) - begin
    words = [(first + shift, last + shift) for first, last in after.words if first >= begin]
    return Rendered(before.text + after.text[begin:], [*before.words, *words], []), len(before.text)


def _same_end(before: str, after: str, end: int) -> int:
    """Characters in which the end of one text and the text before a place of another agree, as far as it matters."""
    most = min(len(before), end, 2 * _LONGEST_LEAD)
    return next((n for n in range(most) if before[-1 - n] != after[end - 1 - n]), most)


def _in_one(
    renderer: ChatRenderer, messages: Sequence[Message], places: list[int]
) -> tuple[Rendered, list[Range]] | None:
    """The whole conversation and its stretches to learn; None where the template does not write all turns alike.

    Lead and tail are what the template puts before a content, behind the prompt, and behind it. They are measured at
    the first and last turn, and must stand at each. That a turn is written alike when it is the last one is looked up
    at turns each twice as far as the one before, and at the last but one.
    """
    whole = renderer.render(messages, reply=False, find_replies=True)
    if not whole.replies or whole.text != renderer.render(messages, reply=False).text:
        return None
    text, contents = whole.text, whole.replies
    tail = text[contents[-1][1] :]
    first = renderer.render(messages[: places[0] + 1], reply=False)
    if not _is_prefix(first, text, contents[0][1], tail):
        return None
    opening = messages[: places[0] + 1]
    prompt = _prompt_length(renderer, opening, renderer.render(opening[:-1]).text, first.text)
    if prompt is None:
        return None
    lead = contents[0][0] - prompt
    leading = text[contents[0][0] - max(lead, 0) : contents[0][0] + max(-lead, 0)]
    looked_up = contents[0][1]
    for number, (begin, end) in enumerate(contents):
        low = begin - max(lead, 0)
        if text[low : low + len(leading)] != leading or not text.startswith(tail, end):
            return None
        if 0 < number < len(contents) - 1 and (end >= 2 * looked_up or number == len(contents) - 2):
            looked_up = end
            if not _is_prefix(renderer.render(messages[: places[number] + 1], reply=False), text, end, tail):
                return None
    return whole, [(begin - lead, end + len(tail)) for begin, end in contents]


def _is_prefix(part: Rendered, whole: str, content_end: int, tail: str) -> bool:
    return len(part.text) == content_end + len(tail) and whole.startswith(part.text)


def _lesson(renderer: ChatRenderer, rendered: Rendered, stretches: list[Range]) -> MaskedConversation:
    """Tokens of a text; those of each stretch are learned up to its last end token."""
    tokens, starts = renderer.encode(rendered)
    learned, ends, place = [False] * len(tokens), renderer.ends, 0
    for begin, end in stretches:
        first = last = None
        while place < len(tokens) and starts[place] < end:
            if starts[place] >= begin:
                first = place if first is None else first
                last = place if tokens[place] in ends else last
            place += 1
        if first is None or last is None:
            raise InputError(
                "the chat template puts no end token behind the assistant's turns: the model would never learn to stop."
            )
        learned[first : last + 1] = [True] * (last + 1 - first)
    return MaskedConversation(tokens, learned)


def check(messages: Sequence[Message]) -> None:
    """Whether messages are a conversation to learn from.

    Raises:
        ValueError: they are none; says why.
    """
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

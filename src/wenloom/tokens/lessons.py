"""Conversations as lessons: tokens, and which of them a model learns to write."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from wenloom.core.errors import InputError
from wenloom.tokens.chat import ChatRenderer, Message, Rendered
from wenloom.tokens.literal import Range


class Lesson(NamedTuple):
    """A conversation as tokens, and which of them are learned."""

    tokens: list[int]
    learned: list[bool]

    @property
    def turns(self) -> int:
        """Replies that are learned."""
        return sum(now and not before for before, now in pairwise([False, *self.learned]))


def lessons(renderer: ChatRenderer, messages: Sequence[Message], longest: int | None = None) -> list[Lesson]:
    """Tokens of a conversation; those of the assistant's turns are learned, up to the token that ends them.

    Where the template only adds to what it wrote of earlier turns, that is one lesson. Where it writes them otherwise
    once they are past (Qwen3 drops their reasoning), every turn is a lesson of its own, after what the model sees before
    it writes that turn. The characters that are rendered and encoded grow linearly with the conversation; turn by turn,
    up to `longest` tokens.

    Args:
        longest: most tokens of a lesson; a conversation of one lesson loses the turns that do not fit, of one turn by
            turn those that do not fit are left out.

    Returns:
        The lessons; none where not even the first turn fits.

    Raises:
        InputError: the template fails, or changes what stands before a reply once the reply is there, or no end token
            follows a turn.
        ValueError: these messages are no conversation to learn from; says why.
    """
    check(messages)
    places = [index for index, each in enumerate(messages) if each.role == "assistant"]
    if len(places) > 1 and (found := _in_one(renderer, messages, places)) is not None:
        whole = shortened(_lesson(renderer, *found), longest)
        return [] if whole is None else [whole]
    made: list[Lesson] = []
    for place in places:
        turn = last_turn(renderer, messages[: place + 1])
        if longest is not None and len(turn.tokens) > longest:
            break
        made.append(turn)
    return made


def last_turn(renderer: ChatRenderer, messages: Sequence[Message]) -> Lesson:
    """A conversation of which only the last reply is learned.

    Raises:
        InputError, ValueError: see `lessons`.
    """
    check(messages)
    after = renderer.render(messages, reply=False)
    return _lesson(renderer, after, [(_prompt_length(renderer, messages, after), len(after.text))])


def shortened(lesson: Lesson, longest: int | None) -> Lesson | None:
    """As many of a lesson's turns as fit; None where not one does."""
    if longest is None or len(lesson.tokens) <= longest:
        return lesson
    learned = lesson.learned
    end = next((index for index in range(longest, 0, -1) if learned[index - 1] and not learned[index]), None)
    return None if end is None else Lesson(lesson.tokens[:end], learned[:end])


def _prompt_length(renderer: ChatRenderer, messages: Sequence[Message], after: Rendered) -> int:
    """Characters that stand before the last reply, of those that the model sees before it writes it."""
    before = renderer.render(messages[:-1]).text
    if after.text.startswith(before):
        return len(before)
    common = next((index for index, (one, other) in enumerate(zip(before, after.text, strict=False)) if one != other),
                  min(len(before), len(after.text)))  # fmt: skip
    if common < len(renderer.render(messages[:-1], reply=False).text):
        raise InputError("the chat template changes what it wrote before a reply: it cannot be learned from.")
    return common  # the reply is asked for with words that a finished one does not have (DeepSeek-R1: <think>)


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
    lead = contents[0][0] - _prompt_length(renderer, messages[: places[0] + 1], first)
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


def _lesson(renderer: ChatRenderer, rendered: Rendered, stretches: list[Range]) -> Lesson:
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
    return Lesson(tokens, learned)


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

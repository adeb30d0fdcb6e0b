"""Conversations in the shapes that people share them in."""

import re
from bisect import bisect_left, insort
from collections.abc import Sequence
from typing import Any, NamedTuple

from wenloom.tasks.lost import Lost
from wenloom.tasks.rows import RowReader, text_of, value_of
from wenloom.tokens.chat import ChatRenderer, Message
from wenloom.tokens.masked_conversation import MaskedConversation, masked_conversations
from wenloom.tokens.tokenizer import TextTokenizer
from wenloom.training.columns import Column, Example, Targets, Tokens
from wenloom.training.cross_entropy import IGNORED

_ROLES = {"human": "user", "gpt": "assistant", "bot": "assistant", "chatgpt": "assistant", "model": "assistant",
          "USER": "user", "SYSTEM": "assistant"}  # fmt: skip
_TRANSCRIPT = re.compile(r"(?:^|\n\n)(Human|Assistant): ?")

Conversation = tuple[Message, ...]


def conversation_of(row: dict[str, Any]) -> Conversation:
    """The messages of a row, in one of these shapes:

    - OpenAI: {"messages": [{"role": "user", "content": "..."}, ...]}
    - ShareGPT: {"conversations": [{"from": "human", "value": "..."}, ...]}, {"turns": [{"speaker", "utterance"}, ...]}
    - Alpaca: {"instruction": "...", "input": "...", "output": "..."} (or "response"; "system" may stand beside it)
    - {"prompt": "...", "response": "..."} (or "completion", "answer"; "question" for "prompt")

    Raises:
        ValueError: it is none of them.
    """
    for field, who, what in (("messages", "role", "content"), ("conversations", "from", "value"),
                             ("turns", "speaker", "utterance")):  # fmt: skip
        if field in row:
            return _turns(row, field, who, what)
    opening = _opening(row)
    if "instruction" in row:
        instances = row.get("instances")
        if isinstance(instances, list) and instances and isinstance(instances[0], dict):  # self-instruct
            row = {**instances[0], "instruction": row["instruction"]}
        answer = text_of(row, ["output", "response"])
        return (*opening, Message("user", _instruction(row)), Message("assistant", answer))
    asked = text_of(row, ["prompt", "question"])
    return (*opening, Message("user", asked), Message("assistant", text_of(row, ["response", "completion", "answer"])))


def _turns(row: dict[str, Any], field: str, who: str, what: str) -> Conversation:
    turns = row[field]
    if not isinstance(turns, list) or not turns:
        raise ValueError(f'"{field}" must be a list of turns')
    made = []
    for number, turn in enumerate(turns, 1):
        if not isinstance(turn, dict) or not isinstance(turn.get(who), str) or not isinstance(turn.get(what), str):
            raise ValueError(f'turn {number} of "{field}" needs "{who}" and "{what}", both text')
        role: str = turn[who]
        made.append(Message(_ROLES.get(role, role), turn[what].strip()))
    return tuple(made)


class Preference(NamedTuple):
    """A conversation with two endings."""

    chosen: Conversation
    rejected: Conversation


def preference_of(row: dict[str, Any]) -> Preference:
    """Two conversations that differ in the last reply, in the layouts in use: chosen and rejected are replies (text, a
    message or messages) to a prompt (text or messages, or conversations; a system text may stand beside it), whole
    conversations as messages, with or without the prompt once more, or transcripts with "Human:" and "Assistant:".

    Raises:
        ValueError: it is none of these.
    """
    both = [value_of(row, [name])[1] for name in ("chosen", "rejected")]
    before = _before(row)
    if before is None and all(isinstance(each, str) for each in both):
        chosen, rejected = (_transcript(text) for text in both)
    else:
        chosen, rejected = (_ending(row, name, before or ()) for name in ("chosen", "rejected"))
    if chosen[:-1] != rejected[:-1]:
        raise ValueError("chosen and rejected must answer the same conversation")
    if chosen == rejected:
        raise ValueError("chosen and rejected are the same")
    return Preference(chosen, rejected)


def _opening(row: dict[str, Any]) -> Conversation:
    """What stands before the question: a system text, and earlier exchanges as pairs of texts ("history")."""
    made = [Message("system", text_of(row, ["system"]))] if row.get("system") else []
    history = row.get("history") or []
    if not isinstance(history, list):
        raise ValueError('"history" must be a list of exchanges')
    for number, exchange in enumerate(history, 1):
        if not isinstance(exchange, list) or len(exchange) != 2 or not all(isinstance(each, str) for each in exchange):
            raise ValueError(f'exchange {number} of "history" must be two texts')
        made += [Message("user", exchange[0].strip()), Message("assistant", exchange[1].strip())]
    return tuple(made)


def _instruction(row: dict[str, Any]) -> str:
    """Alpaca's question: the instruction, and what it is about."""
    asked = text_of(row, ["instruction"])
    given = row.get("input")
    return f"{asked}\n\n{given.strip()}" if isinstance(given, str) and given.strip() else asked


_PROMPTS = ("prompt", "question", "instruction", "input")


def _before(row: dict[str, Any]) -> Conversation | None:
    """What both replies answer; None where no field says it."""
    name = next((each for each in (*_PROMPTS, "conversations") if row.get(each) not in (None, "")), None)
    if name is None:
        return None
    opening = _opening(row)
    if isinstance(row[name], list):
        turns = _messages(row, name)
        return (*(each for each in opening if each.role != "system" or turns[0].role != "system"), *turns)
    asked = _instruction(row) if name == "instruction" else text_of(row, [name])
    if _TRANSCRIPT.match(asked):  # Anthropic's, up to "Assistant:"
        return (*opening, *_turns_of(asked.removesuffix("Assistant:").rstrip()))
    return (*opening, Message("user", asked))


def _messages(row: dict[str, Any], name: str) -> Conversation:
    """Turns in the words of OpenAI (role, content) or of ShareGPT (from, value)."""
    first = row[name][0] if row[name] else None
    who = ("from", "value") if isinstance(first, dict) and "from" in first else ("role", "content")
    return _turns(row, name, *who)


def _ending(row: dict[str, Any], name: str, before: Conversation) -> Conversation:
    """The conversation with this ending: text, a message, messages of the assistant, or all of the conversation."""
    value = row[name]
    if isinstance(value, dict):
        row, value = {name: [value]}, [value]
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        return (*before, Message("assistant", text_of(row, [name])))
    turns = _messages(row, name)
    if any(each.role == "user" for each in turns):
        told = [each for each in before if each.role == "system"] if turns[0].role != "system" else []
        return (*told, *turns)
    return (*before, *turns)


def _transcript(text: Any) -> Conversation:
    if not isinstance(text, str):
        raise ValueError('without "prompt", chosen and rejected must be transcripts with "Human:" and "Assistant:"')
    if len(turns := _turns_of(text)) < 2:
        raise ValueError('no transcript with "Human:" and "Assistant:"')
    return turns


def _turns_of(text: str) -> Conversation:
    """Turns of a transcript; none where it begins otherwise."""
    before, *parts = _TRANSCRIPT.split(text)
    roles = {"Human": "user", "Assistant": "assistant"}
    if before.strip():
        return ()
    return tuple(Message(roles[who], said.strip()) for who, said in zip(parts[::2], parts[1::2], strict=True))


def read_conversations(where: str, reader: RowReader) -> list[Conversation]:
    """Conversations of jsonl files or JSON lists, each checked."""
    return reader.objects(where, lambda row: checked(conversation_of(row)))


def read_preferences(where: str, reader: RowReader) -> list[Preference]:
    """Preferences of jsonl files or JSON lists, each checked."""

    def make(row: dict[str, Any]) -> Preference:
        found = preference_of(row)
        return Preference(checked(found.chosen), checked(found.rejected))

    return reader.objects(where, make)


def checked(messages: Conversation) -> Conversation:
    """Without a last turn of the user, which nobody answered.

    Raises:
        ValueError: these messages are no conversation to learn from.
    """
    if messages and messages[-1].role == "user":
        messages = messages[:-1]
    for number, each in enumerate(messages, 1):
        if each.role not in ("system", "user", "assistant"):
            raise ValueError(f'message {number} has the role "{each.role}"; system, user and assistant are known')
        if not each.content.strip():
            raise ValueError(f"message {number} ({each.role}) is empty")
    talk = [each.role for each in messages if each.role != "system"]
    if not talk or talk != ["user", "assistant"] * (len(talk) // 2):
        raise ValueError("user and assistant must take turns, the user first and the assistant last")
    return messages


class ChatEncoder:
    """From conversations to what a model learns.

    Args:
        longest: most tokens; of a longer conversation the last turns are left out, and where not even the first
            exchange fits, all of it.
    """

    def __init__(self, tokenizer: TextTokenizer, longest: int):
        self.renderer, self.longest = ChatRenderer(tokenizer), longest
        self.cut = Lost()
        """Conversations that lost turns."""
        self.dropped = Lost()
        """Conversations whose first exchange is too long."""

    def masked_conversations(self, messages: Conversation) -> list[MaskedConversation]:
        """The conversation as far as it fits: one example, or one of each turn where the template asks for it."""
        made = masked_conversations(self.renderer, messages, self.longest)
        replies = [place for place, each in enumerate(messages) if each.role == "assistant"]
        learned = sum(each.turns for each in made)
        if learned < len(replies):
            rest = messages[replies[learned - 1] + 1 :] if learned else messages
            n_tokens = sum(map(len, self.renderer.tokenizer.encode_documents([each.content for each in rest])))
            (self.cut if learned else self.dropped).add(n_tokens)
        return made

    def examples(self, conversations: Sequence[Conversation], pack: bool) -> list[Example]:
        """Examples to learn from; packed, several examples share a row, each with a number of its own."""
        return self.rows([masked for each in conversations for masked in self.masked_conversations(each)], pack)

    def rows(self, masked_conversations: Sequence[MaskedConversation], pack: bool) -> list[Example]:
        """Examples of masked conversations; packed, several share a row."""
        rows = (
            packed([len(each.tokens) - 1 for each in masked_conversations], self.longest)
            if pack
            else [[n] for n in range(len(masked_conversations))]
        )
        examples: list[Example] = []
        for row in rows:
            inputs: list[int] = []
            targets: list[int] = []
            documents: list[int] = []
            for number, index in enumerate(row, 1):
                tokens, learned = masked_conversations[index]
                inputs += tokens[:-1]
                targets += [token if learns else IGNORED for token, learns in zip(tokens[1:], learned[1:], strict=True)]
                documents += [number] * (len(tokens) - 1)
            example: Example = {"inputs_BT": Tokens(inputs), "targets_BT": Targets(targets)}
            examples.append(example | {"documents_BT": Column(documents)} if pack else example)
        return examples


def packed(lengths: Sequence[int], room: int) -> list[list[int]]:
    """Indices in rows of at most `room`, few of them: the longest first, each into the fullest row it fits in.

    >>> packed([5, 3, 4, 2], 7)
    [[0, 3], [2, 1]]
    """
    rows: list[list[int]] = []
    by_space: dict[int, list[int]] = {}
    spaces: list[int] = []  # those of by_space, in order
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        need = lengths[index]
        place = bisect_left(spaces, need)
        if place == len(spaces):
            rows.append([])
            row, space = len(rows) - 1, room
        else:
            space = spaces[place]
            row = by_space[space].pop()
            if not by_space[space]:
                del by_space[space], spaces[place]
        rows[row].append(index)
        if space - need not in by_space:
            insort(spaces, space - need)
        by_space.setdefault(space - need, []).append(row)
    return rows

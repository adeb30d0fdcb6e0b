"""Reasoning sections: what a model thinks before it replies, between tags that its chat template knows."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from wenloom.serving.lark import ANY, quoted, terminals
from wenloom.tokens.chat import ChatRenderer

Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
_TAGS = (("<think>", "</think>"), ("[THINK]", "[/THINK]"))
_SWITCHES = ("enable_thinking", "thinking")
"""Values of templates that are on or off."""


@dataclass(frozen=True)
class Reasoning:
    """The tags around reasoning."""

    begin: str
    end: str
    special: tuple[tuple[str, int], ...] = ()
    """Names and ids of those that are special tokens."""
    is_begun: bool = False
    """Whether the prompt ends with the first of them."""

    def after(self, prompt: str) -> "Reasoning | None":
        """What it is behind a prompt; None: the prompt says that there is none."""
        said = prompt.rstrip()
        return None if said.endswith(self.end) else replace(self, is_begun=said.endswith(self.begin))

    def rules(self) -> Iterator[str]:
        """The grammar's rule `thought`."""
        special = dict(self.special)
        begin = "" if self.is_begun else self.begin
        if self.end in special:
            yield f"thought: {terminals(begin, special)} THOUGHT {terminals(self.end, special)}"
            yield f"THOUGHT: {ANY} & ~({ANY} {quoted(self.end)} {ANY})"
        else:
            yield f"thought[lazy]: {quoted(begin)} {ANY} {quoted(self.end)}"


def reasoning_of(renderer: ChatRenderer) -> Reasoning | None:
    """The tags that a chat template knows; None: it knows none.

    Raises:
        InputError: the template is wrong.
    """
    found = next((tags for tags in _TAGS if renderer.mentions(tags[1])), None)
    if found is None:
        return None
    added = renderer.tokenizer.backend.get_added_tokens_decoder()
    special = tuple(
        (each.content, token) for token, each in sorted(added.items()) if each.special and each.content in found
    )
    return Reasoning(*found, special)


def effort_values(renderer: ChatRenderer, effort: Effort) -> dict[str, object] | None:
    """What tells a template how much to think; None: it cannot be told.

    A template that reads `reasoning_effort` gets it as it is. One that only knows a switch does not think with "none", and thinks
    as it is used to with "medium".
    """
    if "reasoning_effort" in renderer.variables:
        return {"reasoning_effort": effort}
    switches: dict[str, object] = {name: effort != "none" for name in _SWITCHES if name in renderer.variables}
    if switches and effort in ("none", "medium"):
        return switches
    return {} if effort == "none" and reasoning_of(renderer) is None else None


def thought_tokens(reasoning: Reasoning, texts: Iterable[str]) -> int:
    """How many tokens of a reply were thought, of those up to the tag that ends it.

    Args:
        texts: what becomes certain by each of its tokens.
    """
    reader, n_thought = ThoughtReader(reasoning), int(reasoning.is_begun) - 1
    for n, text in enumerate(texts, 1):
        for _ in reader.feed(text):
            pass
        if reader.is_thinking:
            n_thought = n
        elif n_thought >= 0 or reader.has_thought:
            return n
    return max(0, n_thought)


class ThoughtReader:
    """Divides a reply as it comes into what is thought and what is said; blanks around the tags belong to neither.

    >>> reader = ThoughtReader(Reasoning("<think>", "</think>"))
    >>> [*reader.feed("<think>\\nHm."), *reader.feed("\\n</think>\\n\\nYes.")]
    [(True, 'Hm.'), (False, 'Yes.')]
    """

    def __init__(self, reasoning: Reasoning):
        self._begin, self._end = reasoning.begin, reasoning.end
        self._text = ""
        self._read = self._thought if reasoning.is_begun else self._before
        self._is_leading = True
        """Whether blanks that come are left out."""
        self.has_thought = reasoning.is_begun
        """Whether the tag that begins it has come."""

    @property
    def is_thinking(self) -> bool:
        """Whether what comes next is thought."""
        return self._read == self._thought

    def feed(self, text: str) -> Iterator[tuple[bool, str]]:
        """What is certain by a further piece: whether it is thought, and the text."""
        self._text += text
        before = None
        while self._text and (self._text, self._read) != before:
            before = (self._text, self._read)
            yield from self._read()

    def finish(self) -> Iterator[tuple[bool, str]]:
        """What was held back, as nothing follows."""
        text, is_thought = self._text, self.is_thinking
        self._text = ""
        if text.strip() or (text and self._read == self._before):
            yield is_thought, text

    def _before(self) -> Iterator[tuple[bool, str]]:
        core = self._text.lstrip()
        if core.startswith(self._begin):
            self._text, self._read, self.has_thought = core[len(self._begin) :], self._thought, True
        elif not self._begin.startswith(core):
            self._read, self._is_leading = self._said, False
        return iter(())

    def _thought(self) -> Iterator[tuple[bool, str]]:
        if self._is_leading:
            self._text = self._text.lstrip("\n")
        at = self._text.find(self._end)
        if at >= 0:
            piece, self._text = self._text[:at].rstrip("\n"), self._text[at + len(self._end) :]
            self._read, self._is_leading = self._said, True
        else:
            held = next(
                (
                    n
                    for n in range(min(len(self._text), len(self._end) - 1), 0, -1)
                    if self._text.endswith(self._end[:n])
                ),
                0,
            )
            piece = self._text[: len(self._text) - held].rstrip("\n")
            self._text = self._text[len(piece) :]
            self._is_leading &= not piece
        if piece:
            yield True, piece

    def _said(self) -> Iterator[tuple[bool, str]]:
        if self._is_leading:
            self._text = self._text.lstrip("\n")
        piece, self._text = self._text, ""
        if piece:
            self._is_leading = False
            yield False, piece

"""A reply as it comes, taken apart into text and calls."""

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from wenloom.serving.pairs import PairReader
from wenloom.serving.tool_form import ToolForm


class Thought(NamedTuple):
    """What is thought before the reply."""

    text: str


class Said(NamedTuple):
    """Text of a reply."""

    text: str


class Called(NamedTuple):
    """A call begins."""

    number: int
    name: str


class Argued(NamedTuple):
    """A piece of the arguments of a call, JSON when they are together."""

    number: int
    text: str


Part = Thought | Said | Called | Argued
_NAME = re.compile(r"[a-zA-Z0-9_-]+")


class CallReader:
    """Reads a reply that obeys the grammar of `calls_grammar`, piece by piece; one that is cut off, as far as it goes.

    Blanks between a text and the calls after it belong to neither.

    Args:
        are_text: of a form with pairs, by the function's name: the arguments that stand as plain text.

    >>> from wenloom.serving.tool_form import TOLD
    >>> reader = CallReader(TOLD)
    >>> [*reader.feed('Now. <tool_call>\\n{"name": "f", "argum'), *reader.feed('ents": {"a": "}"}}\\n</tool_call>')]
    [Said(text='Now.'), Called(number=0, name='f'), Argued(number=0, text='{"a": "}"}')]
    """

    def __init__(self, form: ToolForm, are_text: Mapping[str, frozenset[str]] | None = None):
        self._form, self._trigger, self._are_text = form, form.trigger, are_text or {}
        self._text = ""
        """What has come and is not yet given out."""
        self._read = self._in_text
        self.n_calls = 0
        self._depth, self._in_string, self._is_escaped = 0, False, False
        self._pairs: PairReader | None = None

    def feed(self, text: str) -> Iterator[Part]:
        """What is certain by a further piece."""
        self._text += text
        before = None
        while self._text and (self._text, self._read) != before:
            before = (self._text, self._read)
            yield from self._read()

    def finish(self) -> Iterator[Part]:
        """What was held back, as nothing follows."""
        if self._read in (self._in_text, self._in_plain_text) and self._text:
            yield Said(self._text)
        self._text = ""

    def _in_text(self) -> Iterator[Part]:
        at = self._text.find(self._trigger)
        if self._form.is_first and at != 0 and not self._trigger.startswith(self._text):
            self._read = self._in_plain_text
            return
        if at >= 0:
            if said := self._text[:at].rstrip():
                yield Said(said)
            self._text = self._text[at + len(self._trigger) :]
            self._read = self._before_name
            return
        held = next((n for n in range(min(len(self._text), len(self._trigger) - 1), 0, -1)
                     if self._text.endswith(self._trigger[:n])), 0)  # fmt: skip
        safe = self._text[: len(self._text) - held].rstrip()
        if safe:
            self._text = self._text[len(safe) :]
            yield Said(safe)

    def _in_plain_text(self) -> Iterator[Part]:
        text, self._text = self._text, ""
        yield Said(text)

    def _before_name(self) -> Iterator[Part]:
        rest = self._form.rest
        if self._text.startswith(rest):
            self._text = self._text[len(rest) :]
            self._read = self._in_name
        return iter(())

    def _in_name(self) -> Iterator[Part]:
        name = _NAME.match(self._text)
        if name is None or name.end() == len(self._text):
            return
        at = name.end()
        begin = self._form.id_begin
        if begin is not None and (self._text.startswith(begin, at) or begin.startswith(self._text[at:])):
            at = max(at, self._text.find(self._form.neck, at))
        if self._text.startswith(self._form.neck, at):
            yield Called(self.n_calls, name.group())
            self.n_calls += 1
            self._text = self._text[at + len(self._form.neck) :]
            if self._form.pairs is None:
                self._read = self._in_arguments
            else:
                are_text = self._are_text.get(name.group(), frozenset())
                self._pairs, self._read = PairReader(self._form.pairs, are_text), self._in_pairs

    def _in_pairs(self) -> Iterator[Part]:
        assert self._pairs is not None
        text, self._text = self._text, ""
        piece = "".join(self._pairs.feed(text))
        if piece:
            yield Argued(self.n_calls - 1, piece)
        if self._pairs.is_done:
            self._text, self._read = self._pairs.rest, self._behind_call

    def _in_arguments(self) -> Iterator[Part]:
        end = len(self._text)
        for place, char in enumerate(self._text):
            if self._in_string:
                self._in_string = char != '"' or self._is_escaped
                self._is_escaped = char == "\\" and not self._is_escaped
            elif char == '"':
                self._in_string = True
            elif char in "{[":
                self._depth += 1
            elif char in "}]":
                self._depth -= 1
                if self._depth == 0:
                    end = place + 1
                    self._read = self._behind_call
                    break
        piece, self._text = self._text[:end], self._text[end:]
        yield Argued(self.n_calls - 1, piece)

    def _behind_call(self) -> Iterator[Part]:
        between = self._form.between
        if between is not None and self._text.startswith(between):
            self._text = self._text[len(between) :]
            self._read = self._in_name
        return iter(())

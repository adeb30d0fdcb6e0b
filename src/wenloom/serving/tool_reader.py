"""A reply as it comes, taken apart into text and calls."""

from collections.abc import Iterator
from typing import NamedTuple

from wenloom.serving.tool_form import ToolForm


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


Part = Said | Called | Argued


class CallReader:
    """Reads a reply that obeys the grammar of `calls_grammar`, piece by piece; one that is cut off, as far as it goes.

    Blanks between a text and the calls after it belong to neither.

    >>> from wenloom.serving.tool_form import TOLD
    >>> reader = CallReader(TOLD)
    >>> [*reader.feed('Now. <tool_call>\\n{"name": "f", "argum'), *reader.feed('ents": {"a": "}"}}\\n</tool_call>')]
    [Said(text='Now.'), Called(number=0, name='f'), Argued(number=0, text='{"a": "}"}')]
    """

    def __init__(self, form: ToolForm):
        self._form, self._trigger = form, form.trigger
        self._text = ""
        """What has come and is not yet given out."""
        self._read = self._in_text
        self.n_calls = 0
        self._depth, self._in_string, self._is_escaped = 0, False, False

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
        rest = self._form.begin.removeprefix(self._trigger)
        if self._text.startswith(rest):
            self._text = self._text[len(rest) :]
            self._read = self._in_name
        return iter(())

    def _in_name(self) -> Iterator[Part]:
        at = self._text.find(self._form.neck)
        if at >= 0:
            yield Called(self.n_calls, self._text[:at])
            self.n_calls += 1
            self._text = self._text[at + len(self._form.neck) :]
            self._read = self._in_arguments

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

"""How a reply is read while it comes: what is thought, said and called."""

from collections.abc import Iterator
from dataclasses import dataclass

from wenloom.serving.reasoning import Reasoning, ThoughtReader
from wenloom.serving.tool_reader import CallReader, Part, Said, Thought
from wenloom.serving.tools import ToolUse


@dataclass(frozen=True)
class ReplyForm:
    """What a reply may hold beside text."""

    reasoning: Reasoning | None
    use: ToolUse | None

    @property
    def special(self) -> tuple[str, ...]:
        """Names of special tokens that tell the parts of a reply apart."""
        marks = (*(self.reasoning.special if self.reasoning else ()), *(self.use.form.special if self.use else ()))
        return tuple(name for name, _ in marks)

    def reader(self) -> "ReplyReader | None":
        """What reads a reply; None: all of it is text."""
        return None if self.reasoning is None and self.use is None else ReplyReader(self)


class ReplyReader:
    """Takes a reply apart, piece by piece."""

    def __init__(self, form: ReplyForm):
        self._thoughts = None if form.reasoning is None else ThoughtReader(form.reasoning)
        self._calls = None if form.use is None else CallReader(form.use.form, form.use.are_text)

    @property
    def n_calls(self) -> int:
        """Calls so far."""
        return 0 if self._calls is None else self._calls.n_calls

    def feed(self, text: str) -> Iterator[Part]:
        """What is certain by a further piece."""
        if self._thoughts is None:
            yield from self._said(text)
        else:
            yield from self._divided(self._thoughts.feed(text))

    def finish(self) -> Iterator[Part]:
        """What was held back, as nothing follows."""
        if self._thoughts is not None:
            yield from self._divided(self._thoughts.finish())
        if self._calls is not None:
            yield from self._calls.finish()

    def _divided(self, pieces: Iterator[tuple[bool, str]]) -> Iterator[Part]:
        for is_thought, text in pieces:
            if is_thought:
                yield Thought(text)
            else:
                yield from self._said(text)

    def _said(self, text: str) -> Iterator[Part]:
        if self._calls is not None:
            yield from self._calls.feed(text)
        elif text:
            yield Said(text)

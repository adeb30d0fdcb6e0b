"""A group of sequences in the engine: one strategy of a job, and the texts that it follows."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor

from wenloom.generation.jobs import ForwardRequest, ForwardResult, Job, Strategy, Text
from wenloom.runtime.runner import ModelRunner

if TYPE_CHECKING:
    from wenloom.generation.engine import Engine


class SequenceGroup:
    """What a strategy works with: its job, and texts in slots of the engine."""

    def __init__(self, engine: "Engine", job: Job, index: int, width: tuple[int, int]):
        """
        Args:
            width: slots that it needs at most, of the model and of the draft model.
        """
        self.engine, self.job, self.index = engine, job, index
        self.runners = (engine.runner_for(job.request), *engine.models[1:])
        """The model that this request asks for, and the draft model."""
        self.width = dict(zip(self.runners, width, strict=False))
        self.texts: list[Text] = []
        self.strategy: Strategy | None = None
        self.reads: list[ForwardRequest] = []
        self.readings: list[list[Tensor] | None] = []
        self.arrived: dict[int, ForwardResult] = {}

    def open(self, tokens: Sequence[int], model: int = 0) -> Text:
        """A text that begins with these tokens, for the model (0) or its draft model (1)."""
        return self._open(self.runners[model], tokens)

    def _open(self, runner: ModelRunner, tokens: Sequence[int]) -> Text:
        encoder_kv = self.engine.encoded(self.job)  # may fail: a slot is taken only then
        text = Text(runner, list(tokens), runner.take(), encoder_kv)
        self.texts.append(text)
        return text

    def fork(self, text: Text) -> Text:
        """Another text with the same beginning, known as far."""
        copy = self._open(text.runner, text.tokens)
        self.assign(copy, text)
        return copy

    def assign(self, target: Text, source: Text) -> None:
        """Make a text the same as another: it shares what is known of that."""
        target.runner.slots.fork(source.slot, target.slot, source.known)
        target.tokens, target.view, target.known = list(source.tokens), source.view, source.known

    def close(self, text: Text) -> None:
        """Give a text's slot back."""
        self.texts.remove(text)
        text.runner.give(text.slot)


class Wanted(NamedTuple):
    """Whose scores stand where in a step."""

    sequences: SequenceGroup
    index: int
    """Which of the group's reads."""
    begin: int
    end: int
    """Rows of the step."""
    is_prompt: bool
    """Whether more than one token was read."""

"""A group of sequences in the engine: one strategy of a job, and the texts that it follows."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from wenloom.generation.jobs import ForwardRequest, ForwardResult, Job, Strategy, Text
from wenloom.model.cache import EncoderKV
from wenloom.model.config import ModelConfig
from wenloom.runtime.runner import ModelRunner
from wenloom.runtime.steering import UNSTEERED


class SequenceGroup:
    """What a strategy works with: its job, and texts in slots of the models that read them."""

    def __init__(self, runners: Sequence[ModelRunner], job: Job, index: int, width: tuple[int, int]):
        """
        Args:
            runners: the model that the request asks for, and the draft model if there is one.
            index: which of the job's continuations it writes.
            width: slots that it needs at most, of the model and of the draft model.
        """
        self.runners, self.job, self.index = tuple(runners), job, index
        self.width = dict(zip(self.runners, width, strict=False))
        self.texts: list[Text] = []
        self.strategy: Strategy | None = None
        self.reads: list[ForwardRequest] = []
        self.readings: list[list[Tensor] | None] = []
        self.arrived: dict[int, ForwardResult] = {}

    @property
    def config(self) -> ModelConfig:
        """Of the model that writes."""
        return self.runners[0].decoder.config

    def encoded(self) -> EncoderKV | None:
        """What the job's source is to the decoder, read when its first text begins; None without an encoder."""
        job, runner = self.job, self.runners[0]
        if job.encoder_kv is None and runner.encode is not None:
            job.encoder_kv = runner.encode(torch.tensor([job.source], device=runner.device))
        return job.encoder_kv

    def open(self, tokens: Sequence[int], model: int = 0) -> Text:
        """A text that begins with these tokens, for the model (0) or its draft model (1)."""
        return self._open(self.runners[model], tokens)

    def _open(self, runner: ModelRunner, tokens: Sequence[int]) -> Text:
        encoder_kv = self.encoded()  # may fail: a slot is taken only then
        steering = self.job.steering if runner is self.runners[0] else UNSTEERED
        text = Text(runner, list(tokens), runner.take(), encoder_kv, steering)
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

"""What passes between the engine, its strategies and those who ask: texts, reads, jobs and what comes of them."""

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from torch import Tensor

from wenloom.core.errors import WenloomError, printable
from wenloom.generation.request import GenerationRequest
from wenloom.generation.stream import TextStream
from wenloom.model.cache import EncoderKV
from wenloom.runtime.runner import ModelRunner
from wenloom.runtime.steering import UNSTEERED, Steering
from wenloom.runtime.window import WHOLE, View


@dataclass(eq=False)
class Text:
    """Tokens that a model reads, and how far it has read them."""

    runner: ModelRunner
    """The model that reads them."""
    tokens: list[int]
    slot: int
    encoder_kv: EncoderKV | None = None
    """What a decoder with an encoder writes from."""
    steering: Steering = UNSTEERED
    view: View = WHOLE
    known: int = 0
    """Tokens of the view whose keys and values are in the slot."""


class ForwardRequest(NamedTuple):
    """Read a text to its end and give the scores after the last tokens."""

    text: Text
    logits: int = 1
    """After how many of the last tokens."""
    hidden: bool = False
    """Whether the last residual stream is wanted as well."""
    layers: tuple[int, ...] = ()
    """Blocks from which early scores are wanted."""


class ForwardResult(NamedTuple):
    """What a read gives."""

    logits: Tensor
    """Shape (n, V), on the CPU in float32."""
    hidden: Tensor | None
    """Shape (n, D)."""
    early: dict[int, Tensor]
    """Per layer logits, shape (n, V)."""


NOT_OURS = (KeyboardInterrupt, SystemExit, GeneratorExit)
"""What is no request's failure; all else that is raised is, panics of Rust code included, which are no Exception."""
Strategy = Generator[list[ForwardRequest], list[ForwardResult], None]


def as_failure(error: BaseException) -> WenloomError:
    """The error of one request as a sentence; keeps an exception that is not ours as its cause."""
    if isinstance(error, WenloomError):
        return error
    reason = "there is not enough memory" if isinstance(error, MemoryError) else printable(str(error), 300).rstrip(".")
    failure = WenloomError(f"the request failed: {reason or 'no reason given'} ({type(error).__name__}).")
    failure.__cause__ = error
    return failure


@dataclass(frozen=True)
class TokenScore:
    """How probable a token was, by the model's own distribution (before any processor)."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...]
    """The most probable tokens there and their log-probabilities, best first."""


EndedBy = Literal["end token", "stop string", "grammar", "length", "dead end", "cancelled", "error"]
"""What ends a continuation: a grammar that is complete, a dead end where nothing is allowed, a request that failed, ..."""
FinishReason = Literal["stop", "length", "abort", "error"]
_FINISH_REASONS: dict[EndedBy, FinishReason] = {
    "end token": "stop", "stop string": "stop", "grammar": "stop", "length": "length", "cancelled": "abort",
    "dead end": "error", "error": "error",
}  # fmt: skip


@dataclass(eq=False)
class Continuation:
    """One text that a request gets."""

    tokens: list[int] = field(default_factory=list)
    """What was written, an end token included."""
    text: str = ""
    """The tokens as text (behind the prompt, where `echo` asks for it), without special tokens and from a stop string on;
    empty where the engine has no tokenizer."""
    ended_by: EndedBy | None = None
    """What ended it; None while it is written."""
    error: str | None = None
    """Why the request failed, or why its text could not go on."""
    scores: list[TokenScore] = field(default_factory=list)
    """One per token, if asked for."""
    sum_logprobs: float | None = None
    """Of a beam: the score it won by, before the length penalty."""
    stream: TextStream | None = field(default=None, repr=False)
    n_echoed: int = 0
    """Characters of the text that repeat the prompt."""

    def begin_with(self, prompt: str) -> None:
        """Repeat the prompt before all that comes."""
        self.text, self.n_echoed = prompt, len(prompt)
        if self.stream is not None:
            self.stream.repeat(prompt)

    @property
    def finish_reason(self) -> FinishReason | None:
        """`ended_by` in the words of the OpenAI API (and of vLLM, where that has none); None while it is written."""
        return None if self.ended_by is None else _FINISH_REASONS[self.ended_by]

    def end(self, ended_by: EndedBy) -> None:
        """Finish the text: what the stream held back is certain now."""
        if self.stream is not None:
            self.text += self.stream.finish()
        self.ended_by = ended_by
        if ended_by == "dead end":
            self.error = "the options leave no token that is allowed"

    def break_off(self, ended_by: EndedBy) -> None:
        """Finish in the midst of a text, also where the tokenizer has failed."""
        self.ended_by = ended_by
        try:
            self.end(ended_by)
        except NOT_OURS:
            raise
        except BaseException:  # what was held back is lost
            return


@dataclass(eq=False)
class Job:
    """A request under way."""

    prompt: list[int]
    """What is continued; of a model with an encoder, its decoder's first token."""
    request: GenerationRequest
    continuations: list[Continuation]
    prompt_scores: list[TokenScore | None] = field(default_factory=list)
    """One per token of the prompt, if asked for; None for the first."""
    source: list[int] | None = None
    """What the encoder reads, in a model that has one."""
    encoder_kv: EncoderKV | None = None
    """The source as the decoder sees it, once it was read."""
    steering: Steering = UNSTEERED
    """What is added to the residual stream of its texts, by the model that writes."""
    unseen: int = 0
    """Tokens of the prompt that lie outside the model's context: it goes on without them."""
    n_reused: int = 0
    """Tokens of the prompt that were known from earlier ones."""
    n_guessed: int = 0
    """Tokens that were guessed ahead."""
    n_agreed: int = 0
    """Of these, those that came."""
    error: WenloomError | None = None
    """Why it failed."""
    sequence_groups: int = 0
    """Strategies that are not finished."""

    @property
    def done(self) -> bool:
        """Whether nothing more will come."""
        return self.sequence_groups == 0

    def fail(self, error: BaseException) -> None:
        """Note why the request failed."""
        self.error = as_failure(error)
        for each in self.continuations:
            if each.finish_reason is None:
                each.error = str(self.error)
                each.break_off("error")

    def result(self) -> list[Continuation]:
        """The continuations.

        Raises:
            WenloomError: the request failed.
        """
        if self.error is not None:
            raise self.error
        return self.continuations


class EngineLoad(NamedTuple):
    """How busy an engine is."""

    waiting: int
    """Continuations that wait for a slot."""
    running: int
    """Continuations that are written."""
    slots_in_use: int
    slots: int
    """Of all models and adapters."""
    cache_bytes: int
    """Memory of the keys and values that texts or the prefix cache hold."""

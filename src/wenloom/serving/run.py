"""One request's work in the engine: its prompts side by side, events as they come, and what was used in the end."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from wenloom.generation.background import Letter
from wenloom.generation.events import Event
from wenloom.generation.jobs import Continuation, Job
from wenloom.generation.request import GenerationRequest
from wenloom.serving.errors import APIError
from wenloom.serving.models import ServedModel
from wenloom.serving.reasoning import Reasoning, thought_tokens


class PreparedPrompt(NamedTuple):
    """What the engine is to go on with."""

    ids: list[int]
    request: GenerationRequest


class ChoiceEvent(NamedTuple):
    """What has come of a choice; choices are numbered over all prompts."""

    choice: int
    event: Event


@dataclass(eq=False)
class EngineRun:
    """The prompts of a request, and what comes of them."""

    served: ServedModel
    prompts: Sequence[PreparedPrompt]
    reasoning: Reasoning | None = None
    """What may stand at the beginning of each choice."""
    jobs: dict[int, Job] = field(default_factory=dict)
    """By prompt, as soon as the engine has taken them."""

    async def begin(self) -> AsyncGenerator[list[ChoiceEvent], None]:
        """Events as they come, all that are there at a time, once the engine has taken all prompts.

        Raises:
            WenloomError: it refuses one.
        """
        events = self._events()
        await anext(events)
        return events

    async def _events(self) -> AsyncGenerator[list[ChoiceEvent], None]:
        """First of all nothing, as soon as the engine has taken all prompts."""
        heard = asyncio.Queue[tuple[int, Letter]]()

        def ask(number: int) -> Callable[[], None]:
            ids, request = self.prompts[number]
            return self.served.engine.ask(ids, request, number, lambda letter: heard.put_nowait((number, letter)))

        left, is_begun, cancels, found = len(self.prompts), False, list[Callable[[], None]](), list[ChoiceEvent]()
        try:
            for number in range(left):
                cancels.append(ask(number))
            while left:
                number, letter = await heard.get()
                if isinstance(letter, Job):
                    self.jobs[number] = letter
                elif isinstance(letter, Event):
                    n = self.prompts[number].request.num_return_sequences
                    found.append(ChoiceEvent(number * n + letter.index, letter))
                elif letter is not None:
                    if is_begun and found:
                        yield found
                    raise letter
                else:
                    left -= 1
                if not is_begun and len(self.jobs) == len(self.prompts):
                    is_begun = True
                    yield []
                if is_begun and found and heard.empty():
                    yield found
                    found = []
        finally:
            for cancel in cancels:
                cancel()

    def continuations(self) -> list[Continuation]:
        """All choices in order, once they are done."""
        return [each for number in range(len(self.prompts)) for each in self.jobs[number].continuations]

    def usage(self) -> dict[str, object]:
        """Tokens read and written; end tokens count, as they are written."""
        read = sum(len(prompt.ids) for prompt in self.prompts)
        written = sum(len(each.tokens) for job in self.jobs.values() for each in job.continuations)
        reused = sum(job.n_reused for job in self.jobs.values())
        guessed = [job for number, job in self.jobs.items() if self.prompts[number].request.predicted_text]
        accepted = sum(job.n_agreed for job in guessed)
        details = {"reasoning_tokens": self._reasoning_tokens(), "accepted_prediction_tokens": accepted,
                   "rejected_prediction_tokens": sum(job.n_guessed for job in guessed) - accepted}  # fmt: skip
        return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written,
                "prompt_tokens_details": {"cached_tokens": reused}, "completion_tokens_details": details}  # fmt: skip

    def _reasoning_tokens(self) -> int:
        """Tokens that were thought, tags included."""
        if self.reasoning is None:
            return 0
        vocabulary, n_thought = self.served.model.engine.vocabulary, 0
        for number, (ids, request) in enumerate(self.prompts):
            endings = vocabulary.endings(request)
            for each in self.jobs[number].continuations:
                stream = vocabulary.stream(ids, request)
                assert stream is not None
                tokens = [token for token in each.tokens if token not in endings]
                n_thought += thought_tokens(self.reasoning, map(stream.push, tokens))
        return n_thought


def finish_reason(event: Event | Continuation) -> str | None:
    """The reason in OpenAI's words.

    Raises:
        APIError: the text could not be finished.
    """
    reason = event.finish_reason
    if reason == "abort":
        raise APIError(503, "the server is shutting down.", code="shutting_down", retry_after=5)
    if reason == "error":
        raise APIError(400, "the options leave no token that is allowed.")
    return reason

"""One request's work in the engine: its prompts side by side, events as they come, and what was used in the end."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

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

    async def begin(self) -> AsyncGenerator[ChoiceEvent, None]:
        """Events as they come, once the engine has taken all prompts.

        Raises:
            WenloomError: it refuses one.
        """
        heard: asyncio.Queue[ChoiceEvent | BaseException | int | None] = asyncio.Queue()
        tasks = [asyncio.create_task(self._follow(number, heard)) for number in range(len(self.prompts))]
        events = self._events(heard, tasks)
        await anext(events)
        return events  # pyright: ignore[reportReturnType]

    async def _events(
        self, heard: "asyncio.Queue[ChoiceEvent | BaseException | int | None]", tasks: "list[asyncio.Task[None]]"
    ) -> AsyncGenerator[ChoiceEvent | None, None]:
        early: list[ChoiceEvent] = []
        left, is_begun = len(tasks), False
        try:
            while left or not is_begun:
                if not is_begun and len(self.jobs) == len(tasks):
                    is_begun = True
                    yield None
                    for each in early:
                        yield each
                    continue
                each = await heard.get()
                if isinstance(each, BaseException):
                    raise each
                if each is None:
                    left -= 1
                elif isinstance(each, ChoiceEvent):
                    if is_begun:
                        yield each
                    else:
                        early.append(each)
        finally:
            for task in tasks:
                task.cancel()

    async def _follow(self, number: int, heard: "asyncio.Queue[ChoiceEvent | BaseException | int | None]") -> None:
        ids, request = self.prompts[number]
        try:
            async with contextlib.aclosing(self.served.engine.follow(ids, request, number)) as events:
                async for each in events:
                    if isinstance(each, Job):
                        self.jobs[number] = each
                        heard.put_nowait(number)
                    else:
                        heard.put_nowait(ChoiceEvent(number * request.num_return_sequences + each.index, each))
            heard.put_nowait(None)
        except asyncio.CancelledError:
            raise
        except BaseException as error:
            heard.put_nowait(error)

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

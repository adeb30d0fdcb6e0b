"""From a body to an answer: what all endpoints that write have in common."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from fastapi import Request
from fastapi.responses import JSONResponse, Response

from wenloom.core.errors import WenloomError
from wenloom.serving.admission import Admission
from wenloom.serving.answer import JSON, AnswerWriter, WholeWriter
from wenloom.serving.errors import APIError, as_api_error
from wenloom.serving.fields import Body
from wenloom.serving.log import Entry
from wenloom.serving.metrics import Metrics, TokenTimes
from wenloom.serving.models import Models, ServedModel
from wenloom.serving.run import ChoiceEvent, EngineRun
from wenloom.serving.settings import RequestLimits
from wenloom.serving.sse import EventStream, data

B = TypeVar("B", bound=Body)
W = TypeVar("W", bound=WholeWriter)
Prepare = Callable[[B, ServedModel, RequestLimits], tuple[EngineRun, W]]
Compute = Callable[[B, ServedModel, RequestLimits], JSON]


@dataclass(eq=False)
class Service:
    """What requests are answered with."""

    models: Models
    limits: RequestLimits
    admission: Admission = field(init=False)
    metrics: Metrics = field(init=False)

    def __post_init__(self):
        self.admission = Admission(self.limits)
        self.metrics = Metrics(self.models, self.admission)

    async def answer(self, http: Request, body: Any, prepare: "Prepare[Any, AnswerWriter]") -> Response:
        """Write, and answer in one piece or in events.

        Args:
            prepare: makes a run of the body, in a thread of its own.

        Raises:
            WenloomError: it cannot be done, and nothing has been sent.
        """
        if not body.stream:
            return await self.whole(http, body, prepare)
        events, answer = await self._begun(http, body, prepare)
        return EventStream(_streamed(events, answer, entry_of(http)))

    async def whole(self, http: Request, body: Any, prepare: "Prepare[Any, Any]") -> Response:
        """Answer in one piece; raises as `answer` does."""
        events, answer = await self._begun(http, body, prepare)
        async with contextlib.aclosing(events):
            async for _ in events:
                pass
        return JSONResponse(answer.whole())

    async def computed(self, http: Request, body: Any, compute: "Compute[Any]") -> Response:
        """Answer with what needs no engine, computed in a thread of its own; raises as `answer` does."""
        served, entry = self.models.find(body.model), entry_of(http)
        entry.model = served.name
        return JSONResponse(await asyncio.to_thread(compute, body, served, self.limits))

    async def _begun(
        self, http: Request, body: Any, prepare: "Prepare[Any, W]"
    ) -> tuple[AsyncGenerator[list[ChoiceEvent], None], W]:
        """A run whose prompts the engine has taken, and what writes its answer."""
        served, entry = self.models.find(body.model), entry_of(http)
        entry.model, entry.note = served.name, noted(body)
        run, answer = await asyncio.to_thread(prepare, body, served, self.limits)
        entry.prompt_tokens = sum(len(prompt.ids) for prompt in run.prompts)
        entry.ticket = self.admission.queue(entry.prompt_tokens)
        return self._watched(await run.begin(), run, entry), answer

    async def _watched(
        self, events: AsyncGenerator[list[ChoiceEvent], None], run: EngineRun, entry: Entry
    ) -> AsyncGenerator[list[ChoiceEvent], None]:
        """Events, timed and counted."""
        times = TokenTimes(self.metrics, run.served.name, entry.began)
        try:
            async with contextlib.aclosing(events):
                async for found in events:
                    entry.release()
                    for each in found:
                        if each.event.token is not None:
                            times.token(each.choice)
                            entry.completion_tokens += 1
                    yield found
        finally:
            self.metrics.ran(run)


async def _streamed(
    events: AsyncGenerator[list[ChoiceEvent], None], answer: AnswerWriter, entry: Entry
) -> AsyncGenerator[bytes, None]:
    """An answer as events; what fails on the way is the last of them."""
    async with contextlib.aclosing(events):
        try:
            for chunk in answer.opening():
                yield _event(chunk)
            async for found in events:
                if parts := [_event(chunk) for each in found for chunk in answer.pieces(each)]:
                    yield b"".join(parts)
                if time.monotonic() > entry.deadline:
                    raise APIError(
                        504, "the request has taken longer than this server allows.", code="deadline_exceeded"
                    )
            yield b"".join([*map(_event, answer.ending()), answer.last])
        except Exception as error:
            told = as_api_error(error)
            entry.refuse(told)
            if not isinstance(error, WenloomError):
                logging.getLogger("uvicorn.error").exception("request %s failed", entry.id)
            yield _event(answer.failure(told))


def _event(chunk: JSON) -> bytes:
    return data(chunk, chunk.get("type"))


def entry_of(http: Request) -> Entry:
    """The line of the log that a request gets."""
    return http.scope["wenloom.entry"]


def noted(body: Any) -> dict[str, Any]:
    """What a client wants noted of a request."""
    names = ("user", "safety_identifier", "metadata")
    return {name: value for name in names if (value := getattr(body, name, None)) is not None}

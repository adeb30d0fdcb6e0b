"""The engine in a thread of its own, for programs built on asyncio."""

import asyncio
import contextlib
import queue
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from typing import Any

from wenloom.core.errors import WenloomError
from wenloom.generation.engine import Engine
from wenloom.generation.events import Event
from wenloom.generation.jobs import Continuation, Job
from wenloom.generation.request import GenerationRequest


class BackgroundEngine:
    """Runs an engine beside an event loop.

    ```python
    with BackgroundEngine(model.engine) as engine:
        async for event in engine.stream("Once", GenerationRequest(max_new_tokens=20)):
            print(event.text, end="")
    ```

    The engine belongs to the thread from then on: nothing else may step it.
    """

    def __init__(self, engine: Engine):
        self._engine = engine
        self._orders: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._listeners: dict[Job, Callable[[], None]] = {}
        self._door, self._closed = threading.Lock(), False
        self._thread = threading.Thread(target=self._run, name="wenloom-engine", daemon=True)
        self._thread.start()

    def __enter__(self) -> "BackgroundEngine":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop; requests that are under way are cancelled."""
        with self._door:
            self._closed = True
            self._orders.put(None)
        self._thread.join()

    async def stream(
        self, prompt: str | Sequence[int], request: GenerationRequest | Mapping[str, Any], seed_index: int = 0
    ) -> AsyncIterator[Event]:
        """Events as they come, scores and finish reasons among them.

        Leaving the loop early, or being cancelled, cancels the request at its next step.

        Raises:
            InputError: the request cannot be run.
            WenloomError: it failed, or the engine is closed.
        """
        async with contextlib.aclosing(self._listen(prompt, request, seed_index)) as events:
            async for event in events:
                if isinstance(event, Event):
                    yield event

    async def complete(
        self, prompt: str | Sequence[int], request: GenerationRequest | Mapping[str, Any], seed_index: int = 0
    ) -> list[Continuation]:
        """All continuations, once they are done, with all that the engine knows of them; raises as `stream` does."""
        found: list[Continuation] = []
        async with contextlib.aclosing(self._listen(prompt, request, seed_index)) as events:
            async for event in events:
                if isinstance(event, Job):
                    found = event.continuations
        return found

    async def _listen(
        self, prompt: str | Sequence[int], request: GenerationRequest | Mapping[str, Any], seed_index: int
    ) -> AsyncGenerator[Event | Job, None]:
        """Events, and the job when it is done."""
        loop, events = asyncio.get_running_loop(), asyncio.Queue[Event | Job | WenloomError]()
        jobs: list[Job] = []

        def tell(event: Event | Job | WenloomError) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens any more
                loop.call_soon_threadsafe(events.put_nowait, event)

        def begin() -> None:
            job = self._engine.attempt(prompt, request, seed_index)
            jobs.append(job)
            following = self._engine.events(job)

            def news() -> None:
                for event in following():
                    tell(event)
                if job.done:
                    self._listeners.pop(job, None)
                    tell(job.error or job)

            self._listeners[job] = news

        def cancel() -> None:
            for job in jobs:
                self._listeners.pop(job, None)
                self._engine.cancel(job)

        with self._door:  # what is put after the end would never be heard of
            if self._closed:
                raise WenloomError("this engine is closed.")
            self._orders.put(begin)
        try:
            while not isinstance(event := await events.get(), Job):
                if isinstance(event, WenloomError):
                    raise event
                yield event
            yield event
        finally:
            self._orders.put(cancel)

    def _run(self) -> None:
        while True:
            wait = not self._listeners
            with contextlib.suppress(queue.Empty):
                while True:
                    order = self._orders.get(block=wait)
                    if order is None:
                        for job in list(self._listeners):
                            self._engine.cancel(job)
                            self._tell(job)
                        return
                    order()
                    wait = False
            if self._listeners:
                try:
                    self._engine.step()
                except BaseException as error:  # no request's own: those who wait are told, the thread goes on
                    for job in self._listeners:
                        job.fail(error)
                        self._engine.cancel(job)
                for job in list(self._listeners):
                    self._tell(job)

    def _tell(self, job: Job) -> None:
        """Pass on what has come; a listener that fails loses its job."""
        try:
            self._listeners[job]()
        except BaseException as error:
            self._listeners.pop(job, None)
            job.fail(error)
            self._engine.cancel(job)

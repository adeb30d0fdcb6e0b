"""The engine in a thread of its own, for programs built on asyncio."""

import asyncio
import contextlib
import queue
import threading
from collections.abc import AsyncIterator, Callable, Sequence

from wenloom.generation.engine import Engine
from wenloom.generation.jobs import Continuation, Job
from wenloom.generation.request import GenerationRequest

Event = tuple[int, int, str]
"""Continuation, token, new text."""


class BackgroundEngine:
    """Runs an engine beside an event loop.

    ```python
    with BackgroundEngine(model.engine) as engine:
        async for index, token, text in engine.stream("Once", GenerationRequest(max_new_tokens=20)):
            print(text, end="")
    ```

    The engine belongs to the thread from then on: nothing else may step it.
    """

    def __init__(self, engine: Engine):
        self._engine = engine
        self._orders: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._listeners: dict[Job, Callable[[], None]] = {}
        self._thread = threading.Thread(target=self._run, name="wenloom-engine", daemon=True)
        self._thread.start()

    def __enter__(self) -> "BackgroundEngine":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop; requests that are under way are cancelled."""
        self._orders.put(None)
        self._thread.join()

    async def stream(self, prompt: str | Sequence[int], request: GenerationRequest) -> AsyncIterator[Event]:
        """Events as they come. Leaving the loop early, or being cancelled, cancels the request at its next step.

        Raises:
            InputError: the request cannot be run.
            WenloomError: it failed.
        """
        loop, events = asyncio.get_running_loop(), asyncio.Queue[Event | BaseException | None]()
        jobs: list[Job] = []

        def tell(event: Event | BaseException | None) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens any more
                loop.call_soon_threadsafe(events.put_nowait, event)

        def begin() -> None:
            try:
                job = self._engine.submit(prompt, request)
            except Exception as error:  # the caller's to handle, not this thread's
                tell(error)
                return
            jobs.append(job)
            following = self._engine.events(job)

            def news() -> None:
                for event in following():
                    tell(event)
                if job.done:
                    del self._listeners[job]
                    tell(job.error)

            self._listeners[job] = news

        def cancel() -> None:
            for job in jobs:
                self._listeners.pop(job, None)
                self._engine.cancel(job)

        self._orders.put(begin)
        try:
            while (event := await events.get()) is not None:
                if isinstance(event, BaseException):
                    raise event
                yield event
        finally:
            self._orders.put(cancel)

    async def complete(self, prompt: str | Sequence[int], request: GenerationRequest) -> list[Continuation]:
        """All continuations, once they are done; raises as `stream` does."""
        found = [Continuation() for _ in range(request.num_return_sequences)]
        async for index, token, text in self.stream(prompt, request):
            found[index].tokens.append(token)
            found[index].text += text
        return found

    def _run(self) -> None:
        while True:
            wait = not self._listeners
            with contextlib.suppress(queue.Empty):
                while True:
                    order = self._orders.get(block=wait)
                    if order is None:
                        for job in list(self._listeners):
                            self._engine.cancel(job)
                            self._listeners[job]()
                        return
                    order()
                    wait = False
            if self._listeners:
                try:
                    self._engine.step()
                except Exception as error:  # such as a lack of memory: those who wait are told, the thread goes on
                    for job in self._listeners:
                        job.error = error
                        self._engine.cancel(job)
                for news in list(self._listeners.values()):
                    news()

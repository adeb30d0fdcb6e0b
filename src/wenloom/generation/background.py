"""The engine in a thread of its own, for programs built on asyncio."""

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from typing import Any, TypeVar

from wenloom.core.errors import WenloomError
from wenloom.generation.engine import Engine
from wenloom.generation.events import Event
from wenloom.generation.jobs import Continuation, Job
from wenloom.generation.request import GenerationRequest

T = TypeVar("T")
Letter = Job | Event | WenloomError | None
"""Of a request: the job once the engine has taken it, its events, and at its end None or why it failed."""
Listener = Callable[[Letter], None]


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
        self._outbox: dict[asyncio.AbstractEventLoop, list[tuple[Listener, Letter]]] = {}
        """What has come in a step, and who is told, by the loop that waits for it: a loop is woken once a step, not once a token."""
        self._door, self._closed = threading.Lock(), False
        self._step_began: float | None = None
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
        """Events as they come, scores and finish reasons among them; leaves and raises as `follow` does."""
        async with contextlib.aclosing(self.follow(prompt, request, seed_index)) as heard:
            async for each in heard:
                if isinstance(each, Event):
                    yield each

    async def complete(
        self, prompt: str | Sequence[int], request: GenerationRequest | Mapping[str, Any], seed_index: int = 0
    ) -> list[Continuation]:
        """All continuations, once they are done, with all that the engine knows of them; raises as `follow` does."""
        found: list[Continuation] = []
        async with contextlib.aclosing(self.follow(prompt, request, seed_index)) as heard:
            async for each in heard:
                if isinstance(each, Job):
                    found = each.continuations
        return found

    async def follow(
        self, prompt: str | Sequence[int], request: GenerationRequest | Mapping[str, Any], seed_index: int = 0
    ) -> AsyncGenerator[Job | Event, None]:
        """The job as soon as the engine has taken it, and then its events; it is done where these end.

        Leaving the loop early, or being cancelled, cancels the request at its next step.

        Raises:
            InputError: the request cannot be run.
            WenloomError: it failed, or the engine is closed.
        """
        heard = asyncio.Queue[Letter]()
        cancel = self.ask(prompt, request, seed_index, heard.put_nowait)
        try:
            while (each := await heard.get()) is not None:
                if isinstance(each, WenloomError):
                    raise each
                yield each
        finally:
            cancel()

    def ask(
        self,
        prompt: str | Sequence[int],
        request: GenerationRequest | Mapping[str, Any],
        seed_index: int,
        told: Listener,
    ) -> Callable[[], None]:
        """Put a request in line whose news are told in this event loop, as they come; returns what cancels it.

        Raises:
            WenloomError: the engine is closed.
        """
        loop, jobs = asyncio.get_running_loop(), list[Job]()

        def tell(what: Letter) -> None:
            self._outbox.setdefault(loop, []).append((told, what))

        def begin() -> None:
            job = self._engine.attempt(prompt, request, seed_index)
            jobs.append(job)
            following = self._engine.events(job)
            if job.error is None:
                tell(job)

            def news() -> None:
                for event in following():
                    tell(event)
                if job.done:
                    self._listeners.pop(job, None)
                    tell(job.error)

            self._listeners[job] = news

        def cancel() -> None:
            for job in jobs:
                self._listeners.pop(job, None)
                self._engine.cancel(job)

        with self._door:  # what is put after the end would never be heard of
            if self._closed:
                raise WenloomError("this engine is closed.")
            self._orders.put(begin)
        return lambda: self._orders.put(cancel)

    async def between_steps(self, work: Callable[[], T]) -> T:
        """What some other work with the model gives, done in the engine's thread while it takes no step.

        Steps wait for it: give it in small parts.

        Raises:
            WenloomError: the engine is closed; or whatever the work raises.
        """
        loop, done = asyncio.get_running_loop(), asyncio.get_running_loop().create_future()

        def tell(result: T | None, error: BaseException | None) -> None:
            if not done.done():  # cancelled meanwhile
                done.set_exception(error) if error is not None else done.set_result(result)

        def order() -> None:
            if done.cancelled():
                return
            result = error = None
            self._step_began = time.monotonic()
            try:
                result = work()
            except BaseException as failure:
                error = failure
            self._step_began = None
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens any more
                loop.call_soon_threadsafe(tell, result, error)

        with self._door:
            if self._closed:
                raise WenloomError("this engine is closed.")
            self._orders.put(order)
        return await done

    @property
    def seconds_in_step(self) -> float:
        """How long the step that is being taken has lasted; 0 between steps."""
        began = self._step_began
        return 0.0 if began is None else time.monotonic() - began

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
                        self._send()
                        return
                    order()
                    wait = False
            self._send()
            if self._listeners:
                self._step_began = time.monotonic()
                try:
                    self._engine.step()
                except BaseException as error:  # no request's own: those who wait are told, the thread goes on
                    for job in self._listeners:
                        job.fail(error)
                        self._engine.cancel(job)
                self._step_began = None
                for job in list(self._listeners):
                    self._tell(job)
                self._send()

    def _send(self) -> None:
        outbox, self._outbox = self._outbox, {}
        for loop, letters in outbox.items():
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens any more
                loop.call_soon_threadsafe(_deliver, letters)

    def _tell(self, job: Job) -> None:
        """Pass on what has come; a listener that fails loses its job."""
        try:
            self._listeners[job]()
        except BaseException as error:
            self._listeners.pop(job, None)
            job.fail(error)
            self._engine.cancel(job)


def _deliver(letters: list[tuple[Listener, Letter]]) -> None:
    for told, what in letters:
        told(what)

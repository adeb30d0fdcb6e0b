"""How long a request lives: its body is read within bounds, and it ends with its client or its deadline."""

import asyncio
import contextlib
import time
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from wenloom.serving.errors import APIError
from wenloom.serving.log import Entry

_BODY_SECONDS = 30.0
"""In which a body has to come."""
_GRACE = 5.0
"""Seconds beyond the deadline in which a stream may still say that it has passed."""


class Lifetime:
    """Gives an app whole bodies, and cancels it where nobody waits for the answer any more.

    Args:
        app: what answers.
        most_bytes: size of a body at most, by its path.
    """

    def __init__(self, app: ASGIApp, most_bytes: Callable[[str], int]):
        self._app, self._most_bytes = app, most_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        entry: Entry = scope["wenloom.entry"]
        body = await self._read(scope, receive)
        if body is None:
            return
        if entry.body is not None:
            entry.body = body.decode(errors="replace")
        left, is_read, is_begun = asyncio.Event(), False, False

        async def replay() -> Message:
            nonlocal is_read
            if not is_read:
                is_read = True
                return {"type": "http.request", "body": body, "more_body": False}
            await left.wait()
            return {"type": "http.disconnect"}

        async def noted(message: Message) -> None:
            nonlocal is_begun
            is_begun = True
            await send(message)

        work = asyncio.ensure_future(self._app(scope, replay, noted))
        watch = asyncio.create_task(_disconnected(receive))
        try:
            seconds = entry.deadline - time.monotonic()
            done, _ = await asyncio.wait([work, watch], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if not done and is_begun:
                done, _ = await asyncio.wait([work, watch], timeout=_GRACE, return_when=asyncio.FIRST_COMPLETED)
        finally:
            left.set()
            watch.cancel()
            if not work.done():
                work.cancel()
                await asyncio.wait([work])
        if work.cancelled():
            if not done and not is_begun:
                raise APIError(504, "the request has taken longer than this server allows.", code="deadline_exceeded")
            return
        work.result()

    async def _read(self, scope: Scope, receive: Receive) -> bytes | None:
        """The whole body; None where the client went away.

        Raises:
            APIError: it is too large, or takes too long.
        """
        most = self._most_bytes(scope["path"])
        too_large = APIError(413, f"the body is larger than {most / 1e6:g} MB.", code="request_too_large")
        length = dict(scope["headers"]).get(b"content-length", b"")
        if length.isdigit() and (len(length) > 18 or int(length) > most):
            raise too_large
        parts, size = [], 0
        deadline = min(scope["wenloom.entry"].deadline, time.monotonic() + _BODY_SECONDS)
        while True:
            with contextlib.suppress(TimeoutError):
                message = await asyncio.wait_for(receive(), deadline - time.monotonic())
                if message["type"] == "http.disconnect":
                    return None
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                if size > most:
                    raise too_large
                if not message.get("more_body"):
                    return b"".join(parts)
                continue
            raise APIError(408, "the body did not come in time.", code="timeout")


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass

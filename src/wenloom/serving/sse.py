"""Server-sent events, as the OpenAI API writes them."""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator
from typing import Any

from fastapi.responses import StreamingResponse
from starlette.types import Message, Send

PING_SECONDS = 15.0
"""A comment is sent after so long without an event: proxies close connections that say nothing, often after 60 s."""
PING = b": ping\n\n"
DONE = b"data: [DONE]\n\n"
_as_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
"""Made once: `json.dumps` makes an encoder each time that it is called in this way."""


def data(document: Any, event: str | None = None) -> bytes:
    """One event."""
    name = "" if event is None else f"event: {event}\n"
    return f"{name}data: {_as_json(document)}\n\n".encode("utf-8", "backslashreplace")


class EventStream(StreamingResponse):
    """An answer of many events, and comments while there are none.

    What is sent goes straight from the events to the connection: a queue between them costs a change of tasks a token.
    """

    def __init__(self, events: AsyncGenerator[bytes, None], ping_seconds: float = PING_SECONDS):
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}  # nginx passes on what comes at once
        super().__init__(events, headers=headers, media_type="text/event-stream")
        self._events, self._ping_seconds = events, ping_seconds

    async def stream_response(self, send: Send) -> None:
        """Headers, events, the end."""
        now = asyncio.get_running_loop().time
        sent, is_sending = now(), False

        async def ping() -> None:
            nonlocal sent
            while True:
                await asyncio.sleep(sent + self._ping_seconds - now())
                if not is_sending and now() >= sent + self._ping_seconds:
                    await send(_body(PING))
                    sent = now()
                elif is_sending:  # to a client that does not read
                    sent = now()

        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        pinging = asyncio.create_task(ping())
        try:
            async with contextlib.aclosing(self._events):
                async for each in self._events:
                    is_sending = True
                    await send(_body(each))
                    is_sending, sent = False, now()
        finally:
            pinging.cancel()
            await asyncio.wait([pinging])
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _body(part: bytes) -> Message:
    return {"type": "http.response.body", "body": part, "more_body": True}

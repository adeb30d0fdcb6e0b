"""Server-sent events, as the OpenAI API writes them."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

from fastapi.responses import StreamingResponse

PING_SECONDS = 15.0
"""A comment is sent after so long without an event: proxies close connections that say nothing, often after 60 s."""
PING = b": ping\n\n"
DONE = b"data: [DONE]\n\n"


def data(document: Any, event: str | None = None) -> bytes:
    """One event."""
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    name = "" if event is None else f"event: {event}\n"
    return f"{name}data: {text}\n\n".encode("utf-8", "backslashreplace")


async def with_pings(events: AsyncIterator[bytes], seconds: float = PING_SECONDS) -> AsyncGenerator[bytes, None]:
    """Events, and comments while there are none."""
    pending: asyncio.Future[bytes] | None = None
    try:
        while True:
            pending = asyncio.ensure_future(anext(events))  # pyright: ignore[reportArgumentType]
            while not (await asyncio.wait([pending], timeout=seconds))[0]:
                yield PING
            try:
                yield pending.result()
            except StopAsyncIteration:
                return
    finally:
        if pending is not None and not pending.done():
            pending.cancel()
            await asyncio.wait([pending])


class EventStream(StreamingResponse):
    """An answer of many events."""

    def __init__(self, events: AsyncIterator[bytes]):
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}  # nginx passes on what comes at once
        super().__init__(with_pings(events), headers=headers, media_type="text/event-stream")

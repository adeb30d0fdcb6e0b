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
    ready: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def pass_on() -> None:
        try:
            async for each in events:
                ready.put_nowait(each)
        finally:
            ready.put_nowait(None)

    passing = asyncio.create_task(pass_on())
    try:
        while True:
            try:
                async with asyncio.timeout(seconds):
                    each = await ready.get()
            except TimeoutError:
                each = PING
            if each is None:
                await passing
                return
            yield each
    finally:
        passing.cancel()
        await asyncio.wait([passing])


class EventStream(StreamingResponse):
    """An answer of many events."""

    def __init__(self, events: AsyncIterator[bytes]):
        headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}  # nginx passes on what comes at once
        super().__init__(with_pings(events), headers=headers, media_type="text/event-stream")

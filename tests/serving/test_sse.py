"""Server-sent events: whole, in order, with a comment where nothing else comes."""

import asyncio
from collections.abc import AsyncGenerator

import pytest
from starlette.types import Message

from wenloom.serving.sse import PING, EventStream


@pytest.mark.parametrize("n_silent", [0, 1, 3])
def test_a_comment_comes_where_no_event_does(n_silent: int):
    """The second event waits for as many comments, and the headers come before all else."""

    async def sent() -> list[Message]:
        found, pinged = list[Message](), asyncio.Event()

        async def send(message: Message) -> None:
            found.append(message)
            if sum(each.get("body") == PING for each in found) >= n_silent:
                pinged.set()

        async def events() -> AsyncGenerator[bytes, None]:
            yield b"data: 1\n\n"
            if n_silent:
                await pinged.wait()
            yield b"data: 2\n\n"

        await EventStream(events(), ping_seconds=0.001 if n_silent else 60).stream_response(send)
        return found

    start, *parts, end = asyncio.run(sent())
    assert start["type"] == "http.response.start" and end == {
        "type": "http.response.body",
        "body": b"",
        "more_body": False,
    }
    bodies = [each["body"] for each in parts]
    assert [each for each in bodies if each != PING] == [b"data: 1\n\n", b"data: 2\n\n"] and all(
        each["more_body"] for each in parts
    )
    assert bodies.count(PING) >= n_silent and bodies[0] != PING


def test_a_client_that_does_not_read_gets_no_comments_and_one_that_leaves_ends_the_events():
    async def run() -> tuple[list[bytes], bool]:
        found, is_stuck, is_closed = list[bytes](), asyncio.Event(), False

        async def send(message: Message) -> None:
            if body := message.get("body"):
                found.append(body)
                is_stuck.set()
                await asyncio.Event().wait()  # its buffer is full for ever

        async def events() -> AsyncGenerator[bytes, None]:
            nonlocal is_closed
            try:
                while True:
                    yield b"data: 1\n\n"
            finally:
                is_closed = True

        work = asyncio.create_task(EventStream(events(), ping_seconds=0.0001).stream_response(send))
        await is_stuck.wait()
        for _ in range(100):
            await asyncio.sleep(0.0001)
        work.cancel()
        await asyncio.wait([work])
        return found, is_closed

    assert asyncio.run(run()) == ([b"data: 1\n\n"], True)

"""The engine beside an event loop: many users at once, who come, fail and leave."""

import asyncio

import pytest

from wenloom.core.errors import InputError, WenloomError
from wenloom.generation.background import BackgroundEngine
from wenloom.generation.engine import Engine
from wenloom.generation.request import GenerationRequest

from ..conftest import random_decoder, tiny_config

DECODER = random_decoder(tiny_config())


def test_many_users_get_what_each_would_get_alone():
    requests = [
        GenerationRequest(max_new_tokens=20, seed=seed, num_return_sequences=2, eos_token_id=()) for seed in range(8)
    ]
    engine = Engine(DECODER)
    expected = [engine.submit([5, 6, seed + 7], request) for seed, request in enumerate(requests)]
    engine.run(expected)

    async def everybody() -> list[list[list[int]]]:
        with BackgroundEngine(Engine(DECODER, max_slots=5)) as background:
            asked = (background.complete([5, 6, seed + 7], request) for seed, request in enumerate(requests))
            return [[each.tokens for each in found] for found in await asyncio.gather(*asked)]

    found = asyncio.run(everybody())
    assert found == [[each.tokens for each in job.result()] for job in expected]


def test_who_fails_or_leaves_disturbs_nobody():
    engine = Engine(DECODER, max_slots=4)
    endless = GenerationRequest(max_new_tokens=10_000, eos_token_id=())

    async def scene() -> list[int]:
        background = BackgroundEngine(engine)
        with pytest.raises(InputError, match="token 999"):
            await background.complete([999], endless)
        async for _ in background.stream([5], endless):
            break
        waiting = asyncio.create_task(background.complete([6], endless))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        found = await background.complete([7], GenerationRequest(max_new_tokens=5, seed=1, eos_token_id=()))
        left = asyncio.create_task(background.complete([8], endless))
        await asyncio.sleep(0)
        await asyncio.to_thread(background.close)
        await left
        return found[0].tokens

    assert len(asyncio.run(scene())) == 5
    assert engine.slots_in_use == 0


def test_nothing_that_the_engine_knows_is_lost_on_the_way():
    """Finish reasons, log-probabilities and beams' scores, of whole answers and of streams."""
    engine = Engine(DECODER)
    requests = [
        GenerationRequest(max_new_tokens=6, seed=1, logprobs=2, eos_token_id=()),
        GenerationRequest(max_new_tokens=6, num_beams=3, num_return_sequences=2, do_sample=False, logprobs=0),
        GenerationRequest(max_new_tokens=6, seed=1, allowed_token_ids=(7,), suppress_tokens=(7,), eos_token_id=()),
    ]
    jobs = [engine.submit([5, 6], request) for request in requests]
    engine.run(jobs)

    async def scene() -> None:
        with BackgroundEngine(Engine(DECODER)) as background:
            for job, request in zip(jobs, requests, strict=True):
                found = await background.complete([5, 6], request)
                for mine, theirs in zip(found, job.continuations, strict=True):
                    assert (mine.tokens, mine.finish_reason) == (theirs.tokens, theirs.finish_reason)
                    assert [len(each.top) for each in mine.scores] == [len(each.top) for each in theirs.scores]
                    assert mine.sum_logprobs == pytest.approx(theirs.sum_logprobs, abs=1e-4)
                events = [event async for event in background.stream([5, 6], request)]
                for index, theirs in enumerate(job.continuations):
                    mine = [event for event in events if event.index == index]
                    assert [event.token for event in mine if event.token is not None] == theirs.tokens
                    assert mine[-1].finish_reason == theirs.finish_reason
                    scores = [event.score.logprob for event in mine if event.score is not None]
                    assert scores == pytest.approx([score.logprob for score in theirs.scores], abs=1e-4)
        with pytest.raises(WenloomError, match="closed"):
            await background.complete([5], requests[0])

    asyncio.run(scene())

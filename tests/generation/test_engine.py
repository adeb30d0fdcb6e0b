"""The engine: a request's tokens and scores are the same alone, in a batch, in chunks, after a prefix hit, guessed."""

import json
import random
import re
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wenloom.core.errors import InputError
from wenloom.generation.engine import Engine
from wenloom.generation.jobs import Continuation
from wenloom.generation.request import GenerationRequest
from wenloom.model.config import reshaped
from wenloom.model.decoder import Decoder
from wenloom.model.parts import Rope
from wenloom.runtime.window import window_start
from wenloom.tokens.tokenizer import TextTokenizer

from ..conftest import random_decoder, tiny_config

ARCHITECTURES = ["llama", "qwen3", "gpt2", "gpt_neox"]
DECODERS = {name: random_decoder(tiny_config(architecture=name)) for name in ARCHITECTURES}
DRAFT = random_decoder(tiny_config(), seed=5)


def prompt_of(length: int, seed: int) -> list[int]:
    draw = random.Random(seed)
    return [draw.randrange(2, 400) for _ in range(length)]


def alone(decoder: Decoder, prompt: list[int], request: GenerationRequest, **engine: object) -> list[Continuation]:
    made = Engine(decoder, draft_model=DRAFT, **engine)  # pyright: ignore[reportArgumentType]
    job = made.submit(prompt, request)
    made.run([job])
    assert made.slots_in_use == 0
    return job.result()


def counted_reads(engine: Engine) -> list[int]:
    """A list that fills with the number of tokens of every step of the engine's model."""
    found, model = [], engine.models[0]
    original = model.read

    def read(tokens: list[int], *rest: object) -> object:
        found.append(len(tokens))
        return original(tokens, *rest)  # pyright: ignore

    model.read = read  # pyright: ignore
    return found


def by_hand(decoder: Decoder, prompt: list[int], n: int) -> list[int]:
    """Greedy decoding without any cache: one full pass over what is visible, per token."""
    tokens = list(prompt)
    with torch.inference_mode():
        while len(tokens) < len(prompt) + n:
            visible = tokens[window_start(len(tokens), decoder.config.context_length) :]
            tokens.append(int(decoder(torch.tensor([visible]))[0, -1].argmax()))
    return tokens[len(prompt) :]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_greedy_is_the_most_probable_token_each_time(architecture: str):
    """60 tokens run over the context of 32, so the view moves on several times."""
    decoder, request = DECODERS[architecture], GenerationRequest(max_new_tokens=60, do_sample=False, eos_token_id=())
    assert alone(decoder, [5, 6, 7], request)[0].tokens == by_hand(decoder, [5, 6, 7], 60)


REQUESTS = st.fixed_dictionaries(
    {"max_new_tokens": st.integers(1, 30), "logprobs": st.just(2), "seed": st.integers(0, 99)},
    optional={
        "do_sample": st.booleans(), "num_return_sequences": st.integers(1, 3),
        "repetition_penalty": st.floats(1.05, 2), "no_repeat_ngram_size": st.integers(1, 3),
        "frequency_penalty": st.floats(0.1, 2), "min_new_tokens": st.just(1), "logit_bias": st.just({7: 3.0}),
        "bad_words_ids": st.just([[3], [4, 5]]), "prompt_lookup_num_tokens": st.integers(1, 4),
        "allowed_token_ids": st.just(tuple(range(100, 160))), "prompt_logprobs": st.just(1),
        "watermark_key": st.just(5),
    },
)  # fmt: skip


def made_valid(options: dict[str, object]) -> GenerationRequest:
    if options.get("do_sample") is False and options.get("num_return_sequences", 1) != 1:
        options = {**options, "num_beams": 4}
        options.pop("prompt_lookup_num_tokens", None)
    return GenerationRequest(**options)  # pyright: ignore[reportArgumentType]


def assert_same(ours: list[Continuation], others: list[Continuation]) -> None:
    assert [each.tokens for each in ours] == [each.tokens for each in others]
    assert [each.finish_reason for each in ours] == [each.finish_reason for each in others]
    for a, b in zip(ours, others, strict=True):
        assert [each.logprob for each in a.scores] == pytest.approx([each.logprob for each in b.scores], abs=1e-4)


@settings(max_examples=20)
@given(
    requests=st.lists(st.tuples(REQUESTS, st.integers(1, 45)), min_size=2, max_size=4),
    architecture=st.sampled_from(ARCHITECTURES),
    chunk=st.sampled_from([17, 24, 512]),
    cache_dtype=st.sampled_from([None, torch.int8]),
)
def test_a_request_does_not_depend_on_what_runs_beside_it(
    requests: list[tuple[dict[str, object], int]], architecture: str, chunk: int, cache_dtype: torch.dtype | None
):
    """Alone with an empty engine; then all together, in chunks, with few slots, twice (so that prefixes are known)."""
    decoder = DECODERS[architecture]
    asked = [(prompt_of(length, index), made_valid(options)) for index, (options, length) in enumerate(requests)]
    engine = Engine(decoder, chunk=chunk, max_slots=6, cache_dtype=cache_dtype)
    for _ in range(2):
        jobs = [engine.submit(prompt, request) for prompt, request in asked]
        engine.run(jobs)
        for job, (prompt, request) in zip(jobs, asked, strict=True):
            assert_same(job.result(), alone(decoder, prompt, request, prefix_bytes=0, cache_dtype=cache_dtype))
            if cache_dtype is not None:
                continue  # without a cache nothing is quantized
            plain = replace(request, prompt_lookup_num_tokens=0, use_cache=False)
            assert_same(job.result(), alone(decoder, prompt, plain, prefix_bytes=0))
    assert engine.slots_in_use == 0


@settings(max_examples=15)
@given(
    seed=st.integers(0, 99),
    guesses=st.integers(1, 6),
    length=st.integers(1, 40),
    sample=st.booleans(),
    own=st.booleans(),
)
def test_guessing_ahead_changes_nothing(seed: int, guesses: int, length: int, sample: bool, own: bool):
    decoder, prompt = DECODERS["llama"], prompt_of(length, seed)
    request = GenerationRequest(max_new_tokens=40, do_sample=sample, seed=seed, eos_token_id=(), logprobs=0)
    expected = alone(decoder, prompt, request)
    engine = Engine(decoder, draft_model=decoder if own else DRAFT)
    jobs = [engine.submit(prompt, replace(request, num_assistant_tokens=guesses)) for _ in range(2)]
    engine.run(jobs)
    for job in jobs:
        assert_same(job.result(), expected)
    assert_same(alone(decoder, prompt, replace(request, prompt_lookup_num_tokens=guesses)), expected)


FORMED = st.fixed_dictionaries(
    {"max_new_tokens": st.integers(1, 25), "logprobs": st.just(0), "seed": st.integers(0, 99)},
    optional={
        "do_sample": st.booleans(),
        "form": st.sampled_from([
            {"regex": "(the|a) [a-z]{2,30}[.]"}, {"choices": ("the lamp", "the storm", "春眠")},
            {"json_schema": '{"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}'},
        ]),
        "second": st.sampled_from([
            {"num_assistant_tokens": 3}, {"prompt_lookup_num_tokens": 2}, {"guidance_scale": 1.5},
            {"contrastive_beta": 0.5}, {"num_beams": 3},
        ]),
    },
)  # fmt: skip


@settings(max_examples=15)
@given(
    requests=st.lists(st.tuples(FORMED, st.integers(1, 30)), min_size=2, max_size=4), chunk=st.sampled_from([17, 512])
)
def test_forms_guesses_drafts_and_beams_in_one_batch(
    tokenizer: TextTokenizer, requests: list[tuple[dict[str, Any], int]], chunk: int
):
    """The same alone as together, also where the beginnings are known; and as its grammar says, wherever there was room for it."""
    decoder = DECODERS["llama"]
    asked = []
    for index, (options, length) in enumerate(requests):
        options = {**options, **options.get("form", {}), **options.get("second", {})}
        options = {name: value for name, value in options.items() if name not in ("form", "second")}
        if "num_beams" in options:
            options["do_sample"] = False
        asked.append((prompt_of(length, index), GenerationRequest(**options)))
    engine = Engine(decoder, tokenizer, draft_model=DRAFT, chunk=chunk, max_slots=8)
    for _ in range(2):
        jobs = [engine.submit(prompt, request) for prompt, request in asked]
        engine.run(jobs)
        for job, (prompt, request) in zip(jobs, asked, strict=True):
            assert_same(job.result(), alone(decoder, prompt, request, tokenizer=tokenizer, prefix_bytes=0))
            found = job.result()[0]
            if request.constraint and found.finish_reason == "stop":
                assert request.regex is None or re.fullmatch(request.regex, found.text)
                assert not request.choices or found.text in request.choices
                assert request.json_schema is None or isinstance(json.loads(found.text)["a"], int)
    assert engine.slots_in_use == 0


def test_a_draft_that_is_right_saves_steps():
    """A model that drafts for itself is always right: a step then gives all guesses and one more."""
    request = GenerationRequest(max_new_tokens=24, seed=1, eos_token_id=(), num_assistant_tokens=5)
    engine = Engine(DECODERS["llama"], draft_model=DECODERS["llama"])
    read = counted_reads(engine)
    job = engine.submit([5, 6, 7], request)
    engine.run([job])
    assert read == [8, 6, 6, 6] and len(job.result()[0].tokens) == 24


@pytest.mark.parametrize("kind", ["dynamic", "longrope"])
def test_where_rotary_frequencies_depend_on_the_length(kind: str):
    factors = dict(short_factor=(1.0,) * 4, long_factor=(3.0, 4.0, 5.0, 6.0), original_context_length=10)
    rope = Rope(8, kind=kind, factor=2.0, **(factors if kind == "longrope" else {}))  # pyright: ignore
    decoder = random_decoder(reshaped(tiny_config(context_length=16), positions={"rope": rope}))
    request = GenerationRequest(max_new_tokens=30, do_sample=False, eos_token_id=())
    prompts = [prompt_of(n, n) for n in (2, 5, 21)]
    engine = Engine(decoder, chunk=17)
    jobs = [engine.submit(prompt, request) for prompt in prompts]
    engine.run(jobs)
    for job, prompt in zip(jobs, prompts, strict=True):
        assert job.result()[0].tokens == alone(decoder, prompt, replace(request, use_cache=False))[0].tokens


def test_a_known_beginning_is_not_read_again():
    decoder = random_decoder(tiny_config(context_length=256))
    engine, request = Engine(decoder, chunk=1000), GenerationRequest(max_new_tokens=1, do_sample=False)
    shared, read = prompt_of(150, 1), counted_reads(engine)
    first = engine.submit([*shared, 3], request)
    engine.run([first])
    again, other = engine.submit([*shared, 3], request), engine.submit([*shared, 9, 8, 7], request)
    engine.run([again, other])
    assert read == [151, (151 - 128) + (153 - 128)]
    assert again.result()[0].tokens == first.result()[0].tokens
    several = engine.submit(prompt_of(100, 2), replace(request, do_sample=True, num_return_sequences=4))
    read.clear()
    engine.run([several])
    assert read == [100, 3 * 4]


def test_a_text_that_decodes_waits_for_128_tokens_of_a_prompt_and_no_more():
    decoder = random_decoder(tiny_config(context_length=1024))
    request = GenerationRequest(max_new_tokens=12, do_sample=False, eos_token_id=())
    engine, prompt = Engine(decoder), prompt_of(700, 2)
    read = counted_reads(engine)
    writing = engine.submit([9, 8, 7], request)
    for _ in range(3):
        engine.step()
    read.clear()
    long = engine.submit(prompt, request)
    engine.run([writing, long])
    assert read[:6] == [1 + 128] * 5 + [1 + 60]
    for job, ids in ((writing, [9, 8, 7]), (long, prompt)):
        assert job.result()[0].tokens == alone(decoder, ids, request)[0].tokens
    read.clear()
    engine.run([engine.submit(prompt_of(700, 3), request)])
    assert read[:2] == [512, 188]  # nobody waits


def test_the_prefix_cache_stays_within_its_bound():
    decoder = random_decoder(tiny_config(context_length=256))
    engine = Engine(decoder, prefix_bytes=200_000)
    for seed in range(30):
        job = engine.submit(prompt_of(200, seed), GenerationRequest(max_new_tokens=2))
        engine.run([job])
        assert engine.models[0].prefixes.n_bytes <= 200_000
    assert engine.models[0].prefixes.n_bytes > 100_000


def test_cancelled_requests_leave_nothing_behind():
    """1,000 cancellations at random moments, of every strategy; the others go on as if nothing had been."""
    decoder, draw = DECODERS["llama"], random.Random(0)
    kinds = [
        dict(), dict(num_beams=3), dict(num_return_sequences=3), dict(do_sample=False, penalty_alpha=0.6, top_k=4),
        dict(guidance_scale=2.0), dict(num_assistant_tokens=3), dict(prompt_lookup_num_tokens=3),
    ]  # fmt: skip
    engine = Engine(decoder, draft_model=DRAFT, max_slots=12, chunk=20)
    steady = GenerationRequest(max_new_tokens=25, seed=3, eos_token_id=())
    expected = alone(decoder, [9, 8, 7], steady)[0].tokens
    jobs, cancelled, finished = [], 0, 0
    kept = engine.submit([9, 8, 7], steady)
    while cancelled < 1000:
        options = draw.choice(kinds)
        jobs.append(
            engine.submit(prompt_of(draw.randrange(1, 40), cancelled), GenerationRequest(max_new_tokens=20, **options))
        )  # pyright: ignore
        for _ in range(draw.randrange(3)):
            engine.step()
        if draw.random() < 0.9 and jobs:
            job = jobs.pop(draw.randrange(len(jobs)))
            cancelled += not job.done
            engine.cancel(job)
            assert job.done and all(each.finish_reason for each in job.continuations)
        if kept.done:
            assert kept.result()[0].tokens == expected
            kept, finished = engine.submit([9, 8, 7], steady), finished + 1
    for job in [*jobs, kept]:
        engine.cancel(job)
    assert finished > 5 and engine.slots_in_use == 0 and not engine.step()


def test_a_failing_request_fails_alone():
    decoder = DECODERS["llama"]
    engine, request = Engine(decoder, max_slots=4), GenerationRequest(max_new_tokens=10, seed=1, eos_token_id=())
    impossible = engine.submit([5], replace(request, allowed_token_ids=(7,), suppress_tokens=(7,)))
    fine = engine.submit([5, 6], request)
    engine.run([impossible, fine])
    assert impossible.result()[0].ended_by == "dead end"
    assert fine.result()[0].tokens == alone(decoder, [5, 6], request)[0].tokens
    for prompt, message in (([], "at least one token"), ([400], "token 400"), ([-1], "token -1")):
        with pytest.raises(InputError, match=message):
            engine.submit(prompt, request)
    with pytest.raises(InputError, match="room for"):
        engine.submit([5], replace(request, num_beams=5))
    with pytest.raises(InputError, match="second, smaller model"):
        engine.submit([5], replace(request, num_assistant_tokens=2))
    with pytest.raises(InputError, match="tokenizer="):
        engine.submit([5], replace(request, stop_strings=("x",)))
    with pytest.raises(InputError, match="token 999"):
        engine.submit([5], replace(request, suppress_tokens=(999,)))
    assert engine.slots_in_use == 0


def test_broken_weights_are_said():
    decoder = random_decoder(tiny_config(), seed=3)
    with torch.no_grad():
        decoder.final_norm.weight.fill_(float("nan"))  # pyright: ignore[reportCallIssue]
    with pytest.raises(Exception, match="not numbers"):
        alone(decoder, [5], GenerationRequest())


def test_scores_are_those_of_a_plain_pass():
    decoder, prompt = DECODERS["qwen3"], prompt_of(20, 3)
    request = GenerationRequest(max_new_tokens=10, seed=2, logprobs=3, prompt_logprobs=2, eos_token_id=(), top_k=5)
    engine = Engine(decoder)
    job = engine.submit(prompt, request)
    engine.run([job])
    tokens = prompt + job.result()[0].tokens
    with torch.inference_mode():
        logprobs = decoder(torch.tensor([tokens]))[0].double().log_softmax(-1)
    assert job.prompt_scores[0] is None
    for position, found in enumerate([*job.prompt_scores[1:], *job.result()[0].scores], 1):
        assert found is not None and found.token == tokens[position]
        assert found.logprob == pytest.approx(float(logprobs[position - 1, tokens[position]]), abs=1e-4)
        best = logprobs[position - 1].topk(len(found.top))
        assert [token for token, _ in found.top] == best.indices.tolist()


@given(st.integers(1, 2000), st.integers(1, 64))
def test_view_fits_and_moves_by_halves(length: int, context: int):
    start = window_start(length, context)
    assert 0 < length - start <= context and start % max(1, context // 2) == 0
    assert start == 0 or length - start > context - max(1, context // 2)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_keys_and_values_in_any_number_type(dtype: torch.dtype):
    """Some of them the compiled step does not know; then PyTorch writes."""
    decoder, request = DECODERS["llama"], GenerationRequest(max_new_tokens=20, do_sample=False, eos_token_id=())
    found = alone(decoder, [5, 6, 7], request, cache_dtype=dtype)[0].tokens
    assert len(found) == 20
    if dtype == torch.float64:
        assert found == by_hand(decoder, [5, 6, 7], 20)

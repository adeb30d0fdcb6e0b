"""One request's failure is its own: whatever breaks, the neighbours' texts are as if alone, and no slot is lost."""

import gc
import random
import resource
import shutil
import sys
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import pytest
import torch

from wenloom.core.errors import InputError, WenloomError
from wenloom.generation import token_selection
from wenloom.generation.engine import Engine
from wenloom.generation.grammars import Grammars, Matcher
from wenloom.generation.jobs import Continuation, Job
from wenloom.generation.processors import Processors
from wenloom.generation.request import GenerationRequest
from wenloom.generation.stream import Spelling
from wenloom.tokens.prepare import prepare
from wenloom.tokens.tokenizer import TextTokenizer

from ..conftest import random_decoder, tiny_config

DECODER = random_decoder(tiny_config(context_length=64))


class Panic(BaseException):
    """As Rust code raises it through its bindings: not even an Exception."""


FAULTS = [
    ValueError("odd"), KeyError("k"), RuntimeError("broken"), MemoryError(), RecursionError("deep"), Panic("index out of bounds"),
    StopIteration(), AssertionError(), OSError(28, "no space left on device"), UnicodeDecodeError("utf-8", b"x", 0, 1, "odd"),
    TypeError("\x1b[31m" + "x" * 5000), Exception(), InputError("no."),
]  # fmt: skip
POISON_TEXT, POISON_READ, POISON_KEY, POISON_FORM = 397, 398, 666, "[a-z]{1,40}poison"
"""Tokens, a watermark's key and a pattern that break the tokenizer, the model, the processors and the grammar."""


def breaks(draw: random.Random) -> BaseException:
    fault = draw.choice(FAULTS)
    return type(fault)(*fault.args)  # one of its own: a raised one holds on to what it passed through


def faulty_engine(
    tokenizer: TextTokenizer, draw: random.Random, monkeypatch: pytest.MonkeyPatch, **more: Any
) -> Engine:
    """An engine in which everything breaks that has to do with the poison."""
    engine = Engine(DECODER, tokenizer, **more)

    class FaultySpelling(Spelling):
        def __call__(self, tokens: list[int]) -> str:
            if POISON_TEXT in tokens and draw.random() < 0.7:
                raise breaks(draw)
            return super().__call__(tokens)

    class FaultyMatcher(Matcher):
        def __init__(self, good: Matcher):
            self._good, self.left = good, draw.randrange(4)

        def allowed(self, vocab_size: int) -> torch.Tensor:
            self.left -= 1
            if self.left < 0:
                raise breaks(draw)
            return self._good.allowed(vocab_size)

        def advance(self, token: int) -> None:
            self._good.advance(token)

        def ending(self, most: int) -> list[int] | None:
            return self._good.ending(most)

        def try_advance(self, token: int) -> bool:
            return self._good.copy().try_advance(token)

        @property
        def complete(self) -> bool:
            return self._good.complete

        def copy(self) -> Matcher:
            return self

    class FaultyForms:
        def __init__(self, good: Grammars):
            self.good = good

        def matcher(self, kind: str, source: str) -> Matcher:
            found = self.good.matcher(kind, source)
            return FaultyMatcher(found) if source == POISON_FORM else found

    class FaultyProcessors(Processors):
        def apply(self, *arguments: Any) -> torch.Tensor:
            if self._request.watermark_key == POISON_KEY and draw.random() < 0.4:
                raise breaks(draw)
            return super().apply(*arguments)

    monkeypatch.setattr(token_selection, "Processors", FaultyProcessors)
    forms = engine.vocabulary.grammars
    engine.vocabulary.grammars = lambda endings: FaultyForms(forms(endings))  # pyright: ignore
    engine.vocabulary._spelling = FaultySpelling(tokenizer)  # pyright: ignore
    read = engine.models[0].read

    def faulty_read(tokens: list[int], *rest: Any) -> Any:
        if POISON_READ in tokens and draw.random() < 0.7:
            raise breaks(draw)
        return read(tokens, *rest)

    engine.models[0].read = faulty_read  # pyright: ignore
    return engine


HEALTHY: list[dict[str, Any]] = [
    {}, {"do_sample": False}, {"num_beams": 2, "do_sample": False}, {"num_return_sequences": 2}, {"regex": "[a-z]{2,8}"},
    {"stop_strings": ("e", "<|endoftext|>")}, {"prompt_lookup_num_tokens": 2}, {"logprobs": 1, "top_k": 5}, {"watermark_key": 4},
    {"json_schema": {"type": "boolean"}}, {"do_sample": False, "penalty_alpha": 0.6, "top_k": 3}, {"guidance_scale": 1.5},
    {"self_debias": ("a lamp", "dusk")},
]  # fmt: skip
SICK: list[tuple[list[Any], dict[str, Any]]] = [
    ([POISON_TEXT], {}), ([5], {"logit_bias": {POISON_TEXT: 30}}), ([POISON_READ], {}), ([5], {"logit_bias": {POISON_READ: 30}}),
    ([5, 6], {"watermark_key": POISON_KEY}), ([5], {"watermark_key": POISON_KEY, "num_beams": 2, "do_sample": False}),
    ([5], {"regex": POISON_FORM}), ([5], {"regex": POISON_FORM, "num_return_sequences": 2}), ([5], {"stop_strings": [5]}),
    ([None], {}), ([10**9], {}), ([], {}), ([5], {"regex": "("}), ([5], {"max_new_tokens": "many"}), ([5], {"eos_token_id": [-1]}),
    ([5], {"nonsense": 1}), ([5], {"adapter": "none"}), ([5], {"num_beams": 99}),
]  # fmt: skip


def healthy(draw: random.Random) -> tuple[list[int], dict[str, Any]]:
    number = draw.randrange(60)
    inner = random.Random(number)
    prompt = [inner.randrange(2, 390) for _ in range(inner.randrange(1, 40))]
    options = {"max_new_tokens": 6, "seed": number, "suppress_tokens": [POISON_TEXT, POISON_READ]}
    return prompt, {**options, **HEALTHY[number % len(HEALTHY)]}


def outcome(found: list[Continuation]) -> list[tuple[Any, ...]]:
    return [(each.tokens, each.text, each.finish_reason) for each in found]


def soak(
    n_requests: int,
    tokenizer: TextTokenizer,
    monkeypatch: pytest.MonkeyPatch,
    watch: Callable[[int], None] = lambda _: None,
    seed: int = 0,
) -> dict[str, int]:
    """Run so many requests, about a third of them sick, with consumers that break off and cancels at random."""
    draw = random.Random(seed)
    plain = Engine(DECODER, tokenizer, prefix_bytes=0)
    expected: dict[str, Any] = {}
    engine = faulty_engine(tokenizer, draw, monkeypatch, max_slots=12, chunk=24, prefix_bytes=2**20)
    counts = dict.fromkeys(("healthy", "failed", "sick but done", "cancelled", "left"), 0)
    running: list[tuple[str, Any, Job]] = []
    jobs = weakref.WeakSet[Job]()
    for number in range(n_requests):
        kind = draw.choices(("healthy", "sick", "cancelled", "left"), (12, 6, 1, 1))[0]
        if kind == "sick":
            prompt, options = draw.choice(SICK)
            job = engine.attempt(prompt, {"max_new_tokens": 6, "seed": number, **options})
        else:
            prompt, options = healthy(draw)
            job = engine.attempt(prompt, options)
            assert job.error is None
        jobs.add(job)
        if kind == "left":
            with pytest.raises(ZeroDivisionError):
                for _ in engine.stream(job):
                    raise ZeroDivisionError
            counts["left"] += 1
        else:
            running.append((kind, (prompt, options), job))
        while len(running) > 20:
            engine.step()
            for each in list(running):
                kind, (prompt, options), job = each
                if kind == "cancelled" and draw.random() < 0.3:
                    engine.cancel(job)
                    assert job.done and all(each.finish_reason for each in job.continuations)
                if not job.done:
                    continue
                running.remove(each)
                assert all(each.finish_reason for each in job.continuations)
                if kind == "healthy":
                    key = repr((prompt, options))
                    if key not in expected:
                        alone = plain.submit(prompt, options)
                        plain.run([alone])
                        expected[key] = outcome(alone.result())
                    assert outcome(job.result()) == expected[key], options
                elif kind == "sick" and job.error is not None:
                    assert isinstance(job.error, WenloomError) and len(str(job.error)) < 600
                    assert all(
                        each.error == str(job.error) for each in job.continuations if each.finish_reason == "error"
                    )
                    kind = "failed"
                counts["sick but done" if kind == "sick" else kind] += 1
        if number % 1000 == 0:
            watch(number)
    for _, _, job in running:
        engine.cancel(job)
    assert engine.slots_in_use == 0 and not engine.step()
    running.clear()
    del job, each  # pyright: ignore
    gc.collect()
    assert not jobs
    return counts


def test_neighbours_of_failing_requests_write_as_if_alone(tokenizer: TextTokenizer, monkeypatch: pytest.MonkeyPatch):
    counts = soak(300, tokenizer, monkeypatch)
    assert counts["healthy"] > 120 and counts["failed"] > 40 and counts["cancelled"] > 5 and counts["left"] > 5


@pytest.mark.slow
def test_a_hundred_thousand_requests_leave_memory_flat(tokenizer: TextTokenizer, monkeypatch: pytest.MonkeyPatch):
    """Resident memory after 20,000 requests and at the end."""
    seen: dict[int, int] = {}

    def watch(number: int) -> None:
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        seen[number] = pages * resource.getpagesize()
        if number % 10_000 == 0:
            print(f"{number:,}: {seen[number] / 2**20:.1f} MiB", file=sys.stderr)

    counts = soak(100_000, tokenizer, monkeypatch, watch)
    print(counts, file=sys.stderr)
    assert max(seen.values()) < seen[20_000] + 8 * 2**20


def test_a_step_that_fails_for_all_is_tried_for_each(monkeypatch: pytest.MonkeyPatch):
    """A batch that memory does not suffice for is read request by request."""
    engine = Engine(DECODER)
    read, calls = engine.models[0].read, []

    def short_of_memory(tokens: list[int], segments: list[Any], *rest: Any) -> Any:
        calls.append(len(segments))
        if len(segments) > 1:
            raise MemoryError
        return read(tokens, segments, *rest)

    engine.models[0].read = short_of_memory  # pyright: ignore
    request = GenerationRequest(max_new_tokens=5, do_sample=False, eos_token_id=())
    jobs = [engine.submit([token], request) for token in (5, 6, 7)]
    engine.run(jobs)
    assert max(calls) == 3
    for job, token in zip(jobs, (5, 6, 7), strict=True):
        alone = Engine(DECODER)
        other = alone.submit([token], request)
        alone.run([other])
        assert job.result()[0].tokens == other.result()[0].tokens


def test_a_pool_that_cannot_grow_fails_only_who_needs_it(monkeypatch: pytest.MonkeyPatch):
    """Where memory ends in the midst of growing, those under way go on in the room that there was."""
    from wenloom.core.memory import LargePages
    from wenloom.runtime import slots

    monkeypatch.setattr(slots, "_FEWEST", 1)

    engine = Engine(DECODER)
    request = GenerationRequest(max_new_tokens=12, do_sample=False, eos_token_id=())
    kept = engine.submit([5, 6], request)
    engine.step()
    zeros, left = LargePages.zeros, [3]

    def scarce(self: LargePages, *arguments: Any) -> torch.Tensor:
        left[0] -= 1
        if left[0] < 0:
            raise MemoryError
        return zeros(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(LargePages, "zeros", scarce)
        failing = engine.submit([7] * 3, request)
        engine.run([kept, failing])
    assert failing.error is not None and "memory" in str(failing.error)
    after = engine.submit([5, 6], request)
    engine.run([after])
    alone = Engine(DECODER)
    other = alone.submit([5, 6], request)
    alone.run([other])
    assert kept.result()[0].tokens == after.result()[0].tokens == other.result()[0].tokens
    assert engine.slots_in_use == 0


def test_a_stream_that_nobody_wants_frees_its_slot():
    """Also one that was never begun, and one that Python collects in the midst of another's step."""
    engine = Engine(DECODER)
    request = GenerationRequest(max_new_tokens=1000, eos_token_id=())
    del_me = engine.stream(engine.submit([5], request))
    del del_me
    gc.collect()
    assert not engine.step() and engine.slots_in_use == 0
    stream = [engine.stream(engine.submit([5], request))]
    next(stream[0])
    other = engine.submit([6], GenerationRequest(max_new_tokens=3, eos_token_id=(), seed=1))
    read = engine.models[0].read

    def collecting(*arguments: Any) -> Any:
        stream.clear()
        return read(*arguments)

    engine.models[0].read = collecting  # pyright: ignore
    engine.run([other])
    assert engine.slots_in_use == 0 and not engine.step()


def test_eight_threads_write_as_if_alone_while_corpora_are_encoded(
    tokenizer: TextTokenizer, texts: list[str], tmp_path: Path
):
    """Threads submit, stream and cancel at one engine, while others encode text with its tokenizer."""
    engine = Engine(DECODER, tokenizer, max_slots=4)
    kinds: list[dict[str, Any]] = [{}, {"stop_strings": ("e",)}, {"regex": "[a-z]{2,8}"}, {"num_return_sequences": 2}]
    found: dict[int, Any] = {}
    done, start = threading.Event(), threading.Barrier(8 + 2)
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("\n\n".join(texts), encoding="utf-8")

    def asked(number: int) -> tuple[str, dict[str, Any]]:
        return texts[number][: 5 + 3 * number], {"max_new_tokens": 8, "seed": number, **kinds[number % len(kinds)]}

    def write(number: int) -> None:
        start.wait()
        for turn in range(4):
            job = engine.submit(*asked(number))
            pieces = ["", ""]
            for event in engine.stream(job):
                pieces[event.index] += event.text
            assert [each.text for each in job.result()] == pieces[: len(job.result())]
            assert found.setdefault(number, outcome(job.result())) == outcome(job.result())
            left = engine.submit(texts[turn], {"max_new_tokens": 50})
            engine.cancel(left)
            assert left.done

    def encode(number: int) -> list[list[int]]:
        out = tmp_path / f"encoded{number}"
        dataset = prepare([str(corpus)], out, tokenizer=tokenizer).dataset
        streams = [dataset.stream(name) for name in ("train", "validation")]
        ids = [stream.window(0, len(stream)).tolist() for stream in streams]
        shutil.rmtree(out)
        return ids

    expected = encode(0)
    assert len(expected[0]) > 1000

    def encode_on(number: int) -> None:
        start.wait()
        while not done.is_set():
            assert encode(number) == expected

    with ThreadPoolExecutor(8 + 2) as pool:
        writing = [pool.submit(write, number) for number in range(8)]
        encoding = [pool.submit(encode_on, number) for number in (1, 2)]
        wait(writing)
        done.set()
        for each in (*writing, *encoding):
            each.result()
    assert engine.slots_in_use == 0 and not engine.step()
    for number, written in found.items():
        alone = Engine(DECODER, tokenizer)
        job = alone.submit(*asked(number))
        alone.run([job])
        assert outcome(job.result()) == written


def test_a_request_of_another_engine_is_refused():
    job = Engine(DECODER).submit([5], GenerationRequest())
    with pytest.raises(InputError, match="submitted to"):
        Engine(DECODER).run([job])


@pytest.mark.parametrize("how", ["in place", "state dict", "replaced", "optimizer", "behind PyTorch's back"])
def test_changed_weights_are_not_mixed_with_what_was_read_before(how: str):
    decoder, new = (
        random_decoder(tiny_config(context_length=256), 1),
        random_decoder(tiny_config(context_length=256), 2),
    )
    prompt, request = (
        [(7 * n) % 380 + 2 for n in range(150)],
        GenerationRequest(max_new_tokens=8, do_sample=False, eos_token_id=()),
    )
    engine = Engine(decoder)
    before = engine.submit(prompt, request)
    engine.run([before])
    under_way = engine.submit(prompt[:100], request)
    for _ in range(3):
        engine.step()
    written = list(under_way.continuations[0].tokens)
    pairs = list(zip(decoder.parameters(), new.parameters(), strict=True))
    with torch.no_grad():
        if how == "in place":
            for mine, other in pairs:
                mine.copy_(other)
        elif how == "state dict":
            decoder.load_state_dict(new.state_dict())
        elif how == "replaced":
            for mine, other in pairs:
                mine.data = other.data
        elif how == "optimizer":
            optimizer = torch.optim.SGD(decoder.parameters(), lr=1.0)
            for mine, other in pairs:
                mine.grad = mine - other
            optimizer.step()
        else:
            for mine, other in pairs:
                mine.data.copy_(other)
            engine.forget()
    after = engine.submit(prompt, request)
    engine.run([after, under_way])
    fresh = Engine(decoder)
    expected, rest = fresh.submit(prompt, request), fresh.submit([*prompt[:100], *written], request)
    fresh.run([expected, rest])
    assert after.result()[0].tokens == expected.result()[0].tokens != before.result()[0].tokens
    assert under_way.result()[0].tokens[len(written) :] == rest.result()[0].tokens[: 8 - len(written)]

"""Pages of keys and values: memory of what is there, shared without copies, never written to by two, none lost."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wenloom.core.errors import WenloomError
from wenloom.generation.engine import Engine
from wenloom.generation.request import GenerationRequest
from wenloom.model.cache import Segment, SlotBatch
from wenloom.model.config import reshaped
from wenloom.runtime.native.step import NativeStep
from wenloom.runtime.slots import PAGE, Slots

from ..conftest import random_decoder, tiny_config
from .test_native import compiled

CONFIG = replace(tiny_config(), n_layers=1, context_length=256)
CPU = torch.device("cpu")


def slots_of(config=CONFIG, dtype: torch.dtype = torch.float32) -> Slots:
    return Slots(config, CPU, dtype)


def test_a_long_text_beside_short_ones_costs_its_tokens():
    slots = slots_of()
    slots.prepare([Segment(slot, 0, 50, 50) for slot in range(1, 64)])
    for start in range(0, 32_000, 512):
        slots.prepare([Segment(0, start, min(512, 32_000 - start), 32_000)])
    per_token = slots.page_bytes // PAGE
    assert slots.n_used == 32_000 // PAGE + 63 * 2
    assert slots.bytes < 1.3 * slots.n_used * slots.page_bytes  # the pool grows by a quarter
    assert slots.bytes < 1.5 * (32_000 + 63 * 50) * per_token
    for slot in range(64):
        slots.release(slot)
    assert slots.n_used == 0


def test_an_engine_with_a_long_text_beside_short_ones():
    config = replace(CONFIG, n_heads=1, n_kv_heads=1, d_model=8, d_head=8, d_mlp=8, context_length=40_000)
    engine = Engine(random_decoder(config), max_slots=64, prefix_bytes=0)
    most, request = 0, GenerationRequest(max_new_tokens=90, do_sample=False, eos_token_id=())
    jobs = [engine.submit([5 + n % 80 for n in range(9_600)], replace(request, max_new_tokens=2))]
    jobs += [engine.submit([5, 6, index + 7], request) for index in range(63)]
    slots = engine.models[0].slots
    while engine.step():
        most = max(most, slots.n_used)
    assert most == 300 + 63 * 3 and slots.n_used == 0 and all(len(job.result()[0].tokens) for job in jobs)
    assert slots.bytes < 1.5 * most * slots.page_bytes


def test_known_beginnings_are_shared_and_nothing_is_copied():
    engine = Engine(random_decoder(CONFIG))
    slots, prompt = engine.models[0].slots, [5 + n % 80 for n in range(3 * PAGE + 7)]
    request = GenerationRequest(max_new_tokens=3, do_sample=False, eos_token_id=())
    engine.run([first := engine.submit(prompt, request)])
    assert slots.n_used == 3  # held by the cache
    jobs = [engine.submit(prompt, request) for _ in range(4)]
    engine.step()
    assert slots.n_used == 3 + 4
    assert len({tuple(slots.pages(slot)[:3]) for slot in range(4)}) == 1
    engine.run(jobs)
    assert slots.n_copied == 0 and slots.n_used == 3
    assert all(job.result()[0].tokens == first.result()[0].tokens for job in jobs)


def test_a_fork_copies_no_more_than_the_page_it_writes_to():
    slots = slots_of()
    slots.prepare([Segment(0, 0, 3 * PAGE + 5, 0)])
    slots.fork(0, 1, 3 * PAGE + 5)
    assert slots.n_used == 4 and slots.n_copied == 0 and slots.pages(0) == slots.pages(1)
    slots.prepare([Segment(1, 3 * PAGE + 5, 1, 0)])
    slots.prepare([Segment(0, 3 * PAGE + 5, 1, 0)])
    assert slots.n_used == 5 and slots.n_copied == 1
    assert slots.pages(0)[:3] == slots.pages(1)[:3] and slots.pages(0)[3] != slots.pages(1)[3]
    slots.fork(0, 1, PAGE)
    slots.prepare([Segment(1, PAGE, 40, 0)])  # from the beginning of a page on nothing is worth a copy
    assert slots.n_copied == 1


OPERATION = st.tuples(st.sampled_from(["extend", "rewrite", "fork", "release", "hold"]), st.integers(0, 4), st.integers(0, 4), st.integers(1, 70))  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.lists(OPERATION, max_size=25), st.sampled_from([torch.float32, torch.bfloat16]))
def test_every_text_keeps_what_it_was_told(operations: list[tuple[str, int, int, int]], dtype: torch.dtype):
    """Against plain lists, whatever is shared, forked, written anew and given back; and no page is lost."""
    slots = slots_of(dtype=dtype)
    texts: dict[int, list[int]] = {slot: [] for slot in range(5)}
    held: list[tuple[int, list[int]]] = []
    number = 0
    for kind, slot, other, size in operations:
        if kind in ("extend", "rewrite"):
            start = len(texts[slot]) if kind == "extend" else min(size, len(texts[slot]))
            new = [number := (number + 1) % 251 for _ in range(size)]
            segment = Segment(slot, start, size, 0)
            slots.prepare([segment])
            k = torch.tensor(new, dtype=torch.float32).expand(CONFIG.n_kv_heads, CONFIG.d_head, -1).mT
            slots.write(0, slots.rows([segment]), k, k + 1)
            texts[slot] = texts[slot][:start] + new
        elif kind == "fork" and slot != other and texts[slot]:
            n = min(size, len(texts[slot]))
            slots.fork(slot, other, n)
            texts[other] = texts[slot][:n]
        elif kind == "release":
            slots.release(slot)
            texts[slot] = []
        elif kind == "hold" and len(texts[slot]) >= PAGE:
            page = slots.pages(slot)[0]
            slots.hold(page)
            held.append((page, texts[slot][:PAGE]))
        for slot, expected in texts.items():
            if expected:
                keys, values = slots.read(0, slots.where([slot], len(expected)), len(expected), torch.float32)
                assert keys[0, -1, :, 0].tolist() == expected
                assert (values - keys).unique().tolist() == [1]
        for page, expected in held:
            assert slots.keys[0][0, page * PAGE : (page + 1) * PAGE, 0].tolist() == expected
    for slot in texts:
        slots.release(slot)
    for page, _ in held:
        slots.let_go(page)
    assert slots.n_used == 0 and not slots._holders.any()


def test_texts_that_grow_in_turn_are_kept_in_one_piece_each():
    """Where PyTorch reads them: it need not gather them in every layer and step."""
    slots, pieces = slots_of(), []
    for start in range(0, 40 * PAGE, PAGE):
        slots.prepare([Segment(slot, start, PAGE, 0) for slot in range(16)])
        pieces += [isinstance(slots.where([slot], start + 1), slice) for slot in range(16)]
    assert sum(pieces) > 0.98 * len(pieces)
    assert slots.n_used == 40 * 16 and slots.bytes < 2.1 * slots.n_used * slots.page_bytes
    pages = [page for slot in range(16) for page in slots.pages(slot)]
    assert len({*pages}) == len(pages) and slots.n_copied == 0


@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize("window", [None, 37])
@pytest.mark.parametrize("cache", [torch.float32, torch.bfloat16, torch.int8])
def test_scattered_pages_are_read_as_one_text(native: bool, window: int | None, cache: torch.dtype):
    config = reshaped(
        tiny_config(),
        attention={"sliding_window": window, "sliding_layers": (1,) if window else ()},
        d_head=16,
        n_heads=4,
        n_kv_heads=2,
    )
    decoder = random_decoder(config)
    slots = slots_of(config, cache)
    step = NativeStep(decoder, compiled()) if native else None
    torch.manual_seed(0)
    texts = torch.randint(2, config.vocab_size, (3, 120))
    parts: list[list[torch.Tensor]] = [[], [], []]
    with torch.inference_mode():
        for start in (*range(0, 96, 6), *range(96, 120)):  # in turn, so that each one's pages lie between the others'
            count = 6 if start < 96 else 1
            segments = [Segment(slot, start, count, 120) for slot in (2, 0, 1)]
            tokens = texts[[2, 0, 1], start : start + count].flatten()
            if step is not None:
                logits = step.read(tokens.tolist(), slots, segments, range(3 * count))[1]
            else:
                logits = decoder.unembed(decoder.read(tokens, SlotBatch(slots, segments)))
            for slot, found in zip((2, 0, 1), logits.split(count), strict=True):
                parts[slot].append(found)
        expected = decoder(texts)
    assert slots.n_used == 12
    worst = (torch.stack([torch.cat(each) for each in parts]) - expected).abs().max()
    assert worst < {torch.float32: 1e-4, torch.bfloat16: 0.1, torch.int8: 0.1}[cache] * expected.std()


def nothing(engine: Engine, jobs: list) -> None:
    engine.run(jobs)


def cancelled(engine: Engine, jobs: list) -> None:
    for _ in range(4):
        engine.step()
    for job in jobs:
        engine.cancel(job)


def failing(engine: Engine, jobs: list) -> None:
    for _ in range(4):
        engine.step()

    def broken(*_: object) -> None:
        raise RuntimeError("broken")

    for runner in engine.models:
        runner.read = broken  # pyright: ignore
    while engine.step():
        pass
    for job in jobs:
        with pytest.raises(WenloomError):
            job.result()


def forgotten(engine: Engine, jobs: list) -> None:
    for _ in range(4):
        engine.step()
    engine.forget()
    engine.run(jobs)


OPTIONS = {
    "greedy": {},
    "several": {"num_return_sequences": 3, "do_sample": True},
    "beams": {"num_beams": 3},
    "lookup": {"prompt_lookup_num_tokens": 3},
    "contrastive": {"penalty_alpha": 0.6, "top_k": 3},
    "no cache": {"use_cache": False},
}


@pytest.mark.parametrize("ending", [nothing, cancelled, failing, forgotten])
@pytest.mark.parametrize("options", OPTIONS)
def test_no_page_is_lost_however_requests_end(options: str, ending: Callable[[Engine, list], None]):
    engine = Engine(random_decoder(CONFIG), prefix_bytes=6 * slots_of().page_bytes)
    prompt = [5 + n % 40 for n in range(2 * PAGE + 3)]
    request = GenerationRequest(**({"max_new_tokens": 40, "do_sample": False, "eos_token_id": ()} | OPTIONS[options]))
    ending(engine, [engine.submit(prompt[index:], request) for index in range(3)])
    runner = engine.models[0]
    assert runner.in_use == 0 and runner.slots.n_used * runner.slots.page_bytes == runner.prefixes.n_bytes
    runner.prefixes.clear()
    assert runner.slots.n_used == 0

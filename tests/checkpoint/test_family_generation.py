"""Every decoder family writes what transformers writes: token by token, in batches, from a cache, quantized, tuned."""

from pathlib import Path

import pytest
import torch

from wenloom.auto import AutoModelForCausalLM
from wenloom.checkpoint.folder import load_decoder
from wenloom.generation.engine import Engine
from wenloom.generation.request import GenerationRequest
from wenloom.model.cache import KVCache
from wenloom.model.lora import AdapterConfig, adapt
from wenloom.model.quantize import quantize

from .folders import DECODERS, VOCAB, saved

TOLERANCE = 1e-4


def prompts() -> list[list[int]]:
    draw = torch.Generator().manual_seed(2)
    return [torch.randint(3, VOCAB, (length,), generator=draw).tolist() for length in (5, 1, 9)]


@pytest.mark.parametrize("family", DECODERS)
def test_greedy_text_is_that_of_transformers_alone_and_in_a_batch(family: str, tmp_path: Path):
    theirs = saved(family, tmp_path, eos_token_id=None)
    model = AutoModelForCausalLM.from_pretrained(tmp_path)
    together = [(prompt, 7) for prompt in prompts()]
    engine = Engine(model.decoder, max_slots=3)
    jobs = [engine.submit(prompt, GenerationRequest(max_new_tokens=n, do_sample=False)) for prompt, n in together]
    engine.run(jobs)
    for (prompt, n), job in zip(together, jobs, strict=True):
        row = torch.tensor([prompt])
        expected = theirs.generate(row, max_new_tokens=n, do_sample=False, pad_token_id=0, use_cache=True)[0].tolist()
        assert job.result()[0].tokens == expected[len(prompt) :]
        assert model.generate(row, max_new_tokens=n)[0].tolist() == expected


@torch.no_grad()
@pytest.mark.parametrize("family", DECODERS)
def test_logits_from_a_cache_are_those_of_the_whole_text(family: str, tmp_path: Path):
    saved(family, tmp_path)
    decoder = load_decoder(tmp_path)
    tokens = torch.randint(3, VOCAB, (2, 16), generator=torch.Generator().manual_seed(1))
    cache, parts = KVCache(decoder.config.n_layers), []
    for start, end in [(0, 7), (7, 8), (8, 11), *((place, place + 1) for place in range(11, 16))]:
        parts.append(decoder(tokens[:, start:end], cache=cache))
    assert (torch.cat(parts, 1) - decoder(tokens)).abs().max() <= TOLERANCE


@torch.no_grad()
@pytest.mark.parametrize("family", DECODERS)
def test_a_step_with_weights_of_8_bits_is_near_and_an_adapter_begins_at_the_model(family: str, tmp_path: Path):
    saved(family, tmp_path)
    decoder, tokens = load_decoder(tmp_path), torch.arange(3, 15)[None]
    expected = decoder(tokens)
    adapted = adapt(load_decoder(tmp_path), AdapterConfig(), torch.Generator())
    assert (adapted(tokens) - expected).abs().max() <= TOLERANCE
    far_BT = (quantize(decoder, 8)(tokens) - expected).abs().amax(-1) > 0.1 * expected.abs().max()
    near = 0 if decoder.config.mlp.experts is None else 2  # a token near a border passes other experts
    assert far_BT.sum() <= near


@torch.no_grad()
@pytest.mark.parametrize("family", DECODERS)
def test_quantizing_while_reading_gives_what_quantizing_afterwards_gives(family: str, tmp_path: Path):
    saved(family, tmp_path)
    read, after = load_decoder(tmp_path, bits=8).state_dict(), quantize(load_decoder(tmp_path), 8).state_dict()
    assert read.keys() == after.keys() and any(name.endswith("packed") for name in read)
    assert all(torch.equal(read[name], after[name]) for name in read)

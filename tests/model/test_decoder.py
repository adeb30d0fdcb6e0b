"""The decoder by itself: causality, the cache, padding, and what it refuses."""

from dataclasses import replace
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wenloom.core.errors import InputError
from wenloom.model.attention import visible_keys
from wenloom.model.cache import KVCache
from wenloom.model.config import ModelConfig
from wenloom.model.decoder import Decoder
from wenloom.model.packed import packed
from wenloom.model.parts import Activation, FeedForwardShape, PositionShape, Rope
from wenloom.model.presets import from_scratch

from ..conftest import random_decoder, tiny_config

ARCHITECTURES = ["llama", "qwen3", "gpt2", "gpt_neox"]


def some_tokens(rows: int, count: int) -> torch.Tensor:
    return torch.randint(2, 400, (rows, count), generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_later_token_changes_no_earlier_logit(architecture: str):
    decoder = random_decoder(tiny_config(architecture=architecture))
    tokens = some_tokens(1, 20)
    changed = tokens.clone()
    changed[0, 12] += 1
    before, after = decoder(tokens), decoder(changed)
    assert before[0, :12].equal(after[0, :12])
    assert not before[0, 12:].allclose(after[0, 12:])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@settings(max_examples=15)
@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=6))
def test_reading_in_parts_equals_reading_at_once(architecture: str, sizes: list[int]):
    decoder = random_decoder(tiny_config(architecture=architecture, context_length=64))
    tokens, cache, parts = some_tokens(2, sum(sizes)), KVCache(2), []
    with torch.no_grad():
        for part in tokens.split(sizes, dim=1):
            parts.append(decoder(part, cache=cache))
        assert torch.cat(parts, 1).allclose(decoder(tokens), atol=1e-4)
    assert cache.length == sum(sizes)


def test_padding_on_the_left_changes_nothing():
    decoder, tokens = random_decoder(tiny_config(architecture="gpt2")), some_tokens(1, 10)
    padded = torch.cat((torch.ones(1, 4, dtype=torch.long), tokens), 1)
    mask = torch.cat((torch.zeros(1, 4), torch.ones(1, 10)), 1)
    positions = (mask.cumsum(-1) - 1).clamp(min=0).long()
    assert decoder(padded, mask, positions)[:, 4:].allclose(decoder(tokens), atol=1e-4)


@given(st.integers(1, 6), st.integers(0, 6), st.one_of(st.none(), st.integers(1, 8)), st.integers(0, 4))
def test_visible_keys_by_its_definition(new: int, past: int, window: int | None, padding: int):
    keys = new + past
    present = torch.arange(keys)[None] >= min(padding, keys - 1)
    mask = visible_keys(new, keys, window, present, torch.device("cpu"))
    assert mask is not None
    for row, query in enumerate(range(past, keys)):
        for key in range(keys):
            inside = key <= query and (window is None or key > query - window)
            assert bool(mask[0, 0, row, key]) == ((inside and bool(present[0, key])) or key == query)
    plain = visible_keys(new, keys, window, None, torch.device("cpu"))
    full = visible_keys(new, keys, window, torch.ones(1, keys, dtype=torch.bool), torch.device("cpu"))
    assert full is not None and (plain is None or plain.equal(full[0, 0]))
    if plain is None:  # then it must be what scaled_dot_product_attention does by itself
        assert full[0, 0].equal(
            torch.ones(new, keys, dtype=torch.bool).tril() if past == 0 else torch.ones(new, keys, dtype=torch.bool)
        )


@pytest.mark.parametrize(
    "sizes, named",
    [
        ({"d_model": 30}, "--width 30"),
        ({"n_kv_heads": 3}, "n_kv_heads"),
        ({"n_layers": 0}, "n_layers"),
        ({"dropout": 1.0}, "dropout"),
    ],
)
def test_shapes_that_do_not_fit_are_named(sizes: dict[str, int], named: str):
    shape = dict(vocab_size=10, n_layers=1, d_model=32, n_heads=4, n_kv_heads=4, context_length=8) | sizes
    with pytest.raises(InputError, match=named):
        from_scratch("llama", **shape)  # pyright: ignore[reportArgumentType]


def test_learned_positions_end():
    with pytest.raises(InputError, match="33 tokens do not fit: this model has 32"):
        random_decoder(tiny_config(architecture="gpt2"))(some_tokens(1, 33))


def test_every_wrong_field_is_named_at_once():
    parts = {"positions": PositionShape(rope=Rope(d_rotary=3)), "mlp": FeedForwardShape(activation="swoosh")}
    with pytest.raises(InputError, match=r"activation 'swoosh'.*rotary dimensions \(3\)"):
        ModelConfig("llama", 10, 1, 8, 2, 2, 4, 8, 8, **parts)


def test_tied_weights_are_counted_once():
    decoder = Decoder(tiny_config())
    assert decoder.head is None and decoder.n_parameters() == sum(p.numel() for p in decoder.parameters())


@pytest.mark.parametrize("activation", get_args(Activation))
@pytest.mark.parametrize("architecture", ["llama", "qwen3", "gpt2", "gpt_neox"])
def test_packed_weights_compute_the_same(architecture: str, activation: Activation):
    config = tiny_config(architecture=architecture)
    decoder = random_decoder(replace(config, mlp=replace(config.mlp, activation=activation)))
    fast, tokens = packed(decoder), torch.randint(2, 400, (3, 20))
    assert decoder.blocks[0].mlp.up.weight is not None  # the original keeps its layers
    with torch.inference_mode():
        assert (fast(tokens) - decoder(tokens)).abs().max() < 1e-4
    half = decoder.to(torch.bfloat16)
    assert packed(half) is half

"""Samples: a pure function of (seed, index), every token a target once an epoch."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wenloom.core.errors import InputError
from wenloom.tokens.batches import Samples, permuted
from wenloom.tokens.shards import TokenStream


def stream_of(n_tokens: int) -> TokenStream:
    return TokenStream([np.arange(n_tokens, dtype=np.uint32)])


@given(st.integers(1, 300), st.integers(0, 2**63 - 1))
def test_permutation_is_one_to_one(size: int, key: int):
    assert sorted(permuted(index, size, key) for index in range(size)) == list(range(size))


def test_permutations_look_random():
    """The mean displacement of a random permutation of n is n/3; other keys give other orders."""
    orders = [[permuted(index, 1000, key) for index in range(1000)] for key in range(5)]
    for order in orders:
        assert 300 < np.mean([abs(index - place) for index, place in enumerate(order)]) < 366
    assert len({tuple(order) for order in orders}) == 5


@given(st.integers(2, 500), st.integers(1, 40), st.integers(0, 1000))
def test_an_epoch_covers_every_window_once(n_tokens: int, context: int, seed: int):
    if n_tokens <= context:
        with pytest.raises(InputError, match="--context"):
            Samples(stream_of(n_tokens), context, seed)
        return
    samples = Samples(stream_of(n_tokens), context, seed)
    for epoch in range(2):
        targets = [t for i in range(samples.per_epoch) for t in samples[epoch * samples.per_epoch + i][1:].tolist()]
        assert len(targets) == len(set(targets)) == samples.per_epoch * context  # none twice
        assert n_tokens - len(targets) <= context  # at most a part of a window left over


def test_sample_is_a_function_of_seed_and_index():
    samples, same, other = (Samples(stream_of(1000), 16, seed) for seed in (1, 1, 2))
    order = [9, 0, 500, 3]
    assert all(samples[i].equal(same[i]) for i in order) and any(not samples[i].equal(other[i]) for i in order)
    assert not samples[0].equal(samples[samples.per_epoch])  # another epoch cuts elsewhere


def test_batches_of_any_size_walk_the_same_samples():
    samples = Samples(stream_of(1000), 16, 0)
    inputs, targets = samples.batch(0, 6)
    again = [samples.batch(start, 2) for start in (0, 2, 4)]
    assert inputs.tolist() == [row for x, _ in again for row in x.tolist()]
    assert inputs[:, 1:].equal(targets[:, :-1])

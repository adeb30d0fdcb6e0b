"""The longest overlap, against a search that tries everything."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from wenloom.tokens.shards import TokenStream
from wenloom.training import memorization
from wenloom.training.memorization import longest_overlap

letters = st.lists(st.integers(0, 2), min_size=1, max_size=40)


@given(letters, st.lists(st.integers(0, 2), max_size=25))
def test_it_finds_the_longest(corpus: list[int], text: list[int]):
    found = longest_overlap(text, TokenStream([np.array(corpus, np.uint16)]))
    stretches = {tuple(corpus[i:j]) for i in range(len(corpus)) for j in range(i + 1, len(corpus) + 1)}
    ours = [tuple(text[i:j]) for i in range(len(text)) for j in range(i + 1, len(text) + 1)]
    longest = max((len(each) for each in ours if each in stretches), default=0)
    assert len(found.tokens) == longest and found.of == len(text)
    assert not longest or tuple(found.tokens) in stretches


def test_a_stretch_that_lies_across_two_pieces(monkeypatch):
    monkeypatch.setattr(memorization, "_PIECE", 10)
    corpus = np.arange(95, dtype=np.uint16)
    assert longest_overlap([500, *range(17, 42), 501], TokenStream([corpus])).tokens == list(range(17, 42))

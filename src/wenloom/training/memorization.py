"""Does a model write what it learned, or what it read? The longest verbatim overlap with the training text."""

from dataclasses import dataclass

import numpy as np

from wenloom.core.console import remark
from wenloom.tokens.shards import TokenStream
from wenloom.tokens.tokenizer import TextTokenizer

_BASE = np.uint64(0x9E3779B97F4A7C15 | 1)
_PIECE = 2**22
_MOST = 2**26
"""Tokens of the training text that are searched; of a longer one, its beginning."""


@dataclass(frozen=True)
class CopiedSpan:
    """The longest stretch of a text that stands in the training text as well."""

    tokens: list[int]
    of: int
    """Tokens of the text."""


def longest_overlap(text: list[int], stream: TokenStream) -> CopiedSpan:
    """Search the training stream for the longest run of consecutive tokens of `text`.

    By halving: a stretch of L tokens is in both exactly if one of L - 1 is, so L is found in log2 steps; at each,
    polynomial hashes (64 bit) of all windows of L tokens are compared, and what agrees is compared token by token.
    """
    low, high, found = 0, len(text), []
    while low < high:
        length = (low + high + 1) // 2
        match = _shared(np.asarray(text, dtype=np.int64), stream, length)
        if match is None:
            high = length - 1
        else:
            low, found = length, match
    return CopiedSpan(found, len(text))


def warn_of_quotes(longest: CopiedSpan | None, tokenizer: TextTokenizer) -> None:
    """Say so where most of a sample stands in the training text word for word."""
    if longest is not None and len(longest.tokens) > longest.of / 2:
        text = tokenizer.decode(longest.tokens)
        remark(f"The model quotes its training text: {len(text)} characters of a sample stand there word for word.")


def _shared(text: np.ndarray, stream: TokenStream, length: int) -> list[int] | None:
    """A stretch of `length` tokens that both have, or None."""
    ours = _hashes(text, length)
    wanted = np.unique(ours)
    end = min(len(stream), _MOST)
    for start in range(0, end - length + 1, _PIECE):
        piece = stream.window(start, min(_PIECE + length - 1, end - start))
        theirs = _hashes(piece, length)
        for place in np.flatnonzero(np.isin(theirs, wanted)):
            stretch = piece[place : place + length]
            for own in np.flatnonzero(ours == theirs[place]):
                if np.array_equal(text[own : own + length], stretch):
                    return stretch.tolist()
    return None


def _hashes(tokens: np.ndarray, length: int) -> np.ndarray:
    """h(i) = Σ (t[i + k] + 1) base^(length - 1 - k) modulo 2^64 for every window, by doubling its length."""
    total, done = np.zeros(len(tokens) + 1, np.uint64), 0
    power, size, step = tokens.astype(np.uint64) + np.uint64(1), 1, _BASE
    with np.errstate(over="ignore"):
        while length:
            if length & 1:  # put a window of `size` behind the one of `done`
                count = len(tokens) - done - size + 1
                total = total[:count] * step + power[done : done + count]
                done += size
            length >>= 1
            if length:
                power = power[: len(power) - size] * step + power[size:]
                size *= 2
                step = step * step
    return total

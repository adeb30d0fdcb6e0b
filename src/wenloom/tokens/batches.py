"""Training samples: sample i of a run is a pure function of (seed, i).

The position in the data is therefore one integer, whatever the batch size, the number of processes and
the number of interruptions.
"""

import torch
from torch import Tensor

from wenloom.core.errors import InputError
from wenloom.core.randomness import derive_seed
from wenloom.tokens.shards import TokenStream


def permuted(index: int, size: int, key: int) -> int:
    """Where `index` goes in the pseudo-random permutation of range(size) named by `key`.

    A four-round Feistel network over the next even power of two, walked until it lands inside the range
    (Black & Rogaway 2002, "Ciphers with arbitrary finite domains"): no table, whatever the size.

    >>> sorted(permuted(i, 10, key=7) for i in range(10)) == list(range(10))
    True
    """
    half_bits = max(1, ((size - 1).bit_length() + 1) // 2)
    mask = (1 << half_bits) - 1
    while True:
        left, right = index >> half_bits, index & mask
        for round_ in range(4):
            mixed = ((right + 1) * 0x9E3779B97F4A7C15 + (key ^ round_ * 0xD1B54A32D192ED03)) & (2**64 - 1)
            mixed = ((mixed ^ mixed >> 31) * 0xBF58476D1CE4E5B9) & (2**64 - 1)
            left, right = right, left ^ ((mixed ^ mixed >> 29) & mask)
        index = left << half_bits | right
        if index < size:
            return index


class Samples:
    """Windows of context_length + 1 tokens, every token a target once an epoch.

    An epoch cuts the circular stream into windows from a random starting point and visits them in random
    order; the next epoch cuts elsewhere, so a token meets another context.
    """

    def __init__(self, stream: TokenStream, context_length: int, seed: int):
        self._stream, self._context_length, self._seed = stream, context_length, seed
        self.per_epoch = (len(stream) - 1) // context_length
        """Samples in an epoch."""
        if self.per_epoch < 1:
            raise InputError(
                f"--context {context_length}: longer than the training text ({len(stream):,} tokens). "
                f"Choose at most {max(1, len(stream) - 1)}, or give more text."
            )

    def __getitem__(self, index: int) -> Tensor:
        """Sample `index` (any number from 0 on), int64 of shape (context_length + 1,)."""
        epoch, rank = divmod(index, self.per_epoch)
        first = derive_seed(self._seed, "first window", epoch) % len(self._stream)
        window = permuted(rank, self.per_epoch, derive_seed(self._seed, "order", epoch))
        return torch.from_numpy(self._stream.window(first + window * self._context_length, self._context_length + 1))

    def batch(self, start: int, count: int) -> tuple[Tensor, Tensor]:
        """Samples start .. start + count - 1 as inputs and targets, each of shape (count, context_length)."""
        rows = torch.stack([self[index] for index in range(start, start + count)])
        return rows[:, :-1].contiguous(), rows[:, 1:].contiguous()

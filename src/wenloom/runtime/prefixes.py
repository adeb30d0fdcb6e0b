"""The prefix cache: what was read of one prompt serves every later one that begins alike."""

import hashlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence

import numpy as np
from torch import Tensor

from wenloom.model.cache import Slots
from wenloom.runtime.window import View

BLOCK = 32
"""Tokens per block."""


class PrefixCache:
    """Blocks of keys and values by the hash of all tokens up to their end; the least recently used go first."""

    def __init__(self, max_bytes: int):
        self._max_bytes, self.n_bytes = max_bytes, 0
        self._blocks: OrderedDict[bytes, Tensor] = OrderedDict()

    def restore(self, tokens: Sequence[int], view: View, slots: Slots, slot: int, limit: int) -> int:
        """Put the longest known beginning into a slot; returns how many tokens of the view that is.

        Args:
            limit: at most so many tokens.
        """
        if not self._blocks:
            return 0
        found = []
        for key in self._keys(tokens, view):
            if (len(found) + 1) * BLOCK > limit or key not in self._blocks:
                break
            slots.put(slot, len(found) * BLOCK, self._blocks[key])
            found.append(key)
        for key in reversed(found):  # a beginning stays longer than what follows it
            self._blocks.move_to_end(key)
        return len(found) * BLOCK

    def remember(self, tokens: Sequence[int], view: View, slots: Slots, slot: int) -> None:
        """Keep the whole blocks of a text that has been read to its end."""
        if self._max_bytes == 0:
            return
        for number, key in enumerate(self._keys(tokens, view)):
            if key in self._blocks:
                continue
            block = slots.block(slot, number * BLOCK, (number + 1) * BLOCK)
            self._blocks[key] = block
            self.n_bytes += block.nbytes
        while self.n_bytes > self._max_bytes:
            self.n_bytes -= self._blocks.popitem(last=False)[1].nbytes

    def clear(self) -> None:
        """Forget everything."""
        self._blocks.clear()
        self.n_bytes = 0

    def _keys(self, tokens: Sequence[int], view: View) -> Iterator[bytes]:
        """A chain of SHA-256: each block's key covers all that stands before it, and the view."""
        key = repr(view).encode()
        data = np.asarray(tokens[view.first :], np.int64)
        for end in range(BLOCK, len(data) + 1, BLOCK):
            key = hashlib.sha256(key + data[end - BLOCK : end].tobytes()).digest()
            yield key

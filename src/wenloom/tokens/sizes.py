"""How much text tokens are: bytes and characters, for figures that compare tokenizers."""

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np

from wenloom.tokens.tokenizer import TextTokenizer


class TextSize(NamedTuple):
    """Of a text, or of the part of it that some tokens are."""

    bytes: int
    """In UTF-8."""
    characters: int


class TextSizes:
    """Sizes of the texts that tokens stand for; special tokens are no text.

    Of a byte-level vocabulary every token counts for itself, however a text is cut: a character belongs to the token
    that holds its first byte. Of others each run of tokens is decoded.
    """

    def __init__(self, tokenizer: TextTokenizer):
        self._tokenizer = tokenizer

    def of(self, runs: Iterable[Sequence[int]]) -> TextSize:
        """Of tokens that stand side by side, run after run."""
        n_bytes = n_characters = 0
        for run in runs:
            if self._is_byte_level:
                sizes = self._table[np.asarray(run, dtype=np.int64)].sum(0)
            else:
                text = self._tokenizer.decode(list(run), skip_special_tokens=True).removeprefix("##")
                sizes = len(text.encode()), len(text)
            n_bytes, n_characters = n_bytes + int(sizes[0]), n_characters + int(sizes[1])
        return TextSize(n_bytes, n_characters)

    @cached_property
    def _is_byte_level(self) -> bool:
        return self._tokenizer.kind in ("byte-level BPE", "bytes")

    @cached_property
    def _table(self) -> np.ndarray:
        """Bytes and characters of every token."""
        highest = max(self._tokenizer.backend.get_vocab(with_added_tokens=True).values(), default=0)
        found = self._tokenizer.token_bytes(highest + 1)
        return np.array([(len(each), sum(byte & 0xC0 != 0x80 for byte in each)) for each in found], dtype=np.int64)

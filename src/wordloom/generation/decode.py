"""The decoding loop: read the prompts, then choose one token at a time for every row."""

import secrets
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from wordloom.core.errors import InputError
from wordloom.core.randomness import generator
from wordloom.generation.request import GenerationRequest
from wordloom.generation.sampling import choose
from wordloom.model.cache import KVCache
from wordloom.model.decoder import Decoder


def window_start(n_tokens: int, context_length: int) -> int:
    """Where the model's view begins when a text is longer than its context.

    The view grows to the whole context, then drops its older half at once: dropping one token at a time
    would shift every position and cost a full pass a token. A function of the length alone, so that
    cached and uncached generation see the same.

    >>> [window_start(n, 8) for n in (8, 9, 12, 13)]
    [0, 4, 4, 8]
    """
    half = max(1, context_length // 2)
    return max(0, -(-(n_tokens - context_length) // half) * half)


class _Reader:
    """Logits of the next token for a batch that grows by one column at a time.

    Rows are filled up on the left. Every row has its own positions and its own view (`window_start`), so that
    what a row gives does not depend on the rows beside it.
    """

    def __init__(self, decoder: Decoder, prompts: Sequence[Sequence[int]], use_cache: bool):
        self._decoder, self._device = decoder, next(decoder.parameters()).device
        longest = max(map(len, prompts))
        self._tokens = torch.tensor([[0] * (longest - len(p)) + list(p) for p in prompts], device=self._device)
        self._padding = [longest - len(prompt) for prompt in prompts]
        self._cache = KVCache(decoder.config.n_layers) if use_cache else None
        self._views: list[tuple[int, int]] = []
        """First visible column and rotary frequency epoch of every row: what cached keys depend on."""
        self._start = 0
        """The first column in the cache."""

    def append(self, tokens_B: Tensor) -> None:
        """Add one token to every row."""
        self._tokens = torch.cat((self._tokens, tokens_B[:, None]), 1)

    def keep(self, rows: list[int]) -> None:
        """Go on with some rows only."""
        index = torch.tensor(rows, device=self._device)
        self._tokens = self._tokens[index]
        self._padding, self._views = [self._padding[row] for row in rows], [self._views[row] for row in rows]
        if self._cache is not None:
            self._cache.keep(index)

    def _view(self, padding: int) -> tuple[int, int]:
        length, rope = self._tokens.shape[1] - padding, self._decoder.config.rope
        if rope is not None and rope.depends_on_length:  # made to run past the context it was trained on
            return padding, self._decoder.frequency_epoch(length)
        return padding + window_start(length, self._decoder.config.context_length), 0

    @torch.inference_mode()
    def next_logits(self) -> Tensor:
        """Logits after the last token of every row, shape (B, V)."""
        views, cache = [self._view(padding) for padding in self._padding], self._cache
        firsts = [first for first, _ in views]
        if cache is None or views != self._views:
            self._start = min(firsts)
            if cache is not None:
                cache.clear()
        self._views = views
        known = self._start + (cache.length if cache is not None else 0)
        tokens, mask, positions = self._tokens[:, known:], None, None
        if max(firsts) > self._start:
            columns = torch.arange(self._start, self._tokens.shape[1], device=self._device)
            positions = columns - torch.tensor(firsts, device=self._device)[:, None]
            mask = positions >= 0
            positions = positions.clamp(min=0)[:, known - self._start :]
        hidden_BTD = self._decoder.hidden(tokens, mask, positions, cache)
        return self._decoder.unembed(hidden_BTD[:, -1])


def decode(
    decoder: Decoder, prompts: Sequence[Sequence[int]], request: GenerationRequest
) -> Iterator[list[int | None]]:
    """Continue prompts, one column of tokens at a time.

    Args:
        decoder: in evaluation mode.
        prompts: token ids, of any lengths; every prompt is continued `num_return_sequences` times.
        request: see `GenerationRequest`; `stop` texts are the caller's business, who knows the tokenizer.

    Yields:
        The next token of every row, None for rows that have ended. An ending token is yielded.

    Raises:
        InputError: an empty prompt, or a token that is not in the vocabulary.
    """
    vocab_size = decoder.config.vocab_size
    for prompt in prompts:
        if not prompt:
            raise InputError(
                "a prompt needs at least one token; begin with the model's BOS token to write from nothing."
            )
        if not all(0 <= token < vocab_size for token in prompt):
            raise InputError(f"token {max(prompt, key=abs)} is not in the model's vocabulary of {vocab_size:,}.")
    endings = frozenset(decoder.config.eos_token_ids if request.eos_token_ids is None else request.eos_token_ids)
    rows = [prompt for prompt in prompts for _ in range(request.num_return_sequences)]
    seed = secrets.randbits(62) if request.seed is None else request.seed
    generators = [generator(seed, "row", row) for row in range(len(rows))]
    reader = _Reader(decoder, rows, request.use_cache)
    alive = list(range(len(rows)))
    for _ in range(request.max_new_tokens):
        chosen = choose(reader.next_logits(), request, [generators[row] for row in alive])
        column: list[int | None] = [None] * len(rows)
        for row, token in zip(alive, chosen.tolist(), strict=True):
            column[row] = token
        yield column
        going_on = [index for index, row in enumerate(alive) if column[row] not in endings]
        if not going_on:
            return
        if len(going_on) < len(alive):
            reader.keep(going_on)
            chosen = chosen[going_on]
            alive = [alive[index] for index in going_on]
        reader.append(chosen)

"""What changes a model's scores before a token is chosen: biases, penalties, bans and forced tokens.

Each processor is a function of the scores of one sequence and of its tokens so far. They apply in the order in
which they stand here, which `GenerationRequest` documents; equal to transformers' where it has the same.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wenloom.core.errors import InputError
from wenloom.core.randomness import uniforms
from wenloom.generation.grammars import Matcher
from wenloom.generation.options import Penalties, Watermark
from wenloom.generation.request import GenerationRequest

Ids = NDArray[np.int64]


class Processors:
    """The processors of one request, ready for its sequences.

    Args:
        endings: tokens that end a sequence.
        bad_words: token sequences that must not be written.
        breakers: tokens that end a repetition, for DRY.

    Raises:
        InputError: a token that is not in the vocabulary.
    """

    def __init__(
        self,
        request: GenerationRequest,
        vocab_size: int,
        endings: frozenset[int],
        bad_words: Sequence[Sequence[int]],
        breakers: frozenset[int],
    ):
        self._request, self._vocab_size, self._endings = request, vocab_size, sorted(endings)
        self._bad_words = [list(word) for word in bad_words if not (len(word) == 1 and word[0] in endings)]
        self._breakers = np.array(sorted(breakers), np.int64)
        r = request
        forced = [each for each in (r.forced_bos_token_id, r.forced_eos_token_id) if each is not None]
        named = {
            "logit_bias": [token for token, _ in r.logit_bias], "suppress_tokens": r.suppress_tokens,
            "begin_suppress_tokens": r.begin_suppress_tokens, "allowed_token_ids": r.allowed_token_ids or (),
            "forced tokens": forced, "bad_words_ids": [token for word in self._bad_words for token in word],
            "force_words_ids": [token for word in r.force_words_ids for token in word],
            "eos_token_id": r.eos_token_id or (),
        }  # fmt: skip
        for name, tokens in named.items():
            if outside := [token for token in tokens if not 0 <= token < vocab_size]:
                raise InputError(f"{name}: token {outside[0]} is not in the model's vocabulary of {vocab_size:,}.")
        self._bias = None
        if r.logit_bias:
            self._bias = torch.zeros(vocab_size)
            for token, value in r.logit_bias:
                self._bias[token] += value
        self._disallowed = None
        if r.allowed_token_ids is not None:
            self._disallowed = torch.ones(vocab_size, dtype=torch.bool)
            self._disallowed[[*r.allowed_token_ids, *self._endings]] = False
        self.idle = self._is_idle()
        """Whether the scores pass unchanged, whatever the text."""

    def _is_idle(self) -> bool:
        r = self._request
        return (
            (r.repetition_penalty, r.presence_penalty, r.frequency_penalty) == (1.0, 0.0, 0.0)
            and not (r.dry_multiplier or r.no_repeat_ngram_size or self._bad_words or r.logit_bias)
            and not (r.suppress_tokens or r.begin_suppress_tokens or r.min_new_tokens or r.min_length)
            and (r.allowed_token_ids, r.constraint, r.watermark_key) == (None, None, None)
            and (r.forced_bos_token_id, r.forced_eos_token_id) == (None, None)
        )

    def apply(
        self, scores_V: Tensor, tokens: Sequence[int], n_prompt: int, room: int, matcher: Matcher | None
    ) -> Tensor:
        """Processed scores, float32 on the CPU.

        Args:
            scores_V: logits or log-probabilities of the next token.
            tokens: prompt and continuation so far.
            n_prompt: how many of these are prompt.
            room: how many tokens the continuation may have in all.
            matcher: the state of the grammar that is asked for.
        """
        scores_V = scores_V.float().cpu()
        if self.idle:
            return scores_V
        r, history, n_new = self._request, np.asarray(tokens, np.int64), len(tokens) - n_prompt
        scores_V = scores_V.clone() if self._bias is None else scores_V + self._bias
        _penalise(scores_V, r, history, n_prompt)
        if r.dry_multiplier:
            _discourage_repetition(scores_V, r, history, self._breakers)
        banned: list[int] = []
        if r.no_repeat_ngram_size:
            banned += repeated_ngram_ends(history, r.no_repeat_ngram_size).tolist()
        for word in self._bad_words:
            if len(word) == 1 or (len(word) <= len(tokens) + 1 and list(tokens[1 - len(word) :]) == word[:-1]):
                banned.append(word[-1])
        banned += r.suppress_tokens
        if n_new == 0:
            banned += r.begin_suppress_tokens
        if n_new < r.min_new_tokens or len(tokens) < r.min_length:
            banned += self._endings
        if banned:
            scores_V[banned] = -torch.inf
        if self._disallowed is not None:
            scores_V.masked_fill_(self._disallowed, -torch.inf)
        if matcher is not None:
            scores_V.masked_fill_(~matcher.allowed(self._vocab_size), -torch.inf)
        if r.forced_eos_token_id is not None and n_new == room - 1:
            scores_V = _only(scores_V, r.forced_eos_token_id)
        elif r.forced_bos_token_id is not None and n_new == 0:
            scores_V = _only(scores_V, r.forced_bos_token_id)
        return scores_V

    def mark(self, scores_V: Tensor, last: int) -> Tensor:
        """Favour the tokens that the watermark's key picks after the last one."""
        r = self._request
        if r.watermark_key is None:
            return scores_V
        return scores_V + r.watermark_bias * torch.from_numpy(greenlist(r, last, np.arange(self._vocab_size)))


def _penalise(scores_V: Tensor, options: Penalties, history: Ids, n_prompt: int) -> None:
    if options.repetition_penalty != 1:
        seen = torch.from_numpy(np.unique(history))
        found = scores_V[seen]
        penalty = options.repetition_penalty
        scores_V[seen] = torch.where(found < 0, found * penalty, found / penalty)
    if options.presence_penalty or options.frequency_penalty:
        written, counts = (torch.from_numpy(each) for each in np.unique(history[n_prompt:], return_counts=True))
        scores_V[written] -= options.presence_penalty + options.frequency_penalty * counts


def _discourage_repetition(scores_V: Tensor, options: Penalties, history: Ids, breakers: Ids) -> None:
    """DRY: a token that would go on with a repetition of n tokens loses multiplier * base^(n - allowed length)."""
    lengths = _suffix_matches(history, breakers)
    followers, matched = history[1:], lengths[:-1]
    long = matched >= options.dry_allowed_length
    penalty = options.dry_multiplier * options.dry_base ** (matched[long] - options.dry_allowed_length).astype(float)
    if len(penalty):
        worst = np.zeros(len(scores_V))
        np.maximum.at(worst, followers[long], penalty)
        scores_V -= torch.from_numpy(worst).float()


_LONGEST_MATCH = 64


def _suffix_matches(history: Ids, breakers: Ids) -> Ids:
    """For every position, how many tokens up to it (at most 64) equal those at the end of the text."""
    n = len(history)
    lengths, alive = np.zeros(n, np.int64), np.arange(n - 1)
    for back in range(min(_LONGEST_MATCH, n - 1)):
        token = history[n - 1 - back]
        if token in breakers:
            break
        alive = alive[alive >= back]
        alive = alive[history[alive - back] == token]
        if not len(alive):
            break
        lengths[alive] = back + 1
    return lengths


def repeated_ngram_ends(history: Ids, n: int) -> Ids:
    """The tokens that would complete a sequence of n tokens that occurs already.

    >>> repeated_ngram_ends(np.array([1, 2, 3, 1, 2]), 3).tolist()
    [3]
    """
    if len(history) < n:
        return history[:0]
    windows = np.lib.stride_tricks.sliding_window_view(history, n)
    begins = len(history) - (n - 1)
    return windows[(windows[:, : n - 1] == history[begins:]).all(1), n - 1]


def _only(scores_V: Tensor, token: int) -> Tensor:
    forced = torch.full_like(scores_V, -torch.inf)
    forced[token] = 0.0
    return forced


def greenlist(options: Watermark, last: int, tokens: Ids) -> NDArray[np.bool_]:
    """Which tokens a watermark favours after `last` (Kirchenbauer et al. 2023, algorithm 2 with one token before)."""
    assert options.watermark_key is not None
    return uniforms(options.watermark_key, last, tokens) < options.watermark_greenlist_ratio

"""Which tokens may come next: Whisper's rules of suppression and of times (its authors' `decoding.py`)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from wenloom.tasks.speech.vocabulary import SECONDS_PER_STAMP, SpeechTokens

_LATEST_START = round(1.0 / SECONDS_PER_STAMP)
"""The first time of a window is at most one second."""


class TokenRules:
    """Applies the rules to logits in place.

    Args:
        vocab_size: columns of the logits.
        times: whether times are written.
    """

    def __init__(self, tokens: SpeechTokens, vocab_size: int, times: bool):
        self._tokens, self._times = tokens, times
        self._never = torch.zeros(vocab_size)
        self._never[list(tokens.suppressed)] = -torch.inf
        self._never[tokens.no_times] = -torch.inf
        self._first = self._never.clone()
        self._first[list(tokens.suppressed_first)] = -torch.inf
        if times:
            self._first[: tokens.first_time] = -torch.inf
            self._first[tokens.first_time + _LATEST_START + 1 :] = -torch.inf

    def text_logprobs(self, logits_RTV: Tensor) -> Tensor:
        """log P of every token of text without times; a text may be empty."""
        return (logits_RTV + self._never.to(logits_RTV.device)).log_softmax(-1)

    def apply(self, logits_RV: Tensor, written: Sequence[Sequence[int]], is_first: bool) -> None:
        """
        Args:
            written: what every row has written so far.
            is_first: whether that is nothing.
        """
        if is_first:
            logits_RV += self._first.to(logits_RV.device)
            return
        logits_RV += self._never.to(logits_RV.device)
        if not self._times:
            return
        first, end = self._tokens.first_time, self._tokens.end
        for row, ids in enumerate(written):
            is_time = len(ids) > 0 and ids[-1] >= first
            if is_time and (len(ids) < 2 or ids[-2] >= first):  # begins a segment: text follows
                logits_RV[row, first:] = -torch.inf
                continue
            if is_time:  # ends a segment: another begins, or the transcript ends
                logits_RV[row, :end] = -torch.inf
            last = next((each for each in reversed(ids) if each >= first), None)
            if last is not None:
                logits_RV[row, first : last + (0 if is_time else 1)] = -torch.inf
        wants_time_R = logits_RV[:, first:].logsumexp(-1) > logits_RV[:, :first].amax(-1)
        if bool(wants_time_R.any()):
            logits_RV[wants_time_R, :first] = -torch.inf

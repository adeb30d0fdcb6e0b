"""The logit lens: what each block would answer if it were the last one (nostalgebraist 2020).

The residual stream after every block goes through the final norm and the output matrix. After the last block that is the
model itself; earlier ones never learned to be read so, and a token that is not there yet may be there in other coordinates.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from wenloom.core.errors import InputError
from wenloom.explanation.subject import Subject
from wenloom.explanation.trace import Trace
from wenloom.explanation.tuned_lens import TunedLens
from wenloom.model.encoder import Encoder

_VALUES = 2**24
"""Logits that are held at once."""


@dataclass(frozen=True)
class Lens:
    """What is predicted after every block, for every token. L counts the blocks."""

    tokens: list[str]
    """The text that was read (the decoder's, where there are two stacks), T tokens."""
    wanted: list[int | None]
    """The token that stands there in fact: of an encoder at the same place, else the next one; None where there is none."""
    top_ids: Tensor
    """The most probable tokens, best first, shape (L, T, k)."""
    top_probabilities: Tensor
    """Theirs, shape (L, T, k)."""
    probability: Tensor
    """Of the wanted token, shape (L, T); NaN where there is none."""
    rank: Tensor
    """Of the wanted token, 1 is the most probable, shape (L, T); 0 where there is none."""
    entropy: Tensor
    """In bits, shape (L, T)."""

    def formed_at(self, position: int) -> int:
        """The first block from which on the most probable token stays what the model answers after this position."""
        answers = self.top_ids[:, position, 0].tolist()
        formed = len(answers) - 1
        while formed and answers[formed - 1] == answers[-1]:
            formed -= 1
        return formed


@torch.no_grad()
def lens(trace: Trace, top: int = 5, asked: Mapping[int, int] | None = None, tuned: TunedLens | None = None) -> Lens:
    """The logit lens of a trace, or a tuned one.

    Args:
        top: tokens to name for each block and place.
        asked: by place, the token that is asked about there, in place of the text's own.
        tuned: maps through which blocks are read, see `tuned_lens`; None: none.

    Raises:
        InputError: the model gives no scores of tokens, or no tokens are to be named.
    """
    subject = trace.subject
    if subject.predicts not in ("token", "next token"):
        raise InputError("the lens reads scores of tokens; this model gives none.")
    if top < 1:
        raise InputError(f"top must be at least 1, got {top}.")
    ids = trace.reading.tokens[0]
    wanted: list[int | None] = ids.tolist() if isinstance(subject.model, Encoder) else [*ids[1:].tolist(), None]
    for place, token in (asked or {}).items():
        wanted[place] = token
    blocks = []
    for layer in range(subject.stack.config.n_layers):
        stream_TD = trace[f"{subject.prefix}blocks.{layer}.resid_post"][0]
        blocks.append(_read(subject, stream_TD if tuned is None else tuned.translated(layer, stream_TD), wanted, top))
    fields = [torch.stack(each) for each in zip(*blocks, strict=True)]
    return Lens(trace.tokens, wanted, *fields)


def _read(subject: Subject, stream_TD: Tensor, wanted: Sequence[int | None], top: int) -> tuple[Tensor, ...]:
    """Top ids and probabilities, probability and rank of the wanted tokens, entropy, by place."""
    found: list[tuple[Tensor, ...]] = []
    ids_T = torch.tensor([-1 if each is None else each for each in wanted], device=stream_TD.device)
    size = max(1, _VALUES // subject.stack.config.vocab_size)
    for part_TD, part_ids_T in zip(stream_TD.split(size), ids_T.split(size), strict=True):
        log_p_TV = subject.unembed(subject.stack.final_norm(part_TD)).double().log_softmax(-1)
        best = log_p_TV.topk(min(top, log_p_TV.shape[-1]))
        own_T1 = log_p_TV.gather(1, part_ids_T.clamp(min=0)[:, None])
        is_there = part_ids_T >= 0
        rank = torch.where(is_there, (log_p_TV > own_T1).sum(-1) + 1, 0)
        probability = torch.where(is_there, own_T1[:, 0].exp(), torch.nan)
        p_TV = log_p_TV.exp()
        entropy = -torch.where(p_TV > 0, p_TV * log_p_TV, 0).sum(-1) / math.log(2)
        found.append((best.indices, best.values.exp(), probability, rank, entropy))
    return tuple(torch.cat(each).cpu() for each in zip(*found, strict=True))

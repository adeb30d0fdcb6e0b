"""Attention rollout: how much of each token could have reached a place by attention alone (Abnar & Zuidema 2020, section 3; with
attention from one stack to another as Chefer et al. 2021 follow it).

Weak evidence: it reads weights, not effects. What a head moves may be nothing, and what feed-forward layers do is left out
(Jain & Wallace 2019).
"""

import torch
from torch import Tensor

from wenloom.explanation.inquiry import AnswerRow
from wenloom.explanation.subject import Subject
from wenloom.explanation.trace import Trace
from wenloom.model.encoder import Encoder
from wenloom.model.encoder_decoder import EncoderDecoder


def rollout(subject: Subject, row: AnswerRow) -> tuple[Tensor, Tensor | None]:
    """Shares of the input tokens, shape (T,), and, of a model with two stacks, of the source's (S,), which sum to 1: the mean over
    the places where an answer is read.

    R is who reached whom, at first I. Attention makes it A R, half of it past by the residual stream: R = ½ A R + ½ R, A the mean
    over heads of the pattern. What the decoder reads of the source has come there by R of the encoder.
    """
    reading, model = row.reading, subject.model
    T = reading.tokens.shape[1]
    if isinstance(model, EncoderDecoder):
        assert reading.source is not None
        S = reading.source.shape[1]
        of_source = _followed(subject, row, "encoder.", model.encoder.config.n_layers, torch.eye(S).double(), None)
        read = torch.cat((of_source, torch.zeros(S, T).double()), 1)
        begin = torch.cat((torch.zeros(T, S).double(), torch.eye(T).double()), 1)
        reached = _followed(subject, row, "decoder.", model.decoder.config.n_layers, begin, read)
        shares = reached[row.places.cpu()].mean(0)
        return shares[S:], shares[:S]
    reached = _followed(subject, row, "", model.config.n_layers, torch.eye(T).double(), None)
    places = row.places.cpu() if len(row.places) else torch.tensor([0 if isinstance(model, Encoder) else T - 1])
    return reached[places].mean(0), None


def _followed(
    subject: Subject, row: AnswerRow, prefix: str, n_layers: int, reached: Tensor, read: Tensor | None
) -> Tensor:
    """R after the blocks of a stack, by place and input token; `read`: that of the stack to which it attends."""
    parts = ("attention", "cross") if read is not None else ("attention",)
    names = [f"{prefix}blocks.{layer}.{part}.pattern" for layer in range(n_layers) for part in parts]
    seen = Trace(subject, row.reading, names=tuple(names))
    for name in names:
        pattern = seen[name][0].double().mean(0).cpu()
        there = read if read is not None and name.endswith("cross.pattern") else reached
        reached = (pattern @ there + reached) / 2
    return reached

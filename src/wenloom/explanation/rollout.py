"""Attention rollout: how much of each token could have reached a place by attention alone (Abnar & Zuidema 2020, section 3).

Weak evidence: it reads weights, not effects. What a head moves may be nothing, and what feed-forward layers do is left out
(Jain & Wallace 2019).
"""

import torch
from torch import Tensor

from wenloom.core.errors import InputError
from wenloom.explanation.inquiry import AnswerRow
from wenloom.explanation.subject import Subject
from wenloom.explanation.trace import Trace
from wenloom.model.encoder import Encoder
from wenloom.model.encoder_decoder import EncoderDecoder


def rollout(subject: Subject, row: AnswerRow) -> Tensor:
    """Shares of the input tokens, shape (T,), which sum to 1: the mean over the places where an answer is read.

    A_l = ½ mean over heads of the pattern + ½ I; the product A_L ... A_1 has a row by place.

    Raises:
        InputError: a model with two stacks.
    """
    if isinstance(subject.model, EncoderDecoder):
        raise InputError("attention rollout follows one stack of blocks; this model has an encoder and a decoder.")
    n_layers, T = subject.model.config.n_layers, row.reading.tokens.shape[1]
    names = tuple(f"blocks.{layer}.attention.pattern" for layer in range(n_layers))
    seen = Trace(subject, row.reading, names=names)
    reached = torch.eye(T, dtype=torch.float64)
    for name in names:
        pattern = seen[name][0].double().mean(0).cpu()
        reached = (pattern + torch.eye(T, dtype=torch.float64)) / 2 @ reached
    places = row.places.cpu() if len(row.places) else torch.tensor([0 if isinstance(subject.model, Encoder) else T - 1])
    return reached[places].mean(0)

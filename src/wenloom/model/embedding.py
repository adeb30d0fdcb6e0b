"""Vectors that are looked up by number."""

import torch
from torch import nn


def embedding(count: int, width: int) -> nn.Embedding:
    """A table of vectors whose values are still to be drawn or read.

    `nn.Embedding` draws them itself, which takes PyTorch a second without a device: it imports its compiler for that.
    """
    return nn.Embedding.from_pretrained(torch.empty(count, width), freeze=False)

"""Dropout that is a function of its inputs: which values fall out depends on a key per row, not on a generator.

A row keeps its mask whatever batch, process or device it is computed in and however often (activation
checkpointing computes it twice), so a resumed or re-divided run draws exactly what it would have drawn.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Dropout(nn.Module):
    """x * mask / (1 - rate) while training (Srivastava et al. 2014, section 4).

    Args:
        rate: part of the values that fall out.
        site: tells apart the places of a model that share one key.
    """

    def __init__(self, rate: float, site: int):
        super().__init__()
        self.rate, self.site = rate, site

    def forward(self, x_BTD: Tensor, keys_B: Tensor | None) -> Tensor:
        """
        Args:
            keys_B: integers, one key a row; None draws from torch's own generator.
        """
        if not self.training or not self.rate:
            return x_BTD
        if keys_B is None:
            return F.dropout(x_BTD, self.rate)
        return x_BTD * keep(keys_B + self.site * 0x3504F333, x_BTD[0].numel(), self.rate).view_as(x_BTD)


def keys_of_patterns(keys_B: Tensor, n_heads: int, n_tokens: int) -> Tensor:
    """Keys of the rows of attention patterns, shape (B * H * T,): a token's stays the same behind any padding."""
    heads_H1 = torch.arange(n_heads, device=keys_B.device)[:, None] * 0x2C1B3C6D
    tokens_T = torch.arange(n_tokens, device=keys_B.device) * 0x297A2D39
    return (keys_B.long()[:, None, None] + heads_H1 + tokens_T).flatten()


def keep(keys_B: Tensor, n: int, rate: float) -> Tensor:
    """0 or 1 / (1 - rate) for `n` values a row, shape (B, n), float32.

    Value i of a row with key k is decided by a hash of k + i: multiply and xor-shift, twice ("lowbias32", Wellons
    2018), as good as random for this use and the same on every device. The masks make shifts of signed numbers
    bring in zeros.
    """
    x = (
        torch.arange(n, dtype=torch.int32, device=keys_B.device).mul_(_signed(0x9E3779B1))
        + keys_B.to(torch.int32)[:, None]
    )
    x ^= x >> 16 & 0xFFFF
    x *= _signed(0x7FEB352D)
    x ^= x >> 15 & 0x1FFFF
    x *= _signed(0x846CA68B)
    x ^= x >> 16 & 0xFFFF
    return (x >= round(rate * 2**32) - 2**31).float().mul_(1 / (1 - rate))


def _signed(number: int) -> int:
    """The int32 with these 32 bits."""
    return number - 2**32 if number >= 2**31 else number

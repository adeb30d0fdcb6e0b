"""What keeps the routers of experts in order while a model is trained: even loads, and scores that stay small."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from wenloom.core.errors import InputError
from wenloom.model.decoder import Decoder

PLACES = ".mlp.router"
"""How the names of the places end where routers give their scores (`model.taps`)."""


@dataclass(frozen=True)
class RouterLosses:
    """How much counts, beside the loss, what routers do; both are means over the layers with experts."""

    balance: float = 0.01
    """Coefficient of the balance of a row's experts (as in Fedus et al. 2021, Switch Transformer, section 2.2)."""
    z: float = 0.001
    """Coefficient of (log Σ exp scores)² (Zoph et al. 2022, ST-MoE, eq. 5)."""

    def __post_init__(self):
        if wrong := [f"--{name} must not be negative, got {value}" for name, value in
                     (("balance-loss", self.balance), ("router-z-loss", self.z)) if value < 0]:  # fmt: skip
            raise InputError("; ".join(wrong) + ".")


class Routed(NamedTuple):
    """What routers have done, each summed over the targets."""

    balance: Tensor
    """1 where each expert gets as many tokens and as much probability as any other; E / active where the same few get all."""
    z: Tensor
    load_LE: Tensor
    """Shares of the tokens' places that each expert of a layer got; those of a layer sum to 1."""


def routed(scores: Sequence[Tensor], active: int, targets_B: Tensor) -> Routed:
    """Balance Σ_i f_i P_i, f_i = E / (active T) times the tokens of a row of T that pass expert i, P_i their mean probability
    of it (Dai et al. 2024, DeepSeekMoE, eq. 12-14). Taken by row, it is the same however a batch is split.

    Args:
        scores: of every layer with experts, each of shape (B, T, E).
        active: experts that a token passes.
        targets_B: how many targets each row has.
    """
    scores_LBTE = torch.stack(list(scores)).float()
    n_experts = scores_LBTE.shape[-1]
    chosen_LBP = scores_LBTE.detach().topk(active, -1).indices.flatten(2)
    ones = torch.ones_like(chosen_LBP, dtype=torch.float32)
    load_LBE = torch.zeros_like(scores_LBTE[:, :, 0]).scatter_add_(-1, chosen_LBP, ones) / chosen_LBP.shape[-1]
    balance_B = n_experts * (load_LBE * scores_LBTE.softmax(-1).mean(2)).sum(-1).mean(0)
    z_B = scores_LBTE.logsumexp(-1).square().mean((0, 2))
    return Routed((balance_B * targets_B).sum(), (z_B * targets_B).sum(), (load_LBE * targets_B[:, None]).sum(1))


def router_places(decoder: Decoder) -> list[str]:
    """Where its routers give their scores; none in a model without experts."""
    return [place for place in decoder.places if place.endswith(PLACES)]


def busiest(load: Sequence[Sequence[float]]) -> float:
    """The load of the busiest expert of all layers, as a multiple of an even share.

    >>> busiest([[0.5, 0.25, 0.25], [0.4, 0.3, 0.3]])
    1.5
    """
    return max(max(layer) * len(layer) for layer in load)

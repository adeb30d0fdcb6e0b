"""Mixtures of experts: several feed-forward layers, of which a router chooses a few for each token."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wenloom.model.config import ModelConfig
from wenloom.model.feedforward import FeedForward
from wenloom.model.parts import Experts, FeedForwardShape
from wenloom.model.taps import Taps, tapped


def make_feed_forward(config: ModelConfig, layer: int) -> "FeedForward | MixtureOfExperts":
    """What stands behind the attention of a layer."""
    experts = config.mlp.experts_of(layer)
    if experts is not None:
        return MixtureOfExperts(config.mlp, experts, config.d_model)
    return FeedForward(config.mlp, config.d_model, config.d_mlp)


class Router(nn.Module):
    """A score of each expert for each token, in float32 whatever the dtype of the model: which experts a token passes
    hangs on small differences (Fedus et al. 2021, Switch Transformer, section 2.4)."""

    def __init__(self, experts: Experts, d_model: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(experts.count, d_model))
        self.bias = nn.Parameter(torch.empty(experts.count)) if experts.router_bias else None

    def forward(self, x_BTD: Tensor) -> Tensor:
        """Scores (B, T, experts)."""
        with torch.autocast(x_BTD.device.type, enabled=False):
            return F.linear(x_BTD.float(), self.weight.float(), None if self.bias is None else self.bias.float())


class MixtureOfExperts(nn.Module):
    """Σ share_i expert_i(x) over the experts with the highest scores (Shazeer et al. 2017, eq. 1).

    The tokens are put in the order of their experts, so that each expert is one product of all its tokens.
    """

    def __init__(self, shape: FeedForwardShape, experts: Experts, d_model: int):
        super().__init__()
        self.active, self.normalised = experts.active, experts.normalised
        self.router = Router(experts, d_model)
        self.experts = nn.ModuleList(
            FeedForward(shape, d_model, experts.d_mlp)
            if experts.gate_limit is None
            else ClampedFeedForward(shape, d_model, experts.d_mlp, experts.gate_limit, experts.gate_slope)
            for _ in range(experts.count)
        )

    def forward(self, x_BTD: Tensor, taps: Taps | None = None) -> Tensor:
        scores_NE = tapped(taps, "router", self.router(x_BTD)).flatten(0, -2)
        shares_NA, chosen_NA = self.shares(scores_NE)
        places = chosen_NA.flatten().argsort(stable=True)  # of pairs of a token and one of its experts
        back = torch.empty_like(places).scatter_(0, places, torch.arange(len(places), device=places.device))
        counts = chosen_NA.flatten().bincount(minlength=len(self.experts)).tolist()
        pairs_PD = x_BTD.flatten(0, -2).repeat_interleave(self.active, 0)
        parts = _Reordered.apply(pairs_PD, places, back).split(counts)
        # while training an expert without a token answers too: its gradients are 0, not absent
        made = [_answer(expert, part) for expert, part in zip(self.experts, parts, strict=True)
                if self.training or len(part)]  # fmt: skip
        y_PD = _Reordered.apply(torch.cat(made), back, places)
        y_ND = (y_PD.view(-1, self.active, y_PD.shape[-1]) * shares_NA[..., None]).sum(1)
        return y_ND.to(y_PD.dtype).view(x_BTD.shape)

    def shares(self, scores_NE: Tensor) -> tuple[Tensor, Tensor]:
        """How much each active expert counts, and which these are; both of shape (N, active)."""
        top_NA, chosen_NA = scores_NE.topk(self.active, -1)
        if self.normalised:  # the same as the softmax over all, divided by its sum over the active ones
            return top_NA.softmax(-1), chosen_NA
        return scores_NE.softmax(-1).gather(-1, chosen_NA), chosen_NA

    def n_idle_parameters(self) -> int:
        """Weights of the experts that a token does not pass."""
        one = sum(parameter.numel() for parameter in self.experts[0].parameters())
        return (len(self.experts) - self.active) * one


def _answer(expert: nn.Module, rows_ND: Tensor) -> Tensor:
    """What an expert makes of its rows. Where every number of them has code of its own, rows of zeros fill them up."""
    is_made_to_measure = rows_ND.device.type == "cpu" and (
        torch.is_autocast_enabled("cpu") or rows_ND.dtype in (torch.bfloat16, torch.float16)
    )
    more = round_number(len(rows_ND)) - len(rows_ND) if is_made_to_measure else 0
    return expert(F.pad(rows_ND, (0, 0, 0, more)))[: len(rows_ND)] if more else expert(rows_ND)


def round_number(count: int) -> int:
    """The next of the numbers of which there are four from one power of two to the next, for counts above 8.

    Products in bf16 on a CPU are compiled for their shape, some 50 ms each: 60 steps of a training with 8 experts in 5 layers
    took 330 s, and so they take 20 s.

    >>> [round_number(count) for count in (0, 7, 9, 100, 128, 129)]
    [0, 7, 10, 112, 128, 160]
    """
    step = max(1, 1 << count.bit_length() >> 3)
    return -(-count // step) * step


class ClampedFeedForward(FeedForward):
    """An expert of gpt-oss (OpenAI 2025, section 2.2): gates and hidden units are bounded.

    Args:
        limit: bound of both.
        slope: s of the gate's non-linearity g sigmoid(s g).
    """

    def __init__(self, shape: FeedForwardShape, d_model: int, d_mlp: int, limit: float, slope: float):
        super().__init__(shape, d_model, d_mlp)
        self.limit, self.slope = limit, slope

    def hidden(self, x_BTD: Tensor) -> Tensor:
        """(up + 1) gate sigmoid(slope gate)."""
        assert self.gate is not None
        gate_BTF, up_BTF = self.gate(x_BTD).clamp(max=self.limit), self.up(x_BTD).clamp(-self.limit, self.limit)
        return (up_BTF + 1) * gate_BTF * torch.sigmoid(self.slope * gate_BTF)


class _Reordered(torch.autograd.Function):
    """Rows in another order. Going back is a reordering too, where PyTorch, which does not know that no row comes twice,
    would add up rows one by one."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, order: Tensor, inverse: Tensor) -> Tensor:
        ctx.save_for_backward(order, inverse)
        return rows[order]

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None]:
        order, inverse = ctx.saved_tensors
        return _Reordered.apply(grad_outputs[0], inverse, order), None, None

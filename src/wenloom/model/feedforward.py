"""The position-wise feed-forward layer, plain or gated."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wenloom.model.norm import in_autocast
from wenloom.model.parts import Activation, FeedForwardShape
from wenloom.model.taps import Taps, tapped


def _gelu_tanh(x: Tensor) -> Tensor:
    """GELU by its tanh approximation (Hendrycks & Gimpel 2016, section 2)."""
    return F.gelu(x, approximate="tanh")


def _quick_gelu(x: Tensor) -> Tensor:
    """GELU by its sigmoid approximation (same paper): x * sigmoid(1.702 x)."""
    return x * torch.sigmoid(1.702 * x)


def _relu_squared(x: Tensor) -> Tensor:
    """ReLU squared (Primer, So et al. 2021)."""
    return F.relu(x).square()


ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": _gelu_tanh,
    "quick_gelu": _quick_gelu,
    "silu": F.silu,
    "relu": F.relu,
    "relu_squared": _relu_squared,
    "tanh": torch.tanh,
}
"""Non-linearities by name."""


class FeedForward(nn.Module):
    """down(act(up(x))), or with a gate down(act(gate(x)) * up(x)) (GLU variants, Shazeer 2020, eq. 6).

    Args:
        d_mlp: hidden width.
    """

    def __init__(self, shape: FeedForwardShape, d_model: int, d_mlp: int):
        super().__init__()
        self.activation = ACTIVATIONS[shape.activation]
        self.up = nn.Linear(d_model, d_mlp, bias=shape.bias)
        self.gate = nn.Linear(d_model, d_mlp, bias=shape.bias) if shape.gated else None
        self.down = nn.Linear(d_mlp, d_model, bias=shape.bias)

    def forward(self, x_BTD: Tensor, taps: Taps | None = None) -> Tensor:
        return self.down(tapped(taps, "hidden", self.hidden(x_BTD)))

    def hidden(self, x_BTD: Tensor) -> Tensor:
        """The hidden units, shape (B, T, F)."""
        x_BTD = in_autocast(x_BTD)
        if self.gate is None:
            return self.activation(self.up(x_BTD))
        gate_BTF, up_BTF = self.gate(x_BTD), self.up(x_BTD)
        if torch.is_grad_enabled() and self.activation in _SLOPES and not torch.compiler.is_compiling():
            return _Gated.apply(gate_BTF, up_BTF, self.activation)  # pyright: ignore
        return self.activation(gate_BTF) * up_BTF


_SLOPES: dict[Callable[[Tensor], Tensor], Callable[[Tensor, Tensor], Tensor]] = {
    F.silu: torch.ops.aten.silu_backward,
    _gelu_tanh: partial(torch.ops.aten.gelu_backward, approximate="tanh"),
}
"""From a gradient and what a non-linearity read to the gradient of that."""


class _Gated(torch.autograd.Function):
    """act(gate) * up; act(gate) is made again for the backward pass, not kept."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor, activation: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.save_for_backward(gate, up)
        ctx.activation = activation
        return activation(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, Tensor, None]:
        gate, up = ctx.saved_tensors
        grad_up = ctx.activation(gate).mul_(grad_outputs[0])
        return _SLOPES[ctx.activation](grad_outputs[0] * up, gate), grad_up, None

"""What keeps less for the backward pass than PyTorch would has the gradients that PyTorch would find."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wenloom.model.feedforward import FeedForward
from wenloom.model.lora import AdaptedLinear, AdapterConfig
from wenloom.model.norm import RMSNorm
from wenloom.model.parts import Activation, FeedForwardShape
from wenloom.model.quantize import QuantizedLinear, quantize_weight


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gradients(function: Callable[..., Tensor], *inputs: Tensor) -> tuple[Tensor, ...]:
    y = function(*inputs)
    return y, *torch.autograd.grad(y, inputs, drawn(*y.shape, seed=9).to(y.dtype))


@pytest.mark.parametrize("has_bias", [True, False])
def test_an_adapter_has_the_gradients_of_its_formula(has_bias: bool):
    linear = nn.Linear(6, 5, bias=has_bias, dtype=torch.float64).requires_grad_(False)
    layer = AdaptedLinear(linear, AdapterConfig(rank=3, alpha=5.0)).double()
    a, b, x = (drawn(*shape, seed=n).requires_grad_() for n, shape in enumerate(((3, 6), (5, 3), (2, 4, 6))))
    layer.lora_a, layer.lora_b = nn.Parameter(a.detach()), nn.Parameter(b.detach())

    def by_formula(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return F.linear(x, linear.weight, linear.bias) + 5.0 / 3 * (x @ a.T @ b.T)

    ours = gradients(lambda x, a, b: torch.func.functional_call(layer, {"lora_a": a, "lora_b": b}, x), x, a, b)
    for mine, other in zip(ours, gradients(by_formula, x, a, b), strict=True):
        torch.testing.assert_close(mine, other)
    layer(x.detach()).sum().backward()  # below the first adapter nothing learns
    assert layer.lora_a.grad is not None and linear.weight.grad is None


@pytest.mark.parametrize("bits", [8, 4])
def test_beside_quantized_weights_no_weight_is_kept(bits: Any):
    """Autograd keeps what they stand for, four or eight times as large, of every layer."""
    q, scale = quantize_weight(drawn(64, 96).float(), bits)
    layer = AdaptedLinear(QuantizedLinear(q, scale, None, bits), AdapterConfig(rank=2))
    layer.initialise(torch.Generator().manual_seed(0))
    kept: list[int] = []
    x = drawn(10, 96, seed=1).float().requires_grad_()

    def pack(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        y = layer(x)
    assert max(kept) < 64 * 96
    torch.testing.assert_close(torch.autograd.grad(y.sum(), x)[0], layer.merged().sum(0).expand(10, -1))


@pytest.mark.parametrize("activation", ["silu", "gelu_tanh"])
def test_a_gate_has_the_gradients_of_its_formula(activation: Activation):
    layer = FeedForward(FeedForwardShape(activation=activation), 6, 8).double()
    act = {"silu": F.silu, "gelu_tanh": lambda x: F.gelu(x, approximate="tanh")}[activation]
    inputs = (drawn(3, 6), *(each.weight for each in (layer.gate, layer.up, layer.down) if each is not None))

    def by_formula(x: Tensor, gate: Tensor, up: Tensor, down: Tensor) -> Tensor:
        return (act(x @ gate.T) * (x @ up.T)) @ down.T

    x = inputs[0].requires_grad_()
    ours = gradients(lambda *_: layer(x), *inputs)
    for mine, other in zip(ours, gradients(by_formula, *inputs), strict=True):
        torch.testing.assert_close(mine, other)


@pytest.mark.parametrize("learns", [True, False])
def test_a_norm_in_mixed_precision_has_the_gradients_of_pytorchs(learns: bool):
    norm = RMSNorm(64, eps=1e-5)
    norm.weight = nn.Parameter(drawn(64, seed=1).float(), requires_grad=learns)
    x = (3 * drawn(4, 5, 64)).float().requires_grad_()
    wanted = (x, norm.weight) if learns else (x,)
    theirs = gradients(lambda x, *_: F.rms_norm(x, (64,), norm.weight, 1e-5), *wanted)
    with torch.autocast("cpu", torch.bfloat16):
        ours = gradients(lambda x, *_: norm(x), *wanted)
    torch.testing.assert_close(ours[0], theirs[0])
    for mine, other in zip(ours[1:], theirs[1:], strict=True):
        torch.testing.assert_close(mine, other, rtol=0.01, atol=0.01 * float(other.abs().max()))

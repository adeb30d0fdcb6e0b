"""Adapters: a frozen model and a few new weights beside its matrices.

LoRA (Hu et al. 2022, eq. 3): y = W x + (alpha / r) B A x with A of shape (r, in), B of shape (out, r), B = 0 at the
start. DoRA (Liu et al. 2024, eq. 5): the rows of W + (alpha / r) B A are given a length of their own, m.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wenloom.core.errors import InputError
from wenloom.model.build import Model
from wenloom.model.quantize import QuantizedLinear

ATTENTION = ("query", "key", "value", "output")
"""The linear layers of attention."""
TARGETS = (*ATTENTION, "gate", "up", "down")
"""The linear layers of a block, of self-attention, cross-attention and the feed-forward layer or each of its experts."""


@dataclass(frozen=True)
class AdapterConfig:
    """What an adapter changes, and by how much."""

    rank: int = 8
    """r: rows of A, columns of B."""
    alpha: float = 16.0
    """The change is multiplied by alpha / r."""
    dropout: float = 0.0
    """Dropout on what A reads."""
    targets: tuple[str, ...] = TARGETS
    """Which layers of every block."""
    dora: bool = False
    """Learn the length of every row of the matrices as well."""

    def __post_init__(self):
        wrong = []
        if self.rank < 1:
            wrong.append(f"rank must be at least 1, got {self.rank}")
        if self.alpha <= 0:
            wrong.append(f"alpha must be above 0, got {self.alpha}")
        if not 0 <= self.dropout < 1:
            wrong.append(f"dropout must be at least 0 and below 1, got {self.dropout}")
        if strange := sorted(set(self.targets) - set(TARGETS)):
            wrong.append(f"{', '.join(strange)}: known layers are {', '.join(TARGETS)}")
        if not self.targets:
            wrong.append("an adapter needs at least one layer")
        if wrong:
            raise InputError("This adapter cannot be made: " + "; ".join(wrong) + ".")


def weight_of(linear: nn.Linear | QuantizedLinear, dtype: torch.dtype) -> Tensor:
    """W of a layer, shape (out, in), also of one with quantized weights."""
    return linear.weight_as(dtype) if isinstance(linear, QuantizedLinear) else linear.weight.detach().to(dtype)


class AdaptedLinear(nn.Module):
    """A frozen linear layer with its adapter.

    Args:
        linear: also one with quantized weights (Dettmers et al. 2023, QLoRA, without its number type).
    """

    def __init__(self, linear: nn.Linear | QuantizedLinear, config: AdapterConfig, rank: int | None = None):
        super().__init__()
        self.linear, self.config = linear, config
        self.rank = rank or config.rank
        self.scale = config.alpha / config.rank
        device = (linear.packed if isinstance(linear, QuantizedLinear) else linear.weight).device
        self.lora_a = nn.Parameter(torch.zeros(self.rank, linear.in_features, device=device))
        self.lora_b = nn.Parameter(torch.zeros(linear.out_features, self.rank, device=device))
        self.magnitude = nn.Parameter(torch.zeros(linear.out_features, device=device)) if config.dora else None
        self.active = True

    @property
    def in_features(self) -> int:
        """Width of what it reads."""
        return self.linear.in_features

    @property
    def out_features(self) -> int:
        """Width of what it gives."""
        return self.linear.out_features

    @property
    def bias(self) -> Tensor | None:
        """The bias of the frozen layer."""
        return self.linear.bias

    def initialise(self, generator: torch.Generator) -> None:
        """A uniform as PEFT draws it (Kaiming, a = sqrt 5: ± 1 / sqrt(in)), B 0, m the lengths of the rows of W."""
        bound = self.in_features**-0.5
        with torch.no_grad():
            drawn = torch.empty(self.lora_a.shape).uniform_(-bound, bound, generator=generator)
            self.lora_a.copy_(drawn)
            self.lora_b.zero_()
            if self.magnitude is not None:
                self.magnitude.copy_(self.base_weight(torch.float32).norm(dim=1))

    def base_weight(self, dtype: torch.dtype) -> Tensor:
        """W without the adapter, shape (out, in)."""
        return weight_of(self.linear, dtype)

    def merged(self) -> Tensor:
        """The one matrix that computes the same."""
        with torch.no_grad():
            weight = self.base_weight(torch.float32) + self.scale * (self.lora_b.float() @ self.lora_a.float())
            if self.magnitude is not None:
                weight = weight * (self.magnitude.float() / weight.norm(dim=1))[:, None]
            return weight

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_autocast_enabled(x.device.type):
            x = x.to(torch.get_autocast_dtype(x.device.type))  # once: each product keeps what it reads
        if self.active and self._is_plain():
            return _AdaptedProduct.apply(x, self.lora_a, self.lora_b, self.linear, self.scale)  # pyright: ignore
        y = self.linear(x)
        if not self.active:
            return y
        dropped = F.dropout(x, self.config.dropout, self.training)
        change = F.linear(F.linear(dropped, self.lora_a.to(x.dtype)), self.lora_b.to(x.dtype)) * self.scale
        if self.magnitude is None:
            return y + change
        weight = self.base_weight(torch.float32)
        with torch.no_grad():  # the length is taken as a constant (section 4.3)
            length = (weight + self.scale * (self.lora_b.float() @ self.lora_a.float())).norm(dim=1)
        stretch = (self.magnitude / length).to(y.dtype)
        plain = y if self.bias is None else y - self.bias
        return y + (stretch - 1) * plain + stretch * change

    def _is_plain(self) -> bool:
        """Whether it learns as `_AdaptedProduct` has it."""
        drops = self.config.dropout > 0 and self.training
        learns = torch.is_grad_enabled() and not torch.compiler.is_compiling()
        return learns and self.magnitude is None and not drops and not weight_learns(self.linear)


def weight_learns(linear: nn.Linear | QuantizedLinear) -> bool:
    """Whether the matrix beside the adapter is not frozen."""
    return any(parameter.requires_grad for parameter in linear.parameters())


class _AdaptedProduct(torch.autograd.Function):
    """y = x Wᵀ + s (x Aᵀ) Bᵀ with W frozen.

    With g = dL/dy: dL/dx = g W + s (g B) A, dL/dA = s (g B)ᵀ x, dL/dB = s gᵀ (x Aᵀ). Autograd would keep what quantized
    weights stand for and walk three times over results as large as y.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, a_RI: Tensor, b_OR: Tensor, linear: nn.Linear | QuantizedLinear, scale: float
    ) -> Tensor:
        rows_NI = x.flatten(0, -2)
        with torch.autocast(x.device.type, enabled=False):
            low_NR = rows_NI @ a_RI.to(x.dtype).T
            bias = None if linear.bias is None else linear.bias.to(x.dtype)
            y_NO = F.linear(rows_NI, weight_of(linear, x.dtype), bias)
            torch.addmm(y_NO, low_NR, b_OR.to(x.dtype).T, alpha=scale, out=y_NO)
        ctx.save_for_backward(rows_NI, low_NR, a_RI, b_OR)
        ctx.linear, ctx.scale, ctx.shape = linear, scale, x.shape
        return y_NO.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        rows_NI, low_NR, a_RI, b_OR = ctx.saved_tensors
        grad_NO, dtype = grad_outputs[0].flatten(0, -2), rows_NI.dtype
        with torch.autocast(grad_NO.device.type, enabled=False):
            grad_low_NR = (grad_NO @ b_OR.to(dtype)).mul_(ctx.scale)
            grad_a = (grad_low_NR.T @ rows_NI).to(a_RI.dtype)
            grad_b = (grad_NO.T @ low_NR).to(b_OR.dtype).mul_(ctx.scale)
            grad_x = None
            if ctx.needs_input_grad[0]:
                grad_NI = grad_NO @ weight_of(ctx.linear, dtype)
                grad_x = torch.addmm(grad_NI, grad_low_NR, a_RI.to(dtype), out=grad_NI).view(ctx.shape)
        return grad_x, grad_a, grad_b, None, None


def adapt(model: Model, config: AdapterConfig, generator: torch.Generator | None = None) -> Model:
    """Freeze a model, but for classes, and put an adapter beside the layers that `config` names, in place.

    Args:
        generator: draws the fresh weights; None leaves them 0, to be filled from a file.

    Raises:
        InputError: the model has none of these layers, or is adapted already.
    """
    if any(isinstance(module, AdaptedLinear) for module in model.modules()):
        raise InputError("this model has an adapter already: merge it first.")
    pattern = re.compile(rf"\bblocks\.\d+\.(attention|cross|mlp(?:\.experts\.\d+)?)\.({'|'.join(config.targets)})$")
    found = [name for name, module in model.named_modules()
             if pattern.search(name) and isinstance(module, nn.Linear | QuantizedLinear)]  # fmt: skip
    if not found:
        raise InputError(f"this model has none of the layers {', '.join(config.targets)}.")
    freeze(model)
    for name in found:
        linear = model.get_submodule(name)
        assert isinstance(linear, nn.Linear | QuantizedLinear)
        adapted = AdaptedLinear(linear, config)
        if generator is not None:
            adapted.initialise(generator)
        model.set_submodule(name, adapted)
    return model


def freeze(model: Model) -> None:
    """Let nothing learn but classes, which are learned as a whole."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith("classifier."))


def keep_frozen_in(model: Model, dtype: torch.dtype) -> None:
    """Keep the frozen matrices beside adapters in the dtype that they are multiplied in, instead of converting them at every
    step: half of the memory. DoRA's stay, whose lengths are computed from them."""
    for _, layer in adapted_layers(model):
        if isinstance(layer.linear, nn.Linear) and layer.magnitude is None:
            layer.linear.weight.data = layer.linear.weight.data.to(dtype)


def adapted_layers(model: nn.Module) -> Iterator[tuple[str, AdaptedLinear]]:
    """The layers that have an adapter, and where they are."""
    for name, module in model.named_modules():
        if isinstance(module, AdaptedLinear):
            yield name, module


def merge(model: Model) -> Model:
    """Make an adapter part of the matrices, in place; quantized ones become unquantized.

    What it computes stays the same up to rounding.
    """
    for name, layer in list(adapted_layers(model)):
        has_bias = layer.bias is not None
        linear = nn.Linear(layer.in_features, layer.out_features, bias=has_bias, device="meta")
        dtype = torch.float32 if isinstance(layer.linear, QuantizedLinear) else layer.linear.weight.dtype
        linear.weight = nn.Parameter(layer.merged().to(dtype))
        if layer.bias is not None:
            linear.bias = nn.Parameter(layer.bias.detach().to(dtype))
        model.set_submodule(name, linear)
    return model.requires_grad_(True)


@contextmanager
def without_adapter(model: nn.Module) -> Iterator[None]:
    """Compute as the frozen model alone does."""
    layers = [layer for _, layer in adapted_layers(model)]
    for layer in layers:
        layer.active = False
    try:
        yield
    finally:
        for layer in layers:
            layer.active = True

"""Weights in the layout that oneDNN's products want, for reading much text in float32 on a CPU.

PyTorch multiplies float32 matrices by MKL, which uses half the vector width of some processors (AMD's, with AVX-512): there
the same product through oneDNN with packed weights is 2.3 times as fast. Packing takes as much memory again. The non-linearity
behind a product is computed with it, before the numbers leave the cache.
"""

import copy
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

from wenloom.core.hardware import memory_available
from wenloom.model.decoder import Decoder
from wenloom.model.encoder import Encoder
from wenloom.model.encoder_decoder import EncoderDecoder
from wenloom.model.feedforward import ACTIVATIONS, FeedForward
from wenloom.model.parts import Activation

ModelT = TypeVar("ModelT", bound=Decoder | Encoder | EncoderDecoder)
_ROWS = 1024
"""Rows of a product that the layout is chosen for; it serves any number."""


_FUSED: dict[Activation, tuple[str, str]] = {
    "gelu": ("gelu", "none"), "gelu_tanh": ("gelu", "tanh"), "relu": ("relu", ""), "silu": ("swish", ""), "tanh": ("tanh", ""),
}  # fmt: skip
"""oneDNN's names of non-linearities, and of how they are approximated."""


class PackedLinear(nn.Module):
    """f(x Wᵀ + b) for inference, W packed once.

    Args:
        activation: f; None: nothing.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, activation: Activation | None = None):
        super().__init__()
        self._after = ("none", "") if activation is None else _FUSED[activation]
        self._packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), _ROWS)
        self._bias = None if bias is None else bias.detach()

    def forward(self, x: Tensor) -> Tensor:
        """As `nn.Linear`."""
        kind, algorithm = self._after
        return torch.ops.mkldnn._linear_pointwise(x, self._packed, self._bias, kind, [], algorithm)


def _name_of(function: Callable[[Tensor], Tensor]) -> Activation | None:
    """Of a non-linearity that a product takes along."""
    return next((name for name in _FUSED if ACTIVATIONS[name] is function), None)


def _as_it_is(x: Tensor) -> Tensor:
    return x


def packed(model: ModelT) -> ModelT:
    """A model with packed matrices, sharing all else; the model itself where that is of no use.

    Only for inference; the original must stay unchanged meanwhile.
    """
    weight = model.embed.weight
    fits = weight.device.type == "cpu" and weight.dtype == torch.float32 and torch.backends.mkldnn.is_available()
    free = memory_available("cpu")
    if not fits or (free is not None and 8 * model.n_parameters() > free):
        return model
    if not hasattr(torch.ops.mkldnn, "_linear_pointwise"):  # not a public part of PyTorch
        return model
    made = copy.deepcopy(model, {id(each): each for each in (*model.parameters(), *model.buffers())})
    for module in [*made.modules()]:
        layer = module if type(module) is FeedForward else None
        activation = None if layer is None else _name_of(layer.activation)
        before = "" if layer is None or activation is None else "up" if layer.gate is None else "gate"
        for name, child in module.named_children():
            if type(child) is nn.Linear:
                setattr(module, name, PackedLinear(child.weight, child.bias, activation if name == before else None))
        if layer is not None and before and isinstance(getattr(layer, before), PackedLinear):
            layer.activation = _as_it_is
    decoder = made.decoder if isinstance(made, EncoderDecoder) else made
    if isinstance(decoder, Decoder) and decoder.head is None:
        decoder.head = PackedLinear(weight, None)  # pyright: ignore[reportAttributeAccessIssue]
    return made

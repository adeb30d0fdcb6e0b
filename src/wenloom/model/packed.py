"""Weights in the layout that oneDNN's products want, for reading much text in float32 on a CPU.

PyTorch multiplies float32 matrices by MKL, which uses half the vector width of some processors (AMD's, with AVX-512): there
the same product through oneDNN with packed weights is 2.3 times as fast. Packing takes as much memory again.
"""

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn

from wenloom.core.hardware import memory_available
from wenloom.model.decoder import Decoder
from wenloom.model.encoder import Encoder
from wenloom.model.encoder_decoder import EncoderDecoder

ModelT = TypeVar("ModelT", bound=Decoder | Encoder | EncoderDecoder)
_ROWS = 1024
"""Rows of a product that the layout is chosen for; it serves any number."""


class PackedLinear(nn.Module):
    """x Wᵀ + b for inference, W packed once."""

    def __init__(self, weight: Tensor, bias: Tensor | None):
        super().__init__()
        self._packed = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), _ROWS)
        self._bias = None if bias is None else bias.detach()

    def forward(self, x: Tensor) -> Tensor:
        """As `nn.Linear`."""
        return torch.ops.mkldnn._linear_pointwise(x, self._packed, self._bias, "none", [], "")


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
        for name, child in module.named_children():
            if type(child) is nn.Linear:
                setattr(module, name, PackedLinear(child.weight, child.bias))
    decoder = made.decoder if isinstance(made, EncoderDecoder) else made
    if isinstance(decoder, Decoder) and decoder.head is None:
        decoder.head = PackedLinear(weight, None)  # pyright: ignore[reportAttributeAccessIssue]
    return made

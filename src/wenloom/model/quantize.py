"""Weights in 8 or 4 bits: a quarter or an eighth of the memory, and of the time to read them.

Symmetric and weight-only: w ≈ scale * q, with one scale per row for int8 (q in -127 .. 127), one per row and group of
32 columns for int4 (q in -8 .. 7). Products take the dequantized weights, so that nothing but the
quantization error of the weights is lost. The embedding stays as it is and the output matrix has 8 bits at least: in 4 bits it alone
costs about as much as all other matrices together (SmolLM2-135M on WikiText-2: perplexity 14.1, blocks in int4 16.6, the
output matrix too 18.8).
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wenloom.core.errors import InputError
from wenloom.core.memory import LargePages
from wenloom.model.block import Block
from wenloom.model.decoder import Decoder

Bits = Literal[8, 4]
GROUP = 32
"""Columns that share a scale in int4."""


class QuantizedLinear(nn.Module):
    """A linear layer whose weight is kept in 8 or 4 bits.

    Attributes:
        packed: int8 (out, in); or uint8 (out, in / 2) where byte j of a block of 64 columns holds column j in its
            low four bits and column j + 32 in its high ones, each plus 8 (32 columns that are left over: j and j + 16).
        scale: float32 (out,) or (out, in / 32).
    """

    packed: Tensor
    scale: Tensor

    def __init__(self, q: Tensor, scale: Tensor, bias: Tensor | None, bits: Bits):
        """
        Args:
            q: int8, shape (out, in).
            scale: see above.
        """
        super().__init__()
        self.out_features, self.in_features, self.bits = q.shape[0], q.shape[1], bits
        self.register_buffer("packed", q.contiguous() if bits == 8 else _packed(q))
        self.register_buffer("scale", scale.contiguous())
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)

    @property
    def integers(self) -> Tensor:
        """q, int8 of shape (out, in)."""
        if self.bits == 8:
            return self.packed
        parts = [
            torch.cat((part & 15, part >> 4), -1).view(self.out_features, -1) for part in _blocks(self.packed, GROUP)
        ]
        return torch.cat(parts, -1).to(torch.int8) - 8

    def weight_as(self, dtype: torch.dtype) -> Tensor:
        """scale * q, shape (out, in)."""
        if self.bits == 8:
            return self.packed.to(dtype) * self.scale[:, None].to(dtype)
        groups = self.integers.view(self.out_features, -1, GROUP).to(dtype) * self.scale[..., None].to(dtype)
        return groups.view(self.out_features, -1)

    def forward(self, x: Tensor) -> Tensor:
        if self.bits == 8 and x.device.type == "cpu" and x.numel() // x.shape[-1] <= _FEW and not x.requires_grad:
            y = torch.ops.aten._weight_int8pack_mm(x.reshape(-1, x.shape[-1]), self.packed, self.scale.to(x.dtype))
            y = y.view(*x.shape[:-1], -1)
            return y if self.bias is None else y + self.bias
        mixed = torch.is_autocast_enabled(x.device.type)
        return F.linear(x, self.weight_as(torch.get_autocast_dtype(x.device.type) if mixed else x.dtype), self.bias)


_FEW = 8
"""Rows up to which a product reads int8 weights as they are; beyond, dequantizing them once costs less."""


def _packed(q: Tensor) -> Tensor:
    halves = [part.chunk(2, -1) for part in _blocks((q + 8).to(torch.uint8), 2 * GROUP)]
    return torch.cat([(low | high << 4).view(q.shape[0], -1) for low, high in halves], -1)


def _blocks(rows: Tensor, size: int) -> list[Tensor]:
    """Rows in blocks, shape (rows, blocks, size); and where half a block is left over, that (rows, 1, size / 2)."""
    whole = rows.shape[1] // size * size
    parts = [rows[:, :whole].view(len(rows), -1, size)] if whole else []
    return parts + ([rows[:, None, whole:]] if whole < rows.shape[1] else [])


def quantize_weight(weight: Tensor, bits: Bits) -> tuple[Tensor, Tensor]:
    """(q, scale) of a weight of shape (out, in).

    int8 takes the largest weight of a row as 127. int4 takes the scale of each group that loses least in mean
    square, of eight around the one that takes the largest weight as -8 or 7. (Four scales, each refitted by least squares to
    what it rounds to, lose 4 % less in mean square, but 0.2 to 0.4 of SmolLM2-135M's perplexity on WikiText-2.)

    Raises:
        InputError: the columns are no multiple of 32 (int4).
    """
    if bits == 4 and weight.shape[1] % GROUP:
        raise InputError(f"int4 takes groups of {GROUP} columns, which {weight.shape[1]} are not: use int8.")
    rows = max(1, _PIECE // weight.shape[1])
    q = torch.empty(weight.shape, dtype=torch.int8, device=weight.device)
    scale = torch.empty(
        weight.shape[:1] if bits == 8 else (len(weight), weight.shape[1] // GROUP), device=weight.device
    )
    for start in range(0, len(weight), rows):
        piece = weight.detach()[start : start + rows].float().contiguous()
        found, its_scale = _quantize_int8(piece) if bits == 8 else _quantize_int4(piece)
        q[start : start + rows], scale[start : start + rows] = found, its_scale
    return q, scale


_PIECE = 2**17
"""Weights that are quantized at a time, so that they stay in the processor's cache."""
_LEVELS = (-6.5, -7.0, -7.5, -8.0, -8.6, 6.2, 6.8, 7.4)
"""What the largest weight of a group becomes before it is rounded."""


def _quantize_int8(weight: Tensor) -> tuple[Tensor, Tensor]:
    scale = weight.abs().amax(-1).clamp(min=1e-12) / 127
    return (weight / scale[:, None]).round_().clamp_(-127, 127), scale


def _quantize_int4(weight: Tensor) -> tuple[Tensor, Tensor]:
    groups = weight.view(weight.shape[0], -1, GROUP)
    high, low = groups.amax(-1), groups.amin(-1)
    extreme = torch.where(high > -low, high, low)
    extreme = torch.where(extreme.abs() < 1e-12, 1.0, extreme)
    q = torch.empty_like(groups)
    best_scale, best_loss = torch.ones_like(extreme), torch.full_like(extreme, torch.inf)
    for level in _LEVELS:
        scale = extreme / level
        torch.mul(groups, (level / extreme)[..., None], out=q).round_().clamp_(-8, 7)
        # |groups - scale q|² without |groups|², which is the same for all
        loss = scale * (scale * torch.linalg.vecdot(q, q) - 2 * torch.linalg.vecdot(q, groups))
        better = loss < best_loss
        best_scale, best_loss = torch.where(better, scale, best_scale), torch.where(better, loss, best_loss)
    torch.div(groups, best_scale[..., None], out=q).round_().clamp_(-8, 7)
    return q.view(weight.shape), best_scale


def parse_bits(name: str) -> Bits:
    """8 or 4 from int8 or int4.

    Raises:
        InputError: another name.
    """
    if name not in ("int8", "int4"):
        raise InputError(f"{name!r} is not a quantization of weights: known are int8 and int4.")
    return 8 if name == "int8" else 4


def block_bits(layer: int, n_layers: int, bits: Bits) -> Bits:
    """How many bits the matrices of a block get: in int4 the first and the last of eight or more keep 8.

    They lose most. SmolLM2-135M (30 blocks) on WikiText-2: perplexity 16.6 with all in int4, 15.6 so, 14.1 unquantized.
    """
    return 8 if n_layers >= _MANY_BLOCKS and layer in (0, n_layers - 1) else bits


_MANY_BLOCKS = 8
"""From here on two blocks are a quarter of all at most."""


def quantize(decoder: Decoder, bits: Bits) -> Decoder:
    """Quantize the weights of every linear layer of the blocks to `block_bits` and the output matrix to 8, in place.

    The embedding and the routers of experts stay as they are; where the embedding serves as output matrix too, that gets
    a quantized copy of its own.

    Raises:
        InputError: it is quantized already, or its widths are no multiples of 32 (int4).
    """
    if is_quantized(decoder):
        raise InputError("the model's weights are quantized already.")
    pages = LargePages()
    for path, its_bits in bits_of_layers(decoder, bits).items():
        layer = decoder.get_submodule(path)
        assert isinstance(layer, nn.Linear)
        decoder.set_submodule(path, quantized_layer(layer.weight, layer.bias, its_bits, pages))
    quantize_head(decoder, pages)
    return decoder.requires_grad_(False)


def bits_of_layers(decoder: Decoder, bits: Bits) -> dict[str, Bits]:
    """Paths of the linear layers of the blocks, and what `quantize` gives to each."""
    found: dict[str, Bits] = {}
    for layer, block in enumerate(decoder.blocks):
        assert isinstance(block, Block)
        its_bits = block_bits(layer, len(decoder.blocks), bits)
        for part, module in (("attention", block.attention), ("mlp", block.mlp)):
            for name, child in module.named_modules():
                if isinstance(child, nn.Linear):
                    found[f"blocks.{layer}.{part}.{name}"] = its_bits
    return found


def is_quantized(model: nn.Module) -> bool:
    """Whether any of its layers keeps its weight in 8 or 4 bits."""
    return any(isinstance(module, QuantizedLinear) for module in model.modules())


def require_unquantized(model: nn.Module, act: str) -> None:
    """
    Args:
        act: what cannot be done with quantized weights.

    Raises:
        InputError: the model has such.
    """
    if is_quantized(model):
        raise InputError(
            f"{act}: this model's weights are quantized to 8 or 4 bits; take the one that it was made from."
        )


def quantize_head(decoder: Decoder, pages: LargePages) -> None:
    """Give a decoder an output matrix in 8 bits, kept in these pages."""
    decoder.head = quantized_layer(decoder.output_weight, None, 8, pages)  # pyright: ignore[reportAttributeAccessIssue]


def quantized_layer(weight: Tensor, bias: Tensor | None, bits: Bits, pages: LargePages) -> QuantizedLinear:
    """A linear layer with its weight, of shape (out, in), quantized and kept in these pages."""
    layer = QuantizedLinear(*quantize_weight(weight, bits), None if bias is None else bias.detach(), bits)
    layer.packed, layer.scale = pages.keep(layer.packed), pages.keep(layer.scale)
    return layer

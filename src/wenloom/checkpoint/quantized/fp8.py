"""Weights as floating-point numbers of 8 bits (e4m3): with a scale for each block of 128 x 128, as DeepSeek and Qwen publish
them, for a row or for the whole matrix, as AutoFP8 and FBGEMM have it.

What goes into the products is rounded to 8 bits, too, by those who made them; here it stays as it is.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from wenloom.checkpoint.quantized.fields import QuantizationFields
from wenloom.checkpoint.quantized.matrix import Format, Part, Scaled, blocks_of, in_blocks, sides
from wenloom.checkpoint.quantized.quantization import Quantization, one_format
from wenloom.checkpoint.weights import FLOATING, Stored
from wenloom.core.errors import CheckpointError

E4M3 = "F8_E4M3"
SCALES = (*FLOATING, "F8_E8M0")
_OF_ACTIVATIONS = ("input_scale", "activation_scale", "input_scale_ub", "output_scale", "k_scale", "v_scale", "q_scale")
_NAMES = ("weight_scale_inv", "weight_scale")
"""What the scale is called; it is multiplied with under both names."""


def read_fp8(config: Mapping[str, Any], where: str) -> Quantization:
    """
    Raises:
        CheckpointError: a field asks for what is not read.
    """
    fields = QuantizationFields(config, where, "fp8 weights of the format e4m3")
    method = str(config["quant_method"])
    for name in ("fmt", "weight_format"):
        fields.one_of(name, "e4m3", "float8_e4m3fn")
    fields.one_of("scale_fmt", "float", "ue8m0")
    fields.one_of("expert_dtype", "fp8")
    fields.one_of("activation_scheme", "dynamic", "static")
    block = fields.block("weight_block_size")
    whole = fields.names("modules_to_not_convert") + fields.names("ignored_layers")
    fields.changes_nothing(
        ("quant_method", "activation_scale_ub", "dequantize", "modules_to_convert", "kv_cache_scheme")
    )
    fields.finish()
    shared = "rows or matrices" if block is None else f"blocks of {block[0]} x {block[1]}"
    its_format = Format(
        f"fp8 in {shared}",
        ("weight",),
        _NAMES,
        (E4M3,),
        lambda parts: _layout(parts, block),
        lambda parts: _unpack(parts, block),
    )
    return Quantization(
        method, (its_format,), one_format(its_format, whole), rounds_activations=True, left_out=_OF_ACTIVATIONS
    )


def _layout(parts: Mapping[str, Stored], block: tuple[int, int] | None) -> tuple[tuple[int, int], dict[str, Part]]:
    weight = parts["weight"]
    rows, cols = sides(weight)
    scale = next((parts[name] for name in _NAMES if name in parts), None)
    if scale is None:
        raise CheckpointError(f'{weight.path}: tensor "{weight.name}_scale_inv" is missing from the weights.')
    grid = blocks_of((rows, cols), block or _block_of(scale.shape, (rows, cols)))
    return (rows, cols), {"weight": ((E4M3,), (rows, cols)), **dict.fromkeys(_NAMES, (SCALES, grid))}


def _unpack(parts: Mapping[str, Tensor], block: tuple[int, int] | None) -> Scaled:
    scale = next(parts[name] for name in _NAMES if name in parts)
    q = parts["weight"]
    return in_blocks(q, scale.float(), block or _block_of(scale.shape, (q.shape[0], q.shape[1])))


def _block_of(scale: tuple[int, ...], shape: tuple[int, int]) -> tuple[int, int]:
    """A scale that is a single number is that of the matrix, else there is one for a row."""
    return shape if all(side == 1 for side in scale) else (1, shape[1])

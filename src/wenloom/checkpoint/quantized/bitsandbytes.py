"""bitsandbytes as transformers stores it: 8 bits with a scale a row (LLM.int8, Dettmers et al. 2022), or 4 bits that are places
in a table of 16 numbers (nf4 and fp4, QLoRA, Dettmers et al. 2023) with a scale for 64 weights that follow each other.

The scales in 4 bits may be quantized in turn (double quantization, section 3 of QLoRA).
"""

import json
import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from wenloom.checkpoint.quantized.fields import QuantizationFields
from wenloom.checkpoint.quantized.matrix import Format, Part, Scaled, in_blocks, sides
from wenloom.checkpoint.quantized.quantization import Quantization, one_format
from wenloom.checkpoint.weights import FLOATING, Stored

LOADERS = ("load_in_8bit", "load_in_4bit")
"""What folders have instead of a method's name, where they are old."""
_READS = "bitsandbytes' int8, nf4 and fp4"
_CHANGE_NOTHING = (
    "quant_method", "llm_int8_enable_fp32_cpu_offload", "llm_int8_has_fp16_weight", "bnb_4bit_compute_dtype",
    "bnb_4bit_use_double_quant", "bnb_4bit_quant_storage", "_load_in_8bit", "_load_in_4bit", "_skip_modules",
)  # fmt: skip
"""What the tensors tell themselves, or what it computes with."""
_BYTES = {"U8": 1, "I8": 1, "F16": 2, "BF16": 2, "F32": 4, "F64": 8}


def read_bitsandbytes(config: Mapping[str, Any], where: str) -> Quantization:
    """
    Raises:
        CheckpointError: a field asks for what is not read.
    """
    fields = QuantizationFields(config, where, _READS)
    eight, four = (fields.flag(name, False) for name in LOADERS)
    if eight == four:
        raise fields.refusal(LOADERS[1], four if four else None)
    kind = fields.one_of("bnb_4bit_quant_type", "fp4", "nf4")
    fields.raw("llm_int8_threshold")  # of activations
    whole = fields.names("llm_int8_skip_modules")
    fields.changes_nothing(_CHANGE_NOTHING)
    fields.finish()
    its_format = _INT8 if eight else _four_bits(kind)
    return Quantization("bitsandbytes", (its_format,), one_format(its_format, whole), rounds_activations=eight)


def _layout_of_int8(parts: Mapping[str, Stored]) -> tuple[tuple[int, int], dict[str, Part]]:
    rows, cols = sides(parts["weight"])
    return (rows, cols), {
        "weight": (("I8",), (rows, cols)),
        "SCB": (("F32",), (rows,)),
        "weight_format": (("U8", "I8", "I32", "I64"), ()),
    }


def _unpack_int8(parts: Mapping[str, Tensor]) -> Scaled:
    if "weight_format" in parts and int(parts["weight_format"]):
        raise ValueError("its integers are not in the order of rows")
    q = parts["weight"]
    return in_blocks(q, parts["SCB"] / 127, (1, q.shape[1]))


_INT8 = Format("8 bits in rows", ("weight", "SCB"), ("weight_format",), ("I8",), _layout_of_int8, _unpack_int8)


def _four_bits(kind: str) -> Format:
    state, nested = f"weight.quant_state.bitsandbytes__{kind}", ("weight.nested_absmax", "weight.nested_quant_map")

    def layout(parts: Mapping[str, Stored]) -> tuple[tuple[int, int], dict[str, Part]]:
        told = _state(parts[state].read())
        rows, cols = told["shape"]
        weight = parts["weight"]
        its_bytes = _BYTES.get(weight.dtype, 1)
        blocks = -(-rows * cols // told["blocksize"])
        scales: Part = (("F32",), (blocks,))
        if told["nested_blocksize"]:
            scales = ("U8",), (blocks,)
            if missing := [name for name in nested if name not in parts]:
                raise ValueError(f"{missing[0]} is missing")
        return (rows, cols), {
            "weight": (tuple(_BYTES), (-(-rows * cols // (2 * its_bytes)), 1)),
            "weight.absmax": scales,
            "weight.quant_map": (FLOATING, (16,)),
            state: (("U8",), parts[state].shape),
            nested[0]: (("F32",), (-(-blocks // (told["nested_blocksize"] or 1)),)),
            nested[1]: (FLOATING, (256,)),
        }

    def unpack(parts: Mapping[str, Tensor]) -> Scaled:
        told = _state(parts[state])
        scale, size = parts["weight.absmax"].flatten(), told["blocksize"]
        if told["nested_blocksize"]:
            each = parts[nested[0]].flatten().repeat_interleave(told["nested_blocksize"])[: len(scale)]
            scale = parts[nested[1]].flatten().float()[scale.int()] * each + told["nested_offset"]
        packed = parts["weight"].contiguous().flatten().view(torch.uint8)
        places = torch.stack((packed >> 4, packed & 15), -1).flatten()  # the first in the high bits
        places = F.pad(places[: len(scale) * size], (0, max(0, len(scale) * size - len(places)))).view(-1, size)
        table = parts["weight.quant_map"].flatten()
        return Scaled(places, scale[:, None], torch.zeros(size, dtype=torch.long), table=table, shape=told["shape"])

    return Format(
        f"{kind} in blocks of its own",
        ("weight", "weight.absmax", "weight.quant_map", state),
        nested,
        (),
        layout,
        unpack,
    )


def _state(stored: Tensor) -> dict[str, Any]:
    """What a layer of 4 bits says of itself.

    Raises:
        ValueError: it is not what it should be.
    """
    told = json.loads(bytes(stored.flatten().tolist()))
    shape, size, nested = told["shape"], told["blocksize"], told.get("nested_blocksize")
    offset = told.get("nested_offset", 0.0)
    sizes = [*shape, size, *([nested] if nested is not None else [])]
    if len(shape) != 2 or not all(type(n) is int and 0 < n < 2**31 for n in sizes) or not math.isfinite(offset):
        raise ValueError("its quant_state has sizes that no matrix has")
    return {"shape": (shape[0], shape[1]), "blocksize": size, "nested_blocksize": nested, "nested_offset": offset}

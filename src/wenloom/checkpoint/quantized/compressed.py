"""compressed-tensors, as llm-compressor and Wenloom write it: packed integers of 2, 4 or 8 bits, plain ones, or floating-point
numbers of 8 bits, in groups of layers with a format each.

What goes into the products of such layers may be meant to be rounded, too; here it stays as it is.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from wenloom.checkpoint.quantized.fields import QuantizationFields
from wenloom.checkpoint.quantized.fp8 import E4M3
from wenloom.checkpoint.quantized.matrix import Format, Part, Scaled, blocks_of, in_blocks, sides, unpack_bits
from wenloom.checkpoint.quantized.quantization import Quantization
from wenloom.checkpoint.quantized.writing import own_form
from wenloom.checkpoint.weights import FLOATING, Stored

_PACKED, _PLAIN = "pack-quantized", ("int-quantized", "float-quantized", "naive-quantized")
_READS = (
    "quantized weights of compressed-tensors' pack-quantized (int of 2, 4 or 8 bits), int-quantized, naive-quantized and "
    "float-quantized (fp8), for layers by name, pattern or the class Linear"
)
_OF_ACTIVATIONS = tuple(
    f"{what}_{part}" for what in ("input", "output") for part in ("scale", "zero_point", "global_scale")
) + ("k_scale", "v_scale", "q_scale")


def read_compressed(config: Mapping[str, Any], where: str) -> Quantization:
    """
    Raises:
        CheckpointError: a field asks for what is not read.
    """
    fields = QuantizationFields(config, where, _READS)
    # files from before 2025 say frozen; their weights tell what they are
    if fields.raw("quantization_status") not in ("compressed", "frozen"):
        raise fields.refusal("quantization_status", config.get("quantization_status"))
    name, ignored = fields.one_of("format", None, _PACKED, *_PLAIN, "mixed-precision"), fields.names("ignore")
    groups = fields.raw("config_groups")
    if not isinstance(groups, Mapping) or not groups or not all(isinstance(each, Mapping) for each in groups.values()):
        raise fields.refusal("config_groups", groups)
    fields.is_empty("transform_config", "moe_sparsity_config")
    sparsity = fields.raw("sparsity_config") or {}
    if not isinstance(sparsity, Mapping) or sparsity.get("format", "dense") != "dense":
        raise fields.refusal("sparsity_config", sparsity)
    fields.changes_nothing(("quant_method", "global_compression_ratio", "version", "run_compressed", "dequantize",
                            "use_optimized_inference"))  # fmt: skip
    kv_cache = fields.raw("kv_cache_scheme")
    formats: dict[str, Format] = {}
    activations = kv_cache is not None
    for group in groups.values():
        inner = QuantizationFields(group, where, _READS)
        targets, weights = inner.names("targets"), inner.raw("weights")
        its_name = inner.one_of("format", name, _PACKED, *_PLAIN)
        if not isinstance(weights, Mapping):
            raise inner.refusal("weights", weights)
        activations |= any(inner.raw(f"{what}_activations") is not None for what in ("input", "output"))
        inner.finish()
        for target in targets:
            if not target.startswith("re:") and "." not in target and target != "Linear":
                raise inner.refusal("targets", list(targets))
        its_format = _format(QuantizationFields(weights, where, _READS), its_name)
        formats |= {target: its_format for target in targets if target not in formats}
    if not formats:
        raise fields.refusal("targets", [])
    fields.finish()
    patterns = _patterns([*formats, *ignored], fields)

    def matches(layer: str, target: str) -> bool:
        return layer == target or (target in patterns and patterns[target].match(layer) is not None)

    def format_of(layer: str) -> Format | None:
        if any(matches(layer, each) for each in ignored) or "Linear" in ignored:
            return None
        ordered = sorted(formats, key=lambda target: (target.startswith("re:"), target))
        return next((formats[each] for each in ordered if matches(layer, each)), formats.get("Linear"))

    return Quantization(
        "compressed-tensors",
        tuple(dict.fromkeys(formats.values())),
        format_of,
        names_all=True,
        rounds_activations=activations,
        left_out=_OF_ACTIVATIONS,
        own=own_form(config),
    )


def _patterns(targets: list[str], fields: QuantizationFields) -> dict[str, re.Pattern[str]]:
    """Targets that are patterns of names.

    Raises:
        CheckpointError: one is no regular expression.
    """
    found = {}
    for target in targets:
        if target.startswith("re:"):
            try:
                found[target] = re.compile(target[3:])
            except (re.error, RecursionError, OverflowError):
                raise fields.refusal("targets", target) from None
    return found


def _format(fields: QuantizationFields, name: str | None) -> Format:
    """That of a group's weights.

    Args:
        name: of its way to store them.
    """
    if name not in (_PACKED, *_PLAIN):
        raise fields.refusal("format", name)
    kind = fields.one_of("type", "int", "float")
    if (kind == "float") != (name == "float-quantized") and name != "naive-quantized":
        raise fields.refusal("type", kind)
    bits = fields.one_of("num_bits", 8, *((2, 4) if kind == "int" else ()))
    columns, block, strategy = fields.size("group_size"), fields.block("block_structure"), fields.raw("strategy")
    strategy = strategy or ("tensor" if fields.raw("group_size") is None else "channel" if columns is None else "group")
    if strategy not in ("tensor", "channel", "group", "block") or (columns is not None) != (strategy == "group"):
        raise fields.refusal("strategy", strategy)
    if (block is not None) != (strategy == "block"):
        raise fields.refusal("block_structure", block)
    symmetric, order = fields.flag("symmetric", True), fields.raw("actorder")
    if order not in (None, False, "weight", "static", "group", "dynamic"):
        raise fields.refusal("actorder", order)
    fields.one_of("dynamic", False)
    fields.changes_nothing(("observer", "observer_kwargs", "scale_dtype", "zp_dtype"))
    fields.finish()
    weights = _Weights(name == _PACKED, kind == "float", bits, strategy, columns or 1, block or (1, 1))
    stored = ("weight_packed", "weight_shape") if weights.packed else ("weight",)
    zero = () if symmetric else ("weight_zero_point",)
    places = ("weight_g_idx",) if order in ("group", "dynamic") else ()
    needed = (*stored, "weight_scale", *zero, *places)
    optional = tuple(each for each in ("weight_zero_point", "weight_g_idx") if each not in needed)
    kinds = () if weights.packed else ("I8", E4M3)
    return Format(weights.label, needed, optional, kinds, weights.layout, weights.unpack)


@dataclass(frozen=True)
class _Weights:
    """How a group of layers keeps its weights."""

    packed: bool
    floats: bool
    bits: int
    strategy: str
    columns: int
    """Of a group."""
    block: tuple[int, int]

    @property
    def label(self) -> str:
        shared = {"tensor": "matrices", "channel": "rows", "group": f"groups of {self.columns}",
                  "block": f"blocks of {self.block[0]} x {self.block[1]}"}  # fmt: skip
        return f"{'fp8' if self.floats else f'{self.bits} bits'} in {shared[self.strategy]}"

    def shared(self, shape: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns that share a scale, of a matrix of this shape."""
        rows, cols = shape
        return {"tensor": (rows, cols), "channel": (1, cols), "group": (1, self.columns), "block": self.block}[
            self.strategy
        ]

    def layout(self, parts: Mapping[str, Stored]) -> tuple[tuple[int, int], dict[str, Part]]:
        shape = _shape(parts["weight_shape"].read()) if self.packed else sides(parts["weight"])
        grid = blocks_of(shape, self.shared(shape))
        in_words = ("I32",), (-(-grid[0] * self.bits // 32), grid[1])
        return shape, {
            "weight": ((E4M3,) if self.floats else ("I8",), shape),
            "weight_packed": (("I32",), (shape[0], -(-shape[1] * self.bits // 32))),
            "weight_shape": (("I64", "I32"), (2,)),
            "weight_scale": (FLOATING, grid),
            "weight_zero_point": in_words if self.packed else (("I8", E4M3, *FLOATING), grid),
            "weight_g_idx": (("I32", "I64"), (shape[1],)),
        }

    def unpack(self, parts: Mapping[str, Tensor]) -> Scaled:
        zero: Tensor | int = 2 ** (self.bits - 1) if self.packed else 0
        if self.packed:
            shape = _shape(parts["weight_shape"])
            q = unpack_bits(parts["weight_packed"], self.bits)[:, : shape[1]]
        else:
            q = parts["weight"]
            shape = (q.shape[0], q.shape[1])
        grid = blocks_of(shape, self.shared(shape))
        if (given := parts.get("weight_zero_point")) is not None and self.packed:
            zero = unpack_bits(given.reshape(-1, grid[1]).T, self.bits)[:, : grid[0]].T
        elif given is not None:
            zero = given.float() if self.floats else given.to(torch.int16)
        scaled = in_blocks(q, parts["weight_scale"], self.shared(shape), zero)
        place = parts.get("weight_g_idx")
        if place is None or bool((place < 0).all()):  # -1 where nothing was reordered
            return scaled
        if not 0 <= int(place.min()) <= int(place.max()) < grid[1]:
            raise ValueError("weight_g_idx names groups that it does not have")
        return replace(scaled, group=place.flatten().long())


def _shape(stored: Tensor) -> tuple[int, int]:
    """
    Raises:
        ValueError: it is no shape of a matrix.
    """
    if stored.is_floating_point() or stored.numel() != 2 or not all(0 < n < 2**31 for n in stored.flatten().tolist()):
        raise ValueError(f"weight_shape is {stored.flatten().tolist()[:8]}")
    return int(stored.flatten()[0]), int(stored.flatten()[1])

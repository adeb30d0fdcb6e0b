"""Weights of 8 or 4 bits in a model folder, in the format `pack-quantized` of the compressed-tensors library.

transformers (with that library installed) and vLLM read such folders too. The embedding and the output matrix stay
as they are; Wenloom quantizes its own copy of the latter to 8 bits when it loads the model.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wenloom.checkpoint.families import FAMILIES
from wenloom.checkpoint.families.base import TensorMap
from wenloom.checkpoint.mxfp4 import is_mxfp4
from wenloom.checkpoint.weights import Stored
from wenloom.core.console import remark
from wenloom.core.errors import CheckpointError, InputError, printable
from wenloom.core.foreign import reading
from wenloom.model.config import ModelConfig
from wenloom.model.decoder import Decoder
from wenloom.model.quantize import GROUP, Bits, QuantizedLinear, block_bits, quantize_weight, require_unquantized

_FAMILIES = ("llama", "mistral", "qwen2", "qwen3")
"""Families whose matrices transformers keeps in layers of their own, as this format has them."""
_INNER = re.compile(r"blocks\.\d+\.(attention|mlp)\.(query|key|value|output|gate|up|down)\.weight")
_LINEAR = re.compile(rf"{_INNER.pattern}|head\.weight")


def quantization_config(model: ModelConfig, bits: Bits) -> dict[str, Any]:
    """What config.json says about it."""
    eight = [
        each.theirs.removesuffix(".weight")
        for each in FAMILIES[model.family].tensors(model)
        if _INNER.fullmatch(each.ours[0]) and _bits_of(each, model, bits) != bits
    ]
    groups = ([_group(eight, 8)] if eight else []) + [
        _group(["Linear"], bits)
    ]  # the library takes the first that matches
    return _OURS | {"ignore": ["lm_head"], "config_groups": {f"group_{i}": group for i, group in enumerate(groups)}}


_OURS = {"quant_method": "compressed-tensors", "format": "pack-quantized", "quantization_status": "compressed",
         "kv_cache_scheme": None}  # fmt: skip


def _group(targets: list[str], bits: Bits) -> dict[str, Any]:
    weights = {"num_bits": bits, "type": "int", "symmetric": True, "dynamic": False,
               "strategy": "channel" if bits == 8 else "group", "group_size": None if bits == 8 else GROUP}  # fmt: skip
    return {"targets": targets, "weights": weights, "input_activations": None, "output_activations": None}


def _bits_of(each: TensorMap, model: ModelConfig, bits: Bits) -> Bits:
    return block_bits(int(each.ours[0].split(".")[1]), model.n_layers, bits)


def quantized_state(decoder: Decoder, bits: Bits, dtype: torch.dtype | None = None) -> dict[str, Tensor]:
    """The weights of a decoder under its family's names, those of its blocks quantized and packed.

    Args:
        dtype: number type of what is not quantized; None: as it is.

    Raises:
        InputError: the family's format keeps its matrices in another way, or the model is quantized already.
    """
    family = decoder.config.family
    if family not in _FAMILIES:
        raise InputError(
            f"{family}: transformers keeps this family's matrices joined or transposed, which its format for quantized "
            f"weights does not know (it does {', '.join(_FAMILIES)}). Generate with --quantize int{bits} instead, "
            "which quantizes while loading."
        )
    require_unquantized(decoder, "quantization starts from unquantized weights")
    state, found = decoder.state_dict(), {}
    for each in FAMILIES[family].tensors(decoder.config):
        if not _INNER.fullmatch(each.ours[0]):
            found[each.theirs] = each.join([state[name].detach() for name in each.ours]).to(dtype).contiguous()
            continue
        its_bits = _bits_of(each, decoder.config, bits)
        q, scale = quantize_weight(state[each.ours[0]], its_bits)
        name = each.theirs.removesuffix("weight")
        found[f"{name}weight_packed"] = _pack(q, its_bits)
        found[f"{name}weight_scale"] = scale if its_bits == 4 else scale[:, None].contiguous()
        found[f"{name}weight_shape"] = torch.tensor(q.shape)
    return found


@dataclass(frozen=True)
class Quantization:
    """How the weights of a folder are quantized."""

    bits: Bits
    """Of every linear layer,"""
    others: Mapping[str, Bits]
    """but of these, by the names that they have in the file,"""
    ignored: frozenset[str]
    """and of these, which are not quantized."""


def read_quantization(config: Mapping[str, Any], where: str) -> Quantization | None:
    """How the weights of a folder are quantized; None where they are not.

    Raises:
        CheckpointError: they are quantized in another way than this module writes; names what differs.
    """
    for field in ("compression_config", "sparsity_config"):  # of older versions of the format
        if config.get(field) is not None:
            raise _refusal(where, field, config[field])
    found = config.get("quantization_config")
    if found is None or is_mxfp4(config):
        return None
    if not isinstance(found, Mapping):
        raise _refusal(where, "quantization_config", found)
    if (method := found.get("quant_method")) != "compressed-tensors":
        named = method if method is not None else next((key for key in _LOADERS if found.get(key)), None)
        raise _refusal(where, "quant_method", named)
    if (family := config.get("model_type")) not in _FAMILIES:
        raise _refusal(where, "model_type", family)
    groups, ignored = found.get("config_groups"), found.get("ignore") or []
    if not isinstance(groups, Mapping) or not groups:
        raise _refusal(where, "config_groups", groups)
    if not _are_names(ignored):
        raise _refusal(where, "ignore", ignored)
    _compare(found, _OURS, ("config_groups", "ignore"), where)
    bits, others = None, {}
    for group in groups.values():
        if not isinstance(group, Mapping) or not isinstance(weights := group.get("weights"), Mapping):
            raise _refusal(where, "config_groups", groups)
        if (its_bits := weights.get("num_bits")) not in (8, 4) or isinstance(its_bits, float):
            raise _refusal(where, "num_bits", its_bits)
        expected, targets = _group([], its_bits), group.get("targets")
        _compare(group, expected, ("targets", "weights"), where)
        _compare(weights, expected["weights"], (), where)
        if targets == ["Linear"] and bits is None:
            bits = its_bits
        elif _are_names(targets) and targets and all("." in name for name in targets):
            others |= dict.fromkeys(targets, its_bits)
        else:
            raise _refusal(where, "targets", targets)
    if bits is None:
        raise _refusal(where, "targets", [*others])
    return Quantization(bits, others, frozenset(ignored))


def _are_names(value: object) -> bool:
    """Whether it is a list of layers' names, without patterns."""
    return isinstance(value, list) and all(isinstance(name, str) and name[:3] != "re:" for name in value)


def _compare(theirs: Mapping[str, Any], ours: Mapping[str, Any], seen_to: Sequence[str], where: str) -> None:
    """
    Raises:
        CheckpointError: a field is missing, or has another value than we would write.
    """
    for field, value in theirs.items():
        if field in seen_to or field in _NOTES or value is None or value == ours.get(field):
            continue
        if field in ours or field in _READ_ELSEWHERE:
            raise _refusal(where, field, value)
        remark(f"{where}: quantization_config has a field that nothing reads, {printable(field, 60)}.")
    for field, value in ours.items():
        if value is not None and theirs.get(field) is None and field not in (*seen_to, *_DEFAULTS):
            raise _refusal(where, field, None)


_LOADERS = ("load_in_8bit", "load_in_4bit")
"""What old folders of bitsandbytes have instead of a method's name."""
_NOTES = ("global_compression_ratio", "version", "observer", "observer_kwargs", "scale_dtype")
"""What tells how the weights were found, not what they are."""
_READ_ELSEWHERE = ("moe_sparsity_config", "sparsity_config", "transform_config", "actorder", "block_structure", "zp_dtype", "format",
                   "dequantize", "use_optimized_inference", "run_compressed")  # fmt: skip
"""What the library acts upon, and this module does not."""
_DEFAULTS = ("type", "symmetric", "dynamic")
"""What the library fills in with what we expect."""


def _refusal(where: str, field: str, value: Any) -> CheckpointError:
    shown = "is missing" if value is None else printable(json.dumps(value, default=str), 80)
    return CheckpointError(
        f"{where}: quantization_config, {field}: {shown}; Wenloom reads quantized weights of compressed-tensors' "
        f"pack-quantized with int8 channels or int4 groups of {GROUP} only. Take the model with unquantized weights and "
        "--quantize it."
    )


def take_layer(
    stored: dict[str, Stored], each: TensorMap, wanted: tuple[int, ...], quantization: Quantization, where: str | Path
) -> QuantizedLinear | None:
    """A layer from its three tensors, without its bias; None for a tensor that is not quantized.

    Args:
        stored: the tensors of the folder; those of the layer are taken out.
        each: the weight, as it would be called were it not quantized.
        wanted: the shape that it must have.

    Raises:
        CheckpointError: a part is missing, damaged, or there against `ignored`.
    """
    layer = each.theirs.removesuffix(".weight")
    bits = quantization.others.get(layer, quantization.bits)
    if not _LINEAR.fullmatch(each.ours[0]):
        return None
    names = [f"{layer}.{part}" for part in ("weight_packed", "weight_scale", "weight_shape")]
    there = [name for name in names if name in stored]
    if layer in quantization.ignored:
        if there:
            raise CheckpointError(
                f'{where}: tensor "{there[0]}" is quantized, but config.json has "{layer}" in "ignore".'
            )
        return None
    if missing := [name for name in names if name not in stored]:
        raise CheckpointError(f'{where}: tensor "{missing[0]}" is missing from the weights.')
    with reading(where, CheckpointError):
        packed, scale, shape = (stored.pop(name).read() for name in names)
    rows, cols = wanted
    columns = 1 if bits == 8 else cols / GROUP
    for name, tensor, right in (
        (names[0], packed, packed.dtype == torch.int32 and tuple(packed.shape) == (rows, -(-cols * bits // 32))),
        (names[1], scale, scale.is_floating_point() and tuple(scale.shape) == (rows, columns)),
        (names[2], shape, not shape.is_floating_point() and shape.flatten().tolist() == [rows, cols]),
    ):
        if not right:
            held = (
                f"{shape.tolist()}"
                if tensor is shape and shape.numel() < 9
                else f"{tensor.dtype}, {tuple(tensor.shape)}"
            )
            raise CheckpointError(
                f'{where}: tensor "{name}" ({held}) is not that of {rows} x {cols} weights of {bits} bits.'
            )
    if not scale.isfinite().all():
        raise CheckpointError(f'{where}: tensor "{names[1]}" holds values that are no numbers; the file is damaged.')
    shifts = torch.arange(0, 32, bits, dtype=torch.int32)
    q = (packed[..., None] >> shifts & (2**bits - 1)).view(rows, -1)[:, :cols] - 2 ** (bits - 1)
    return QuantizedLinear(q.to(torch.int8), scale.float() if bits == 4 else scale.float()[:, 0], None, bits)


def _pack(q: Tensor, bits: Bits) -> Tensor:
    """32 / bits values an int32, the first in the lowest bits, each made non-negative."""
    per_word = 32 // bits
    if short := -q.shape[1] % per_word:
        q = torch.nn.functional.pad(q, (0, short), value=-(2 ** (bits - 1)))
    values = (q.to(torch.int64) + 2 ** (bits - 1)).view(q.shape[0], -1, per_word)
    words = (values << torch.arange(0, 32, bits)).sum(-1)
    return torch.where(words >= 2**31, words - 2**32, words).to(torch.int32)

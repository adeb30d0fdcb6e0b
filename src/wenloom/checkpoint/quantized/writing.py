"""Weights of 8 or 4 bits in a model folder, in the format `pack-quantized` of the compressed-tensors library.

transformers (with that library installed) and vLLM read such folders too. The embedding and the output matrix stay
as they are; Wenloom quantizes its own copy of the latter to 8 bits when it loads the model.
"""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from wenloom.checkpoint.families import FAMILIES
from wenloom.checkpoint.families.base import TensorMap
from wenloom.core.errors import InputError
from wenloom.model.config import ModelConfig
from wenloom.model.decoder import Decoder
from wenloom.model.quantize import GROUP, Bits, block_bits, quantize_weight, require_unquantized

_FAMILIES = ("llama", "mistral", "qwen2", "qwen3")
"""Families whose matrices transformers keeps in layers of their own, as this format has them."""
_INNER = re.compile(r"blocks\.\d+\.(attention|mlp)\.(query|key|value|output|gate|up|down)\.weight")


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


def own_form(config: Mapping[str, Any]) -> str | None:
    """Whether a quantization_config is of the form that `quantization_config` writes, and with how many bits."""
    groups = [*config["config_groups"].values()]
    bits = groups[-1]["weights"].get("num_bits")
    same = all(config.get(field) == value for field, value in _OURS.items()) and config.get("ignore") == ["lm_head"]
    expected = [_group(each["targets"], 8 if each is not groups[-1] else bits) for each in groups]
    return f"int{bits}" if same and groups == expected and bits in (8, 4) else None


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


def _pack(q: Tensor, bits: Bits) -> Tensor:
    """32 / bits values an int32, the first in the lowest bits, each made non-negative."""
    per_word = 32 // bits
    if short := -q.shape[1] % per_word:
        q = torch.nn.functional.pad(q, (0, short), value=-(2 ** (bits - 1)))
    values = (q.to(torch.int64) + 2 ** (bits - 1)).view(q.shape[0], -1, per_word)
    words = (values << torch.arange(0, 32, bits)).sum(-1)
    return torch.where(words >= 2**31, words - 2**32, words).to(torch.int32)

"""Weights of 8 or 4 bits in a model folder, in the format `pack-quantized` of the compressed-tensors library.

transformers (with that library installed) and vLLM read such folders too. The embedding and the output matrix stay
as they are; Wenloom rounds its own copy of the latter when it loads the model.
"""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from wenloom.checkpoint.families import FAMILIES
from wenloom.core.errors import CheckpointError, InputError
from wenloom.model.decoder import Decoder
from wenloom.model.quantize import GROUP, Bits, QuantizedLinear, rounded

_FAMILIES = ("llama", "mistral", "qwen2", "qwen3")
"""Families whose matrices transformers keeps in layers of their own, as this format has them."""
_INNER = re.compile(r"blocks\.\d+\.(attention|mlp)\.(query|key|value|output|gate|up|down)\.weight")


def quantization_config(bits: Bits) -> dict[str, Any]:
    """What config.json says about it."""
    weights = {"num_bits": bits, "type": "int", "symmetric": True, "dynamic": False,
               "strategy": "channel" if bits == 8 else "group", "group_size": None if bits == 8 else GROUP}  # fmt: skip
    group = {"targets": ["Linear"], "weights": weights, "input_activations": None, "output_activations": None}
    return {"quant_method": "compressed-tensors", "format": "pack-quantized", "quantization_status": "compressed",
            "ignore": ["lm_head"], "config_groups": {"group_0": group}, "kv_cache_scheme": None}  # fmt: skip


def quantized_state(decoder: Decoder, bits: Bits) -> dict[str, Tensor]:
    """The weights of a decoder under its family's names, those of its blocks rounded and packed.

    Raises:
        InputError: the family's format keeps its matrices in another way.
    """
    family = decoder.config.family
    if family not in _FAMILIES:
        raise InputError(
            f"{family}: transformers keeps this family's matrices joined or transposed, which its format for rounded "
            f"weights does not know (it does {', '.join(_FAMILIES)}). Generate with --quantize int{bits} instead, "
            "which rounds while loading."
        )
    state, found = decoder.state_dict(), {}
    for each in FAMILIES[family].tensors(decoder.config):
        if not _INNER.fullmatch(each.ours[0]):
            found[each.theirs] = each.join([state[name].detach() for name in each.ours]).contiguous()
            continue
        q, scale = rounded(state[each.ours[0]], bits)
        name = each.theirs.removesuffix("weight")
        found[f"{name}weight_packed"] = _pack(q, bits)
        found[f"{name}weight_scale"] = scale if bits == 4 else scale[:, None].contiguous()
        found[f"{name}weight_shape"] = torch.tensor(q.shape)
    return found


def read_bits(config: Mapping[str, Any], where: str) -> Bits | None:
    """How many bits the weights of a folder have; None for whole ones.

    Raises:
        CheckpointError: they are rounded in another way than this module writes.
    """
    found = config.get("quantization_config")
    if found is None:
        return None
    for bits in (8, 4):
        expected = quantization_config(bits)["config_groups"]["group_0"]["weights"]
        groups = found.get("config_groups", {}).values()
        weights = [each.get("weights") or {} for each in groups]
        same = [all(each.get(key) == value for key, value in expected.items() if key != "dynamic") for each in weights]
        if (
            found.get("quant_method") == "compressed-tensors"
            and found.get("format") == "pack-quantized"
            and same == [True]
        ):
            return bits
    raise CheckpointError(
        f"{where}: quantization_config rounds the weights in a way that Wenloom does not read ({found.get('quant_method')}, "
        f"{found.get('format', 'no format')}); it reads compressed-tensors' pack-quantized with int8 channels or int4 groups of 32."
    )


def quantized_layer(packed: Tensor, scale: Tensor, shape: Tensor, bits: Bits) -> QuantizedLinear:
    """A layer from its three tensors, without its bias."""
    rows, cols = shape.tolist()
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

"""What the compiled step computes: a list of what it knows, field by field. PyTorch computes everything else.

A list of what it does not know would let through whatever a model learns to do later.
"""

import platform
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields
from typing import Any, get_args

import torch
from torch import Tensor, nn

from wenloom.model.config import ModelConfig, leaves, name_for_users
from wenloom.model.decoder import Decoder
from wenloom.model.parts import Activation, Rope
from wenloom.model.quantize import GROUP, QuantizedLinear

CACHE_KINDS = {torch.float32: 0, torch.bfloat16: 1, torch.int8: 2}
"""Number types of keys and values, as step.c counts them; those of whole weights and of int8 ones too."""
ACTIVATIONS: tuple[Activation, ...] = ("gelu", "gelu_tanh", "quick_gelu", "silu", "relu", "relu_squared", "tanh")
"""In the order of step.c."""

_Check = Callable[[Any], bool]


def _any(value: Any) -> bool:
    return True


def _one_of(*values: object) -> _Check:
    return lambda value: value in values


_BY_PART: Mapping[str, Mapping[str, _Check]] = {
    "": {
        **dict.fromkeys(("vocab_size", "n_layers", "d_model", "n_heads", "n_kv_heads", "d_head", "d_mlp"), _any),
        **dict.fromkeys(("family", "context_length", "initializer_range", "decoder_start_token_id"), _any),
        **dict.fromkeys(("bos_token_id", "eos_token_ids", "pad_token_id"), _any),
        **dict.fromkeys(("encoder", "n_mels", "layer_groups"), _one_of(None)),
        "causal": _one_of(True),
        "labels": _one_of(()),
    },
    "attention": {
        **dict.fromkeys(("qkv_bias", "output_bias", "qk_norm"), _any),
        **dict.fromkeys(("scale_by_head", "scale_by_layer", "score_multiplier", "sliding_layers"), _any),
        "sliding_window": lambda window: window is None or window >= 1,
        "key_bias": _one_of(True),
        **dict.fromkeys(("qk_norm_whole", "sinks"), _one_of(False)),
        "score_cap": _one_of(None),
    },
    "positions": {
        "rope": lambda rope: rope is None or _knows_rope(rope),
        "kind": _one_of("learned", "sinusoidal"),
        **dict.fromkeys(("skip_padding", "buckets", "distance"), _any),
        "offset": _one_of(0),
        **dict.fromkeys(("local_rope", "disentangled"), _one_of(None)),
        "unrotated_layers": _one_of(()),
        **dict.fromkeys(("in_layers", "distance_bias"), _one_of(False)),
    },
    "mlp": {
        **dict.fromkeys(("gated", "bias"), _any),
        "activation": _one_of(*ACTIVATIONS),
        "experts": lambda experts: experts is None or experts.gate_limit is None,
    },
    "norms": {
        "kind": _one_of("layernorm", "rmsnorm"),
        "eps": _any,
        "place": _one_of("pre"),
        **dict.fromkeys(("bias", "first", "final"), _one_of(True)),
        "embedding": _one_of(False),
    },
    "residual": {"parallel": _any, "shared_norm": _one_of(False), "multiplier": _one_of(1.0)},
    "embedding": {
        "shared": _any,
        "scaled": _one_of(False),
        "multiplier": _one_of(1.0),
        "width": _one_of(None),
        "token_types": _one_of(0),
    },
    "logits": {
        "tied": _any,
        **dict.fromkeys(("bias", "scaled"), _one_of(False)),
        "multiplier": _one_of(1.0),
        "cap": _one_of(None),
    },
    "head": {
        **dict.fromkeys(("present", "bias"), _one_of(True)),
        **dict.fromkeys(("activation", "pooler"), _one_of(None)),
        "pooler_norm": _one_of(False),
    },
    "dropout": dict.fromkeys(("embedding", "attention", "residual"), _any),
}
"""By part of the shape. Any value will do of what it reads, from here or from the layers, and of what a step over several texts
has no use for."""
_MODEL_FIELDS: Mapping[str, _Check] = {
    f"{part}.{name}".removeprefix("."): check for part, known in _BY_PART.items() for name, check in known.items()
}
"""The same by the names of `leaves`."""
_ROPE_FIELDS: Mapping[str, _Check] = {
    "kind": _one_of("default", "linear", "yarn", "llama3"),  # those whose angles do not depend on the text's length
    **dict.fromkeys(("d_rotary", "theta", "factor", "original_context_length", "attention_factor", "beta_fast"), _any),
    **dict.fromkeys(("beta_slow", "mscale", "mscale_all_dim", "truncate", "short_factor", "long_factor"), _any),
    **dict.fromkeys(("low_freq_factor", "high_freq_factor"), _any),
}
"""The angles are PyTorch's (`rotary_table`), from all of these."""


def _knows_rope(rope: Rope) -> bool:
    """Whether every field is on the list, with a value that is."""
    return all(_is_known(_ROPE_FIELDS, each.name, getattr(rope, each.name)) for each in fields(rope))


def _is_known(known: Mapping[str, _Check], name: str, value: Any) -> bool:
    return name in known and known[name](value)


def declined(config: ModelConfig) -> list[str]:
    """The values that the compiled step does not compute, by the names that users see; PyTorch computes the model then."""
    return [name_for_users(name) for name, value in leaves(config) if not _is_known(_MODEL_FIELDS, name, value)]


def fits(decoder: Decoder, cache_dtype: torch.dtype) -> bool:
    """Whether `step.c` computes this model on this machine."""
    return (
        platform.system() == "Linux"
        and cache_dtype in CACHE_KINDS
        and get_args(Activation) == ACTIVATIONS
        and type(decoder.config) is ModelConfig
        and not declined(decoder.config)
        and not (decoder.training and decoder.config.dropout.drops)
        and not any(hooks_of(decoder))
        and _is_plain(decoder)
    )


def hooks_of(decoder: Decoder) -> list[dict[int, Any]]:
    """Where functions are registered that PyTorch calls before or after a layer; these stay the same objects."""
    every = nn.modules.module
    return [
        every._global_forward_hooks, every._global_forward_pre_hooks,
        *(module._forward_hooks for module in decoder.modules()),
        *(module._forward_pre_hooks for module in decoder.modules()),
    ]  # fmt: skip


def _is_plain(decoder: Decoder) -> bool:
    """Whether it is built of the layers that its shape asks for and of nothing else: none replaced, adapted or changed."""
    if type(decoder) is not Decoder:
        return False
    with torch.device("meta"):
        plain = Decoder(decoder.config)
    ours, theirs = dict(decoder.named_modules()), dict(plain.named_modules())
    quantized_copy = {"head"} if type(decoder.head) is QuantizedLinear else set()  # of a tied matrix
    if not theirs.keys() <= ours.keys() <= theirs.keys() | quantized_copy:
        return False
    dtype = decoder.embed.weight.dtype
    return dtype in (torch.float32, torch.bfloat16) and all(
        _is_quantized(module, theirs.get(name, plain.output_layer), dtype)
        if type(module) is QuantizedLinear
        else _is_same(module, theirs[name], dtype)
        for name, module in ours.items()
    )


def _is_same(ours: nn.Module, plain: nn.Module, dtype: torch.dtype) -> bool:
    """A layer as it is built, but for the values of its weights."""
    shapes = {name: each.shape for name, each in _tensors(plain)}
    return (
        type(ours) is type(plain)
        and _settings(ours) == _settings(plain)
        and {name: each.shape for name, each in _tensors(ours)} == shapes
        and all(_is_ordinary(each, dtype) for _, each in _tensors(ours))
    )


def _is_quantized(ours: QuantizedLinear, plain: nn.Module, dtype: torch.dtype) -> bool:
    """A linear layer with weights in 8 or 4 bits in its place."""
    if type(plain) is not nn.Linear or (ours.bias is None) != (plain.bias is None):
        return False
    rows, cols = plain.weight.shape
    packed, scale = {
        8: ((torch.int8, (rows, cols)), (torch.float32, (rows,))),
        4: ((torch.uint8, (rows, cols // 2)), (torch.float32, (rows, cols // GROUP))),
    }.get(ours.bits, (None, None))
    return (
        _settings(ours) == {"out_features": rows, "in_features": cols, "bits": ours.bits}
        and (ours.bits == 8 or cols % GROUP == 0)
        and {name for name, _ in _tensors(ours)} == {"packed", "scale", *({"bias"} if ours.bias is not None else ())}
        and (ours.packed.dtype, ours.packed.shape) == packed
        and (ours.scale.dtype, ours.scale.shape) == scale
        and _is_ordinary(ours.packed, ours.packed.dtype)
        and _is_ordinary(ours.scale, torch.float32)
        and (ours.bias is None or (ours.bias.shape == (rows,) and _is_ordinary(ours.bias, dtype)))
    )


def _settings(module: nn.Module) -> dict[str, Any]:
    """What a layer was told beside its weights; methods that were replaced among it."""
    return {name: value for name, value in vars(module).items() if name[0] != "_" and name not in _PARTS}


_PARTS = ("training", "config", "bias", "head")
"""What is looked at in other ways."""


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters(recurse=False)
    yield from module.named_buffers(recurse=False)


def _is_ordinary(tensor: Tensor, dtype: torch.dtype) -> bool:
    """A tensor of PyTorch's own class, in the memory of the CPU."""
    is_own = type(tensor) in (Tensor, nn.Parameter) and tensor.layout == torch.strided
    return is_own and tensor.device.type == "cpu" and tensor.dtype == dtype

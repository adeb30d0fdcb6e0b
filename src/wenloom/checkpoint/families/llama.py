"""Llama (Touvron et al. 2023), and the shape that many families share with it."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from wenloom.checkpoint.families.base import Family, TensorMap, heads_of_decoder, in_one, same, with_bias
from wenloom.checkpoint.families.fields import HF_ACTIVATIONS, ConfigFields, shown
from wenloom.checkpoint.families.rope import read_rope, rotary_part, write_rope
from wenloom.model.config import ModelConfig, config_of, joined_shapes, limit

BUFFERS = re.compile(r"rotary_emb\.inv_freq$")
COPIES = {"model.embed_tokens.weight": ("lm_head.weight",)}
PRE_NORMS = {"input_layernorm": "attention_norm", "post_attention_layernorm": "mlp_norm"}
FOUR_NORMS = {"input_layernorm": "attention_norm", "post_attention_layernorm": "attention_out_norm",
              "pre_feedforward_layernorm": "mlp_norm", "post_feedforward_layernorm": "mlp_out_norm"}  # fmt: skip
INNER_NORMS = {"post_attention_layernorm": "attention_out_norm", "post_feedforward_layernorm": "mlp_out_norm"}
"""Names of a block's norms, and ours."""
ATTENTION = {"self_attn.q_proj": "query", "self_attn.k_proj": "key", "self_attn.v_proj": "value"}
MLP = {"mlp.gate_proj": "gate", "mlp.up_proj": "up", "mlp.down_proj": "down"}
"""Names of a block's matrices, and ours; several that stand in one are joined by +."""


def read_common(
    fields: ConfigFields,
    family: str,
    *shapes: Mapping[str, Any],
    context_length: int,
    kv_heads: int | None = None,
    d_head: int | None = None,
    theta: float = 10_000.0,
    part: float | None = None,
    tied: bool = False,
    eps: str = "rms_norm_eps",
    activation: str = "hidden_act",
    default_activation: str = "silu",
    **own: Any,
) -> ModelConfig:
    """What config.json says in every Llama-like family; `shapes` and `own` are what this family adds.

    Args:
        context_length, kv_heads, d_head, theta, tied, default_activation: the family's defaults, for files that leave
            them out.
        part: the default of the part of a head that is rotated; None: this family rotates whole heads.
        eps, activation: what the family calls these fields.
    """
    fields.understood("pretraining_tp")  # an order of operations, not another result
    d_model = fields.size("hidden_size", "d_model")
    n_heads = fields.size("num_attention_heads", "n_heads")
    d_head = fields.size("head_dim", "d_head", d_head or max(1, d_model // n_heads))
    own = joined_shapes(*shapes, own)
    rope = own.get("positions", {}).get("rope")
    if rope is None:
        rope, context_length = read_rope(fields, d_head, context_length, theta, part or 1.0)
    if part is None and rope.d_rotary != d_head:
        raise fields.refuse("partial_rotary_factor", f"{family} rotates whole heads; other values are not supported")
    config = config_of(
        {
            "family": family,
            "vocab_size": fields.size("vocab_size", "vocab_size"),
            "n_layers": fields.size("num_hidden_layers", "n_layers"),
            "d_model": d_model,
            "n_heads": n_heads,
            "n_kv_heads": fields.integer("num_key_value_heads", kv_heads or n_heads),
            "d_head": d_head,
            "d_mlp": fields.integer("intermediate_size"),
            "context_length": context_length,
            "positions": {"rope": rope},
            "norms": {"kind": "rmsnorm", "eps": fields.number(eps, 1e-6)},
            "mlp": {"gated": True, "activation": fields.activation(activation, default_activation)},
            "dropout": {"attention": fields.share("attention_dropout", 0.0)},
        },
        fields.common(tied=tied),
        own,
    )
    fields.finish()
    return config


def write_common(
    config: ModelConfig, eps: str = "rms_norm_eps", activation: str = "hidden_act", is_partial: bool = False
) -> dict[str, Any]:
    """The fields that every Llama-like family writes.

    Args:
        eps, activation: what the family calls these fields.
        is_partial: whether it may rotate a part of each head.
    """
    assert config.positions.rope is not None
    return {
        "hidden_size": config.d_model,
        "intermediate_size": config.d_mlp,
        "num_hidden_layers": config.n_layers,
        "num_attention_heads": config.n_heads,
        "num_key_value_heads": config.n_kv_heads,
        "head_dim": config.d_head,
        activation: HF_ACTIVATIONS[config.mlp.activation],
        eps: config.norms.eps,
        "rope_theta": config.positions.rope.theta,
        **write_rope(config.positions.rope, config.context_length),
        **({"partial_rotary_factor": rotary_part(config.positions.d_rotary, config.d_head)} if is_partial else {}),
        "attention_dropout": config.dropout.attention,
    }


def read_kinds(fields: ConfigFields, n_layers: int, default: Sequence[str]) -> tuple[int, ...]:
    """The layers with a sliding window, of `layer_types` or the family's default."""
    kinds = fields.raw("layer_types")
    kinds = list(default) if kinds is None else kinds
    if not isinstance(kinds, list) or len(kinds) != n_layers:
        got = f"{len(kinds)}" if isinstance(kinds, list) else shown(kinds)
        raise fields.refuse("layer_types", f"must name the kinds of {n_layers} layers, got {got}")
    if strange := [kind for kind in kinds if kind not in ("sliding_attention", "full_attention")]:
        raise fields.refuse("layer_types", f"kind {shown(strange[0])} is not supported")
    return tuple(layer for layer, kind in enumerate(kinds) if kind == "sliding_attention")


def write_kinds(config: ModelConfig) -> list[str]:
    """The field that `read_kinds` reads."""
    return [
        "sliding_attention" if layer in config.attention.sliding_layers else "full_attention"
        for layer in range(config.n_layers)
    ]


def read_windows(fields: ConfigFields, interval: int) -> dict[str, Any]:
    """The sliding window of a family that has it in all layers but each `interval`th, or by `layer_types`."""
    n_layers = fields.size("num_hidden_layers", "n_layers")
    default = ["sliding_attention" if (layer + 1) % interval else "full_attention" for layer in range(n_layers)]
    return {
        "attention": {
            "sliding_window": fields.size("sliding_window", "context_length", 4096),
            "sliding_layers": read_kinds(fields, n_layers, default),
        }
    }


def write_windows(config: ModelConfig) -> dict[str, Any]:
    """The fields `read_windows` reads."""
    return {"sliding_window": config.attention.sliding_window, "layer_types": write_kinds(config)}


def read_one_window(fields: ConfigFields, default: int | None = None) -> dict[str, Any]:
    """The sliding window of a family that has it in all layers, or none."""
    window = (
        fields.optional_integer("sliding_window", most=limit("context_length"))
        if "sliding_window" in fields
        else default
    )
    n_layers = fields.size("num_hidden_layers", "n_layers")
    kinds = ["full_attention", "sliding_attention"] if window else ["full_attention"]
    fields.only("layer_types", None, *([kind] * n_layers for kind in kinds))  # the window counts; these say it again
    return {"attention": {"sliding_window": window, "sliding_layers": tuple(range(n_layers)) if window else ()}}


def read_window(fields: ConfigFields, n_layers: int) -> dict[str, Any]:
    """Qwen's sliding window: off unless asked for, then from layer `max_window_layers` on or by `layer_types`."""
    window = (
        fields.optional_integer("sliding_window", most=limit("context_length"))
        if fields.flag("use_sliding_window", False)
        else None
    )
    fields.raw("sliding_window")
    first = fields.integer("max_window_layers", 28, 0)
    default = ["sliding_attention" if window and layer >= first else "full_attention" for layer in range(n_layers)]
    layers = read_kinds(fields, n_layers, default)
    return {"attention": {"sliding_window": window if layers else None, "sliding_layers": layers}}


def write_window(config: ModelConfig) -> dict[str, Any]:
    """The fields `read_window` reads."""
    first = min(config.attention.sliding_layers, default=config.n_layers)
    return {
        "use_sliding_window": bool(config.attention.sliding_layers),
        "sliding_window": config.attention.sliding_window,
        "max_window_layers": first,
        "layer_types": write_kinds(config),
    }


def tensors(
    config: ModelConfig,
    norms: Mapping[str, str] = PRE_NORMS,
    attention: Mapping[str, str] = ATTENTION,
    mlp: Mapping[str, str] = MLP,
    norm: Callable[[str, str], TensorMap] = same,
    rotated: Callable[[str, str], TensorMap] = same,
) -> list[TensorMap]:
    """Names of a Llama-like file, but for mixtures of experts (`experts.expert_tensors`).

    Args:
        norms, attention, mlp: what the family calls the parts of a block.
        norm: how the weights of norms are kept.
        rotated: how queries and keys are kept.
    """
    has_bias = config.norms.kind == "layernorm" and config.norms.bias
    maps = [same("model.embed_tokens.weight", "embed.weight"), *with_bias(norm, "model.norm", "final_norm", has_bias)]
    for layer in range(config.n_layers):
        theirs, ours = f"model.layers.{layer}", f"blocks.{layer}"
        for name, part in norms.items():
            maps += with_bias(norm, f"{theirs}.{name}", f"{ours}.{part}", has_bias)
        for name, parts in attention.items():
            maps += _matrices(
                config, f"{theirs}.{name}", f"{ours}.attention", parts, config.attention.qkv_bias, rotated
            )
        maps += with_bias(same, f"{theirs}.self_attn.o_proj", f"{ours}.attention.output", config.attention.output_bias)
        for name, parts in mlp.items() if config.mlp.experts_of(layer) is None else ():
            maps += _matrices(config, f"{theirs}.{name}", f"{ours}.mlp", parts, config.mlp.bias, rotated)
        if config.attention.qk_norm:
            maps += [
                norm(f"{theirs}.self_attn.q_norm.weight", f"{ours}.attention.query_norm.weight"),
                norm(f"{theirs}.self_attn.k_norm.weight", f"{ours}.attention.key_norm.weight"),
            ]
    return [*maps, *heads_of_decoder(config)]


def _matrices(
    config: ModelConfig, theirs: str, ours: str, parts: str, bias: bool, rotated: Callable[[str, str], TensorMap]
) -> list[TensorMap]:
    """A matrix of theirs, and its bias where there is one."""
    names = parts.split("+")
    kinds = ("weight", "bias") if bias else ("weight",)
    if len(names) == 1:
        make = rotated if parts in ("query", "key") else same
        return [make(f"{theirs}.{kind}", f"{ours}.{parts}.{kind}") for kind in kinds]
    d_kv = config.n_kv_heads * config.d_head
    rows = {
        "query": config.n_heads * config.d_head,
        "key": d_kv,
        "value": d_kv,
        "gate": config.d_mlp,
        "up": config.d_mlp,
    }
    return [
        in_one(f"{theirs}.{kind}", [f"{ours}.{name}.{kind}" for name in names], [rows[name] for name in names])
        for kind in kinds
    ]


def _read(fields: ConfigFields) -> ModelConfig:
    bias = fields.flag("attention_bias", False)
    return read_common(
        fields,
        "llama",
        context_length=2048,
        attention={"qkv_bias": bias, "output_bias": bias},
        mlp={"bias": fields.flag("mlp_bias", False)},
    )


def _write(config: ModelConfig) -> dict[str, Any]:
    return {**write_common(config), "attention_bias": config.attention.qkv_bias, "mlp_bias": config.mlp.bias}


_CLASSIFIER = "LlamaForSequenceClassification"
FAMILY = Family("llama", "LlamaForCausalLM", "model.", _read, _write, tensors, BUFFERS, _CLASSIFIER, copies=COPIES)

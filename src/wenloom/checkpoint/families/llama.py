"""Llama (Touvron et al. 2023), and the shape that Mistral and Qwen share with it."""

import re
from typing import Any

from wenloom.checkpoint.families.base import Family, TensorMap, heads_of_decoder, same, with_bias
from wenloom.checkpoint.families.fields import HF_ACTIVATIONS, ConfigFields, shown
from wenloom.checkpoint.families.rope import read_rope, write_rope
from wenloom.model.config import ModelConfig, limit

BUFFERS = re.compile(r"rotary_emb\.inv_freq$")
COPIES = {"model.embed_tokens.weight": ("lm_head.weight",)}


def read_common(
    fields: ConfigFields,
    family: str,
    *,
    context_length: int,
    kv_heads: int | None = None,
    d_head: int | None = None,
    **own: Any,
) -> ModelConfig:
    """What config.json says in every Llama-like family; `own` is what this family adds.

    Args:
        context_length, kv_heads, d_head: the family's defaults, for files that leave them out.
    """
    fields.understood("pretraining_tp")  # an order of operations, not another result
    d_model = fields.size("hidden_size", "d_model")
    n_heads = fields.size("num_attention_heads", "n_heads")
    d_head = fields.size("head_dim", "d_head", d_head or max(1, d_model // n_heads))
    rope, context_length = read_rope(fields, d_head, context_length)
    if rope.d_rotary != d_head:
        raise fields.refuse("partial_rotary_factor", f"{family} rotates whole heads; other values are not supported")
    config = ModelConfig(
        family=family,
        vocab_size=fields.size("vocab_size", "vocab_size"),
        n_layers=fields.size("num_hidden_layers", "n_layers"),
        d_model=d_model,
        n_heads=n_heads,
        n_kv_heads=fields.integer("num_key_value_heads", kv_heads or n_heads),
        d_head=d_head,
        d_mlp=fields.integer("intermediate_size"),
        context_length=context_length,
        rope=rope,
        norm="rmsnorm",
        norm_eps=fields.number("rms_norm_eps", 1e-6),
        activation=fields.activation("hidden_act", "silu"),
        gated_mlp=True,
        attention_dropout=fields.share("attention_dropout", 0.0),
        **fields.common(tied=False),
        **own,
    )
    fields.finish()
    return config


def write_common(config: ModelConfig) -> dict[str, Any]:
    """The fields that every Llama-like family writes."""
    assert config.rope is not None
    return {
        "hidden_size": config.d_model,
        "intermediate_size": config.d_mlp,
        "num_hidden_layers": config.n_layers,
        "num_attention_heads": config.n_heads,
        "num_key_value_heads": config.n_kv_heads,
        "head_dim": config.d_head,
        "hidden_act": HF_ACTIVATIONS[config.activation],
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope.theta,
        **write_rope(config.rope, config.context_length),
        "attention_dropout": config.attention_dropout,
    }


def read_window(fields: ConfigFields, n_layers: int) -> dict[str, Any]:
    """Qwen's sliding window: off unless asked for, then from layer `max_window_layers` on or by `layer_types`."""
    window = (
        fields.optional_integer("sliding_window", most=limit("context_length"))
        if fields.flag("use_sliding_window", False)
        else None
    )
    fields.raw("sliding_window")
    first, kinds = fields.integer("max_window_layers", 28, 0), fields.raw("layer_types")
    if kinds is None:
        kinds = ["sliding_attention" if window and layer >= first else "full_attention" for layer in range(n_layers)]
    if not isinstance(kinds, list) or len(kinds) != n_layers:
        got = f"{len(kinds)}" if isinstance(kinds, list) else shown(kinds)
        raise fields.refuse("layer_types", f"must name the kinds of {n_layers} layers, got {got}")
    if strange := [kind for kind in kinds if kind not in ("sliding_attention", "full_attention")]:
        raise fields.refuse("layer_types", f"kind {shown(strange[0])} is not supported")
    layers = tuple(layer for layer, kind in enumerate(kinds) if kind == "sliding_attention")
    return {"sliding_window": window if layers else None, "sliding_layers": layers}


def write_window(config: ModelConfig) -> dict[str, Any]:
    """The fields `read_window` reads."""
    kinds = [
        "sliding_attention" if layer in config.sliding_layers else "full_attention" for layer in range(config.n_layers)
    ]
    first = min(config.sliding_layers, default=config.n_layers)
    return {
        "use_sliding_window": bool(config.sliding_layers),
        "sliding_window": config.sliding_window,
        "max_window_layers": first,
        "layer_types": kinds,
    }


def tensors(config: ModelConfig) -> list[TensorMap]:
    """Names of a Llama-like file."""
    maps = [same("model.embed_tokens.weight", "embed.weight"), same("model.norm.weight", "final_norm.weight")]
    for layer in range(config.n_layers):
        theirs, ours = f"model.layers.{layer}", f"blocks.{layer}"
        maps += [
            same(f"{theirs}.input_layernorm.weight", f"{ours}.attention_norm.weight"),
            same(f"{theirs}.post_attention_layernorm.weight", f"{ours}.mlp_norm.weight"),
        ]
        for short, long in (("q", "query"), ("k", "key"), ("v", "value")):
            maps += with_bias(same, f"{theirs}.self_attn.{short}_proj", f"{ours}.attention.{long}", config.qkv_bias)
        maps += with_bias(same, f"{theirs}.self_attn.o_proj", f"{ours}.attention.output", config.attention_output_bias)
        for part in ("gate", "up", "down"):
            maps += with_bias(same, f"{theirs}.mlp.{part}_proj", f"{ours}.mlp.{part}", config.mlp_bias)
        if config.qk_norm:
            maps += [
                same(f"{theirs}.self_attn.q_norm.weight", f"{ours}.attention.query_norm.weight"),
                same(f"{theirs}.self_attn.k_norm.weight", f"{ours}.attention.key_norm.weight"),
            ]
    return [*maps, *heads_of_decoder(config)]


def _read(fields: ConfigFields) -> ModelConfig:
    bias = fields.flag("attention_bias", False)
    return read_common(
        fields,
        "llama",
        context_length=2048,
        qkv_bias=bias,
        attention_output_bias=bias,
        mlp_bias=fields.flag("mlp_bias", False),
    )


def _write(config: ModelConfig) -> dict[str, Any]:
    return {**write_common(config), "attention_bias": config.qkv_bias, "mlp_bias": config.mlp_bias}


_CLASSIFIER = "LlamaForSequenceClassification"
FAMILY = Family("llama", "LlamaForCausalLM", "model.", _read, _write, tensors, BUFFERS, _CLASSIFIER, copies=COPIES)

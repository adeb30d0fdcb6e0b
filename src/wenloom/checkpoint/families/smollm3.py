"""SmolLM3 (Bakouch et al. 2025): Llama without positions in every fourth layer."""

from typing import Any

from wenloom.checkpoint.families.base import Family
from wenloom.checkpoint.families.fields import ConfigFields
from wenloom.checkpoint.families.llama import (
    BUFFERS,
    COPIES,
    read_common,
    read_kinds,
    tensors,
    write_common,
    write_kinds,
)
from wenloom.model.config import ModelConfig, limit


def _read(fields: ConfigFields) -> ModelConfig:
    n_layers = fields.size("num_hidden_layers", "n_layers")
    interval, rotated = fields.integer("no_rope_layer_interval", 4), fields.raw("no_rope_layers")
    if rotated is None:
        rotated = [int((layer + 1) % interval != 0) for layer in range(n_layers)]
    if not isinstance(rotated, list) or len(rotated) != n_layers or any(each not in (0, 1) for each in rotated):
        raise fields.refuse("no_rope_layers", f"must be {n_layers} numbers, 1 where a layer has positions, else 0")
    window = fields.optional_integer("sliding_window", most=limit("context_length"))
    window = window if fields.flag("use_sliding_window", False) else None
    default = ["full_attention" if each or window is None else "sliding_attention" for each in rotated]
    sliding = read_kinds(fields, n_layers, default)
    bias = fields.flag("attention_bias", False)
    return read_common(
        fields,
        "smollm3",
        context_length=32_768,
        kv_heads=4,
        tied=True,
        theta=2_000_000.0,
        attention={
            "qkv_bias": bias,
            "output_bias": bias,
            "sliding_window": window if sliding else None,
            "sliding_layers": sliding if window else (),
        },
        mlp={"bias": fields.flag("mlp_bias", False)},
        positions={"unrotated_layers": tuple(layer for layer, has in enumerate(rotated) if not has)},
    )


def _write(config: ModelConfig) -> dict[str, Any]:
    return {
        **write_common(config),
        "attention_bias": config.attention.qkv_bias,
        "mlp_bias": config.mlp.bias,
        "no_rope_layers": [int(layer not in config.positions.unrotated_layers) for layer in range(config.n_layers)],
        "use_sliding_window": bool(config.attention.sliding_layers),
        "sliding_window": config.attention.sliding_window,
        "layer_types": write_kinds(config),
    }


_CLASSIFIER = "SmolLM3ForSequenceClassification"
FAMILY = Family("smollm3", "SmolLM3ForCausalLM", "model.", _read, _write, tensors, BUFFERS, _CLASSIFIER, copies=COPIES)

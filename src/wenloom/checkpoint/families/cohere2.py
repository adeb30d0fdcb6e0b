"""Command R7B and A (Cohere 2024): parallel sub-layers under one norm without bias, positions in window layers only."""

from typing import Any

from wenloom.checkpoint.families.base import Family, TensorMap, pairs_apart
from wenloom.checkpoint.families.fields import ConfigFields
from wenloom.checkpoint.families.llama import (
    BUFFERS,
    COPIES,
    read_common,
    read_windows,
    tensors,
    write_common,
    write_windows,
)
from wenloom.model.config import ModelConfig


def _read(fields: ConfigFields) -> ModelConfig:
    n_layers, bias = fields.size("num_hidden_layers", "n_layers"), fields.flag("attention_bias", False)
    windows = read_windows(fields, fields.integer("sliding_window_pattern", 4))
    fields.only(
        "head_dim", None, fields.size("hidden_size", "d_model") // fields.size("num_attention_heads", "n_heads")
    )
    return read_common(
        fields,
        "cohere2",
        windows,
        context_length=8192,
        tied=True,
        eps="layer_norm_eps",
        norms={"kind": "layernorm", "bias": False},
        attention={"qkv_bias": bias, "output_bias": bias},
        residual={"parallel": True, "shared_norm": True},
        logits={"multiplier": fields.number("logit_scale", 0.0625)},
        positions={
            "unrotated_layers": tuple(
                layer for layer in range(n_layers) if layer not in windows["attention"]["sliding_layers"]
            )
        },
    )


def _write(config: ModelConfig) -> dict[str, Any]:
    return {
        **write_common(config, eps="layer_norm_eps"),
        "attention_bias": config.attention.qkv_bias,
        "logit_scale": config.logits.multiplier,
        **write_windows(config),
    }


def _tensors(config: ModelConfig) -> list[TensorMap]:
    return tensors(config, {"input_layernorm": "attention_norm"}, rotated=pairs_apart(config.d_head, config.d_head))


FAMILY = Family("cohere2", "Cohere2ForCausalLM", "model.", _read, _write, _tensors, BUFFERS, None, copies=COPIES)

"""Qwen3 (Yang et al. 2025): Llama with normalised queries and keys and an optional sliding window."""

from typing import Any

from wenloom.checkpoint.families.base import Family
from wenloom.checkpoint.families.fields import ConfigFields
from wenloom.checkpoint.families.llama import (
    BUFFERS,
    COPIES,
    read_common,
    read_window,
    tensors,
    write_common,
    write_window,
)
from wenloom.model.config import ModelConfig


def _read(fields: ConfigFields) -> ModelConfig:
    bias = fields.flag("attention_bias", False)
    window = read_window(fields, fields.size("num_hidden_layers", "n_layers"))
    return read_common(
        fields,
        "qwen3",
        window,
        context_length=32_768,
        kv_heads=32,
        d_head=128,
        attention={"qk_norm": True, "qkv_bias": bias, "output_bias": bias},
    )


def _write(config: ModelConfig) -> dict[str, Any]:
    return {**write_common(config), **write_window(config), "attention_bias": config.attention.qkv_bias}


_CLASSIFIER = "Qwen3ForSequenceClassification"
FAMILY = Family("qwen3", "Qwen3ForCausalLM", "model.", _read, _write, tensors, BUFFERS, _CLASSIFIER, copies=COPIES)

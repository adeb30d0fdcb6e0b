"""Qwen2 (Yang et al. 2024): Llama with query, key and value biases and an optional sliding window."""

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
    window = read_window(fields, fields.size("num_hidden_layers", "n_layers"))
    return read_common(fields, "qwen2", window, context_length=32_768, kv_heads=32, attention={"qkv_bias": True})


def _write(config: ModelConfig) -> dict[str, Any]:
    return {**write_common(config), **write_window(config)}


_CLASSIFIER = "Qwen2ForSequenceClassification"
FAMILY = Family("qwen2", "Qwen2ForCausalLM", "model.", _read, _write, tensors, BUFFERS, _CLASSIFIER, copies=COPIES)

"""Mistral (Jiang et al. 2023): Llama with one sliding window in every layer."""

from typing import Any

from wenloom.checkpoint.families.base import Family
from wenloom.checkpoint.families.fields import ConfigFields
from wenloom.checkpoint.families.llama import BUFFERS, COPIES, read_common, read_one_window, tensors, write_common
from wenloom.model.config import ModelConfig


def _read(fields: ConfigFields) -> ModelConfig:
    return read_common(fields, "mistral", read_one_window(fields, 4096), context_length=131_072, kv_heads=8)


def _write(config: ModelConfig) -> dict[str, Any]:
    return {**write_common(config), "sliding_window": config.attention.sliding_window}


_CLASSIFIER = "MistralForSequenceClassification"
FAMILY = Family("mistral", "MistralForCausalLM", "model.", _read, _write, tensors, BUFFERS, _CLASSIFIER, copies=COPIES)

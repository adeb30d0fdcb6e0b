"""Mistral (Jiang et al. 2023): Llama with one sliding window in every layer."""

from typing import Any

from wenloom.checkpoint.families.base import Family
from wenloom.checkpoint.families.fields import ConfigFields
from wenloom.checkpoint.families.llama import BUFFERS, COPIES, read_common, tensors, write_common
from wenloom.model.config import ModelConfig, limit


def _read(fields: ConfigFields) -> ModelConfig:
    window = (
        fields.optional_integer("sliding_window", most=limit("context_length")) if "sliding_window" in fields else 4096
    )
    n_layers = fields.size("num_hidden_layers", "n_layers")
    kinds = ["full_attention", "sliding_attention"] if window else ["full_attention"]
    fields.only("layer_types", None, *([kind] * n_layers for kind in kinds))  # the window counts; these say it again
    return read_common(
        fields,
        "mistral",
        context_length=131_072,
        kv_heads=8,
        sliding_window=window,
        sliding_layers=tuple(range(n_layers)) if window else (),
    )


def _write(config: ModelConfig) -> dict[str, Any]:
    return {**write_common(config), "sliding_window": config.sliding_window}


_CLASSIFIER = "MistralForSequenceClassification"
FAMILY = Family("mistral", "MistralForCausalLM", "model.", _read, _write, tensors, BUFFERS, _CLASSIFIER, copies=COPIES)

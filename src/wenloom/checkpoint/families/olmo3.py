"""OLMo 3 (OLMo Team 2025): OLMo 2 with a sliding window in three of four layers, whose positions are not stretched."""

from typing import Any

from wenloom.checkpoint.families.base import Family
from wenloom.checkpoint.families.fields import ConfigFields
from wenloom.checkpoint.families.llama import BUFFERS, COPIES, read_windows, write_common, write_windows
from wenloom.checkpoint.families.olmo2 import olmo_tensors, read_olmo
from wenloom.checkpoint.families.rope import read_ropes, write_ropes
from wenloom.model.config import ModelConfig


def _read(fields: ConfigFields) -> ModelConfig:
    d_model = fields.size("hidden_size", "d_model")
    d_head = fields.size("head_dim", "d_head", max(1, d_model // fields.size("num_attention_heads", "n_heads")))
    rope, local_rope, length = read_ropes(fields, d_head, 2048, 500_000.0, 500_000.0, None)
    return read_olmo(
        fields,
        "olmo3",
        read_windows(fields, 4),
        {"positions": {"rope": rope, "local_rope": local_rope}},
        context_length=length,
    )


def _write(config: ModelConfig) -> dict[str, Any]:
    return {
        **write_common(config),
        **write_ropes(config),
        "attention_bias": config.attention.qkv_bias,
        **write_windows(config),
    }


_CLASSIFIER = "Olmo3ForSequenceClassification"
FAMILY = Family("olmo3", "Olmo3ForCausalLM", "model.", _read, _write, olmo_tensors, BUFFERS, _CLASSIFIER, copies=COPIES)

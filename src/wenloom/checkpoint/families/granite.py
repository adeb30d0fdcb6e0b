"""Granite 3 (IBM 2024): Llama with four multipliers, of embeddings, scores, what sub-layers add, and logits."""

from typing import Any

from wenloom.checkpoint.families.base import Family
from wenloom.checkpoint.families.fields import ConfigFields
from wenloom.checkpoint.families.llama import BUFFERS, COPIES, read_common, tensors, write_common
from wenloom.model.config import ModelConfig


def _read(fields: ConfigFields) -> ModelConfig:
    bias = fields.flag("attention_bias", False)
    divisor = fields.number("logits_scaling", 1.0)
    if divisor == 0:
        raise fields.refuse("logits_scaling", "must not be 0, logits are divided by it")
    return read_common(
        fields,
        "granite",
        context_length=2048,
        qkv_bias=bias,
        attention_output_bias=bias,
        mlp_bias=fields.flag("mlp_bias", False),
        embedding_multiplier=fields.number("embedding_multiplier", 1.0),
        score_multiplier=fields.number("attention_multiplier", 1.0),
        residual_multiplier=fields.number("residual_multiplier", 1.0),
        logit_multiplier=1 / divisor,
    )


def _write(config: ModelConfig) -> dict[str, Any]:
    return {
        **write_common(config),
        "attention_bias": config.qkv_bias,
        "mlp_bias": config.mlp_bias,
        "embedding_multiplier": config.embedding_multiplier,
        "attention_multiplier": config.attention_scale(0),
        "residual_multiplier": config.residual_multiplier,
        "logits_scaling": 1 / config.logit_multiplier,
    }


FAMILY = Family("granite", "GraniteForCausalLM", "model.", _read, _write, tensors, BUFFERS, None, copies=COPIES)

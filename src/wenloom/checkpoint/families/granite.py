"""Granite 3 (IBM 2024): Llama with four multipliers, of embeddings, scores, what sub-layers add, and logits."""

from typing import Any

from wenloom.checkpoint.families.base import Family
from wenloom.checkpoint.families.fields import ConfigFields
from wenloom.checkpoint.families.llama import BUFFERS, COPIES, read_common, tensors, write_common
from wenloom.model.config import ModelConfig


def _read(fields: ConfigFields) -> ModelConfig:
    bias, divisor = fields.flag("attention_bias", False), fields.number("logits_scaling", 1.0)
    if divisor == 0:
        raise fields.refuse("logits_scaling", "must not be 0, logits are divided by it")
    scores = fields.number("attention_multiplier", 1.0)
    return read_common(
        fields,
        "granite",
        context_length=2048,
        attention={"qkv_bias": bias, "output_bias": bias, "score_multiplier": scores},
        mlp={"bias": fields.flag("mlp_bias", False)},
        embedding={"multiplier": fields.number("embedding_multiplier", 1.0)},
        residual={"multiplier": fields.number("residual_multiplier", 1.0)},
        logits={"multiplier": 1 / divisor},
    )


def _write(config: ModelConfig) -> dict[str, Any]:
    return {
        **write_common(config),
        "attention_bias": config.attention.qkv_bias,
        "mlp_bias": config.mlp.bias,
        "embedding_multiplier": config.embedding.multiplier,
        "attention_multiplier": config.attention_scale(0),
        "residual_multiplier": config.residual.multiplier,
        "logits_scaling": 1 / config.logits.multiplier,
    }


FAMILY = Family("granite", "GraniteForCausalLM", "model.", _read, _write, tensors, BUFFERS, None, copies=COPIES)

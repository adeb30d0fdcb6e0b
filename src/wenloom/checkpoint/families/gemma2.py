"""Gemma 2 (Gemma Team 2024): four norms a block, bounded scores and logits, a sliding window in every second layer."""

from typing import Any

from wenloom.checkpoint.families.base import Family, TensorMap, plus_one
from wenloom.checkpoint.families.fields import ConfigFields
from wenloom.checkpoint.families.llama import (
    BUFFERS,
    COPIES,
    FOUR_NORMS,
    read_common,
    read_windows,
    tensors,
    write_common,
    write_windows,
)
from wenloom.model.config import ModelConfig


def read_gemma(
    fields: ConfigFields, family: str, interval: int, logit_cap: float | None, context_length: int, **own: Any
) -> ModelConfig:
    """What Gemma 2 and 3 have in common.

    Args:
        interval: of the layers that see all.
        logit_cap: the default of final_logit_softcapping.
        context_length: the default of max_position_embeddings, or what was read of it.
        own: what this family adds.
    """
    fields.only("use_bidirectional_attention", False, None)
    bias = fields.flag("attention_bias", False)
    d_head, scalar = fields.size("head_dim", "d_head", 256), fields.integer("query_pre_attn_scalar", 256)
    return read_common(
        fields,
        family,
        read_windows(fields, interval),
        own,
        context_length=context_length,
        d_head=256,
        kv_heads=4,
        tied=True,
        activation="hidden_activation",
        default_activation="gelu_pytorch_tanh",
        norms={"place": "both"},
        embedding={"scaled": True},
        attention={
            "qkv_bias": bias,
            "output_bias": bias,
            "score_multiplier": None if scalar == d_head else scalar**-0.5,
        },
        logits={"cap": read_cap(fields, "final_logit_softcapping", logit_cap)},
    )


def read_cap(fields: ConfigFields, field: str, default: float | None) -> float | None:
    """A bound, or null for none."""
    if (fields.raw(field) if field in fields else default) is None:
        return None
    return fields.number(field, default or 0.0, least=1e-30)


def write_gemma(config: ModelConfig) -> dict[str, Any]:
    """The fields that both families write."""
    return {
        **write_common(config, activation="hidden_activation"),
        "attention_bias": config.attention.qkv_bias,
        "query_pre_attn_scalar": round(config.attention_scale(0) ** -2),
        "attn_logit_softcapping": config.attention.score_cap,
        "final_logit_softcapping": config.logits.cap,
        **write_windows(config),
    }


def gemma_tensors(config: ModelConfig) -> list[TensorMap]:
    """Names of both families' files."""
    return tensors(config, FOUR_NORMS, norm=plus_one)


def _read(fields: ConfigFields) -> ModelConfig:
    score_cap = read_cap(fields, "attn_logit_softcapping", 50.0)
    return read_gemma(fields, "gemma2", 2, 30.0, context_length=8192, attention={"score_cap": score_cap})


_CLASSIFIER = "Gemma2ForSequenceClassification"
FAMILY = Family(
    "gemma2", "Gemma2ForCausalLM", "model.", _read, write_gemma, gemma_tensors, BUFFERS, _CLASSIFIER, copies=COPIES
)

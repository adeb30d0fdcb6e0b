"""OLMo 2 (OLMo Team 2024): the norm of each sub-layer is after it, queries and keys are normalised as a whole."""

from collections.abc import Mapping
from typing import Any

from wenloom.checkpoint.families.base import Family, TensorMap
from wenloom.checkpoint.families.fields import ConfigFields
from wenloom.checkpoint.families.llama import BUFFERS, COPIES, INNER_NORMS, read_common, tensors, write_common
from wenloom.model.config import ModelConfig


def read_olmo(fields: ConfigFields, family: str, *shapes: Mapping[str, Any], context_length: int = 2048) -> ModelConfig:
    """What OLMo 2 and 3 have in common."""
    bias = fields.flag("attention_bias", False)
    return read_common(
        fields,
        family,
        *shapes,
        context_length=context_length,
        norms={"place": "inner", "eps": fields.number("rms_norm_eps", 1e-5)},
        attention={"qk_norm": True, "qk_norm_whole": True, "qkv_bias": bias, "output_bias": bias},
    )


def olmo_tensors(config: ModelConfig) -> list[TensorMap]:
    """Names of both families' files."""
    return tensors(config, INNER_NORMS)


def _read(fields: ConfigFields) -> ModelConfig:
    return read_olmo(fields, "olmo2")


def _write(config: ModelConfig) -> dict[str, Any]:
    return {**write_common(config), "attention_bias": config.attention.qkv_bias}


_CLASSIFIER = "Olmo2ForSequenceClassification"
FAMILY = Family("olmo2", "Olmo2ForCausalLM", "model.", _read, _write, olmo_tensors, BUFFERS, _CLASSIFIER, copies=COPIES)

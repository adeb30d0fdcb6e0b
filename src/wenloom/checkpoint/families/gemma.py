"""Gemma (Gemma Team 2024): Llama with scaled embeddings, gates by GELU, and norms kept as their distance from 1."""

from typing import Any

from wenloom.checkpoint.families.base import Family, TensorMap, plus_one
from wenloom.checkpoint.families.fields import ConfigFields
from wenloom.checkpoint.families.llama import BUFFERS, COPIES, read_common, tensors, write_common
from wenloom.model.config import ModelConfig


def _read(fields: ConfigFields) -> ModelConfig:
    fields.only("use_bidirectional_attention", False, None)
    bias = fields.flag("attention_bias", False)
    if (
        fields.raw("hidden_act") == "gelu"
    ):  # as files of its first days have it; transformers takes the approximation too
        fields = fields.with_value("hidden_act", "gelu_pytorch_tanh")
    return read_common(fields, "gemma", context_length=8192, d_head=256, kv_heads=16, tied=True, embedding={"scaled": True},
                       default_activation="gelu_pytorch_tanh", attention={"qkv_bias": bias, "output_bias": bias})  # fmt: skip


def _write(config: ModelConfig) -> dict[str, Any]:
    exact = {"hidden_act": "gelu_python"} if config.mlp.activation == "gelu" else {}  # gelu is its approximation here
    return {**write_common(config), **exact, "attention_bias": config.attention.qkv_bias}


def _tensors(config: ModelConfig) -> list[TensorMap]:
    return tensors(config, norm=plus_one)


FAMILY = Family("gemma", "GemmaForCausalLM", "model.", _read, _write, _tensors, BUFFERS, "GemmaForSequenceClassification",
                copies=COPIES)  # fmt: skip

"""Mixtral (Jiang et al. 2024): Mistral with a mixture of experts in every layer."""

from typing import Any

from wenloom.checkpoint.families.base import Family, TensorMap
from wenloom.checkpoint.families.experts import expert_tensors, read_experts, write_experts
from wenloom.checkpoint.families.fields import ConfigFields
from wenloom.checkpoint.families.llama import BUFFERS, COPIES, read_common, read_one_window, write_common
from wenloom.model.config import ModelConfig


def _read(fields: ConfigFields) -> ModelConfig:
    fields.understood("router_jitter_noise")  # drawn in training only
    return read_common(
        fields,
        "mixtral",
        read_one_window(fields),
        context_length=131_072,
        kv_heads=8,
        theta=1e6,
        norms={"eps": fields.number("rms_norm_eps", 1e-5)},
        mlp={"experts": read_experts(fields, 8, 2, 14_336)},
    )


def _write(config: ModelConfig) -> dict[str, Any]:
    return {**write_common(config), "sliding_window": config.attention.sliding_window, **write_experts(config)}


def _tensors(config: ModelConfig) -> list[TensorMap]:
    return expert_tensors(config, "block_sparse_moe", {"w1": "gate", "w3": "up", "w2": "down"})


FAMILY = Family("mixtral", "MixtralForCausalLM", "model.", _read, _write, _tensors, BUFFERS,
                "MixtralForSequenceClassification", copies=COPIES)  # fmt: skip

"""Qwen3 with mixtures of experts (Yang et al. 2025, section 2)."""

from typing import Any

from wenloom.checkpoint.families.base import Family
from wenloom.checkpoint.families.experts import expert_tensors, read_dense_layers, read_experts, write_experts
from wenloom.checkpoint.families.fields import ConfigFields
from wenloom.checkpoint.families.llama import BUFFERS, COPIES, read_common, read_one_window, write_common
from wenloom.model.config import ModelConfig


def _read(fields: ConfigFields) -> ModelConfig:
    bias, normalised = fields.flag("attention_bias", False), fields.flag("norm_topk_prob", False)
    if not fields.flag("use_sliding_window", False):
        fields.raw("sliding_window")
        fields = fields.with_value("sliding_window", None)
    return read_common(
        fields,
        "qwen3_moe",
        read_one_window(fields, 4096),
        context_length=32_768,
        kv_heads=4,
        attention={"qk_norm": True, "qkv_bias": bias, "output_bias": bias},
        mlp={"experts": read_experts(fields, 128, 8, 768, "moe_intermediate_size", normalised=normalised,
                             dense_layers=read_dense_layers(fields))},

    )  # fmt: skip


def _write(config: ModelConfig) -> dict[str, Any]:
    assert config.mlp.experts is not None
    return {
        **write_common(config),
        "attention_bias": config.attention.qkv_bias,
        "use_sliding_window": config.attention.sliding_window is not None,
        "sliding_window": config.attention.sliding_window,
        **write_experts(config, "num_experts"),
        "moe_intermediate_size": config.mlp.experts.d_mlp,
        "norm_topk_prob": config.mlp.experts.normalised,
        "mlp_only_layers": list(config.mlp.experts.dense_layers),
        "decoder_sparse_step": 1,
    }


FAMILY = Family("qwen3_moe", "Qwen3MoeForCausalLM", "model.", _read, _write, expert_tensors, BUFFERS,
                "Qwen3MoeForSequenceClassification", copies=COPIES)  # fmt: skip

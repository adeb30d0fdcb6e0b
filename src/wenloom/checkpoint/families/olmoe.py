"""OLMoE (Muennighoff et al. 2024): mixtures of many small experts, queries and keys normalised as a whole."""

from typing import Any

from wenloom.checkpoint.families.base import Family
from wenloom.checkpoint.families.experts import expert_tensors, read_experts, write_experts
from wenloom.checkpoint.families.fields import ConfigFields
from wenloom.checkpoint.families.llama import BUFFERS, COPIES, read_common, write_common
from wenloom.model.config import ModelConfig


def _read(fields: ConfigFields) -> ModelConfig:
    bias, normalised = fields.flag("attention_bias", False), fields.flag("norm_topk_prob", False)
    fields.only("clip_qkv", None)
    return read_common(
        fields,
        "olmoe",
        context_length=4096,
        norms={"eps": fields.number("rms_norm_eps", 1e-5)},
        attention={"qk_norm": True, "qk_norm_whole": True, "qkv_bias": bias, "output_bias": bias},
        mlp={"experts": read_experts(fields, 64, 8, 2048, normalised=normalised)},
    )


def _write(config: ModelConfig) -> dict[str, Any]:
    assert config.mlp.experts is not None
    return {
        **write_common(config),
        "attention_bias": config.attention.qkv_bias,
        **write_experts(config, "num_experts"),
        "norm_topk_prob": config.mlp.experts.normalised,
    }


FAMILY = Family("olmoe", "OlmoeForCausalLM", "model.", _read, _write, expert_tensors, BUFFERS, copies=COPIES)

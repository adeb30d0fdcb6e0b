"""GLM-4 (GLM Team 2024): four norms a block, half of each head rotated, in pairs of neighbours."""

from typing import Any

from wenloom.checkpoint.families.base import Family, TensorMap, pairs_apart
from wenloom.checkpoint.families.fields import ConfigFields
from wenloom.checkpoint.families.llama import BUFFERS, COPIES, read_common, tensors, write_common
from wenloom.model.config import ModelConfig


def _read(fields: ConfigFields) -> ModelConfig:
    return read_common(
        fields,
        "glm4",
        context_length=131_072,
        kv_heads=2,
        d_head=128,
        part=0.5,
        norms={"eps": fields.number("rms_norm_eps", 1.5625e-7), "place": "both"},
        attention={"qkv_bias": fields.flag("attention_bias", True)},
    )


def _write(config: ModelConfig) -> dict[str, Any]:
    return {**write_common(config, is_partial=True), "attention_bias": config.attention.qkv_bias}


_NORMS = {"input_layernorm": "attention_norm", "post_self_attn_layernorm": "attention_out_norm",
          "post_attention_layernorm": "mlp_norm", "post_mlp_layernorm": "mlp_out_norm"}  # fmt: skip


def _tensors(config: ModelConfig) -> list[TensorMap]:
    mlp = {"mlp.gate_up_proj": "gate+up", "mlp.down_proj": "down"}
    return tensors(config, _NORMS, mlp=mlp, rotated=pairs_apart(config.d_head, config.positions.d_rotary))


_CLASSIFIER = "Glm4ForSequenceClassification"
FAMILY = Family("glm4", "Glm4ForCausalLM", "model.", _read, _write, _tensors, BUFFERS, _CLASSIFIER, copies=COPIES)

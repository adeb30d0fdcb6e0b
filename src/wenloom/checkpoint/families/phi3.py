"""Phi-3 and Phi-4 (Abdin et al. 2024): Llama with fused matrices, partial rotary positions stretched by LongRoPE."""

from typing import Any

from wenloom.checkpoint.families.base import Family, TensorMap
from wenloom.checkpoint.families.fields import ConfigFields
from wenloom.checkpoint.families.llama import BUFFERS, COPIES, read_common, read_one_window, tensors, write_common
from wenloom.model.config import ModelConfig

_ORIGINAL = "original_max_position_embeddings"


def _read(fields: ConfigFields) -> ModelConfig:
    dropout = {
        "embedding": fields.share("embd_pdrop", 0.0),
        "residual": fields.share("resid_pdrop", 0.0),
    }
    for field in ("rope_scaling", "rope_parameters"):
        rope = fields.raw(field)
        if isinstance(rope, dict):
            for name in ("rope_type", "type"):  # older names of the one form that this family has
                rope = rope | {name: "longrope"} if rope.get(name) in ("su", "yarn") else rope
            fields = fields.with_value(field, rope)
    fields = fields.with_value(_ORIGINAL, fields.size(_ORIGINAL, "context_length", 4096))
    window = read_one_window(fields)
    config = read_common(fields, "phi3", window, context_length=4096, part=1.0, dropout=dropout)
    assert config.positions.rope is not None
    if config.positions.rope.kind not in ("default", "longrope"):
        raise fields.refuse(
            "rope_scaling", f"rope type {config.positions.rope.kind!r} is not one that transformers reads of phi3"
        )
    return config


def _write(config: ModelConfig) -> dict[str, Any]:
    assert config.positions.rope is not None
    return {
        **write_common(config, is_partial=True),
        _ORIGINAL: config.positions.rope.original_context_length or config.context_length,
        "sliding_window": config.attention.sliding_window,
        "embd_pdrop": config.dropout.embedding,
        "resid_pdrop": config.dropout.residual,
    }


def _tensors(config: ModelConfig) -> list[TensorMap]:
    attention, mlp = {"self_attn.qkv_proj": "query+key+value"}, {"mlp.gate_up_proj": "gate+up", "mlp.down_proj": "down"}
    return tensors(config, attention=attention, mlp=mlp)


_CLASSIFIER = "Phi3ForSequenceClassification"
FAMILY = Family("phi3", "Phi3ForCausalLM", "model.", _read, _write, _tensors, BUFFERS, _CLASSIFIER, copies=COPIES)

"""Phi 1 and 2 (Gunasekar et al. 2023): attention and feed-forward side by side under one norm, a part of each head rotated."""

from typing import Any

from wenloom.checkpoint.families.base import Family, TensorMap, heads_of_decoder, layers, same, with_bias
from wenloom.checkpoint.families.fields import ConfigFields
from wenloom.checkpoint.families.llama import BUFFERS, COPIES, read_common, write_common
from wenloom.model.config import PLAIN_BLOCKS, ModelConfig

_PARTS = {"input_layernorm": "attention_norm", "self_attn.q_proj": "attention.query", "self_attn.k_proj": "attention.key",
          "self_attn.v_proj": "attention.value", "self_attn.dense": "attention.output", "mlp.fc1": "mlp.up",
          "mlp.fc2": "mlp.down"}  # fmt: skip


def _read(fields: ConfigFields) -> ModelConfig:
    fields.only("qk_layernorm", False, None)
    return read_common(
        fields,
        "phi",
        PLAIN_BLOCKS,
        context_length=2048,
        part=0.5,
        eps="layer_norm_eps",
        norms={"eps": fields.number("layer_norm_eps", 1e-5)},
        default_activation="gelu_new",
        residual={"parallel": True, "shared_norm": True},
        logits={"bias": not fields.labels()},
        dropout={"embedding": fields.share("embd_pdrop", 0.0), "residual": fields.share("resid_pdrop", 0.0)},
    )


def _write(config: ModelConfig) -> dict[str, Any]:
    dropout = {"embd_pdrop": config.dropout.embedding, "resid_pdrop": config.dropout.residual}
    return {**write_common(config, eps="layer_norm_eps", is_partial=True), **dropout}


def _tensors(config: ModelConfig) -> list[TensorMap]:
    ends = [
        same("model.embed_tokens.weight", "embed.weight"),
        *with_bias(same, "model.final_layernorm", "final_norm", True),
    ]
    bias = [same("lm_head.bias", "output_bias")] if config.output == "tokens" else []
    return [*ends, *layers(config, "model.layers.{}", _PARTS), *heads_of_decoder(config), *bias]


_CLASSIFIER = "PhiForSequenceClassification"
FAMILY = Family("phi", "PhiForCausalLM", "model.", _read, _write, _tensors, BUFFERS, _CLASSIFIER, copies=COPIES)

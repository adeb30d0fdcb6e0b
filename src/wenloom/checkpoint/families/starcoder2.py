"""StarCoder2 (Lozhkov et al. 2024): Llama with LayerNorm, biases and a plain feed-forward layer."""

from typing import Any

from wenloom.checkpoint.families.base import Family, TensorMap
from wenloom.checkpoint.families.fields import ConfigFields
from wenloom.checkpoint.families.llama import BUFFERS, COPIES, read_common, read_one_window, tensors, write_common
from wenloom.model.config import ModelConfig


def _read(fields: ConfigFields) -> ModelConfig:
    bias = fields.flag("use_bias", True)
    return read_common(
        fields,
        "starcoder2",
        read_one_window(fields),
        context_length=4096,
        kv_heads=2,
        tied=True,
        eps="norm_epsilon",
        default_activation="gelu_pytorch_tanh",
        norms={"kind": "layernorm"},
        mlp={"gated": False, "bias": bias},
        attention={"qkv_bias": bias, "output_bias": bias},
        dropout={
            "embedding": fields.share("embedding_dropout", 0.0),
            "residual": fields.share("residual_dropout", 0.0),
        },
    )


def _write(config: ModelConfig) -> dict[str, Any]:
    return {
        **write_common(config, eps="norm_epsilon"),
        "use_bias": config.attention.qkv_bias,
        "sliding_window": config.attention.sliding_window,
        "embedding_dropout": config.dropout.embedding,
        "residual_dropout": config.dropout.residual,
    }


def _tensors(config: ModelConfig) -> list[TensorMap]:
    return tensors(config, mlp={"mlp.c_fc": "up", "mlp.c_proj": "down"})


_CLASSIFIER = "Starcoder2ForSequenceClassification"
FAMILY = Family(
    "starcoder2", "Starcoder2ForCausalLM", "model.", _read, _write, _tensors, BUFFERS, _CLASSIFIER, copies=COPIES
)

"""StableLM (Bellagamba et al. 2024): Llama with LayerNorm and partial rotary positions."""

from typing import Any

from wenloom.checkpoint.families.base import Family, TensorMap
from wenloom.checkpoint.families.fields import ConfigFields
from wenloom.checkpoint.families.llama import BUFFERS, COPIES, PRE_NORMS, read_common, tensors, write_common
from wenloom.model.config import ModelConfig


def _read(fields: ConfigFields) -> ModelConfig:
    fields.only("qk_layernorm", False, None)
    parallel = fields.flag("use_parallel_residual", False)
    return read_common(
        fields,
        "stablelm",
        context_length=4096,
        kv_heads=32,
        part=0.25,
        eps="layer_norm_eps",
        norms={"kind": "layernorm"},
        attention={"qkv_bias": fields.flag("use_qkv_bias", False)},
        residual={"parallel": parallel, "shared_norm": parallel},
        dropout={"residual": fields.share("hidden_dropout", 0.0)},
    )


def _write(config: ModelConfig) -> dict[str, Any]:
    return {
        **write_common(config, eps="layer_norm_eps", is_partial=True),
        "use_qkv_bias": config.attention.qkv_bias,
        "use_parallel_residual": config.residual.parallel,
        "hidden_dropout": config.dropout.residual,
    }


def _tensors(config: ModelConfig) -> list[TensorMap]:
    norms = {
        theirs: ours
        for theirs, ours in PRE_NORMS.items()
        if ours == "attention_norm" or not config.residual.shared_norm
    }
    return tensors(config, norms)


_CLASSIFIER = "StableLmForSequenceClassification"
FAMILY = Family(
    "stablelm", "StableLmForCausalLM", "model.", _read, _write, _tensors, BUFFERS, _CLASSIFIER, copies=COPIES
)

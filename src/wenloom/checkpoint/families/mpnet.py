"""MPNet (Song et al. 2020): RoBERTa without token types, with a bias on scores by distance beside its positions."""

from typing import Any

from wenloom.checkpoint.families.base import Family, TensorMap, heads_of_encoder, same
from wenloom.checkpoint.families.bert import BUFFERS, body, own_head, read_common, write_config
from wenloom.checkpoint.families.fields import ConfigFields
from wenloom.model.config import ModelConfig


def _read(fields: ConfigFields) -> ModelConfig:
    fields.only("relative_attention_num_buckets", 32, None)  # transformers counts in 32 whatever stands here
    positions = {"offset": 2, "skip_padding": True, "distance_bias": True}
    return read_common(fields, "mpnet", head_activation="gelu", embedding={"token_types": 0}, positions=positions)


def _write(config: ModelConfig) -> dict[str, Any]:
    fields = {name: value for name, value in write_config(config).items() if name != "type_vocab_size"}
    return {**fields, "relative_attention_num_buckets": config.positions.buckets}


def _tensors(config: ModelConfig) -> list[TensorMap]:
    bias = same("mpnet.encoder.relative_attention_bias.weight", "relative.table.weight")
    heads = heads_of_encoder(config, _HEADS, own_head("lm_head.decoder"))
    return [*body(config, "mpnet", _PARTS), bias, *heads]


_PARTS = {
    **{f"attention.attn.{part[0]}": f"attention.{part}" for part in ("query", "key", "value", "output")},
    "attention.LayerNorm": "attention_norm", "intermediate.dense": "mlp.up", "output.dense": "mlp.down",
    "output.LayerNorm": "mlp_norm",
}  # fmt: skip
_HEADS = {"classifier.dense": "classifier.dense", "classifier.output": "classifier.out_proj", "transform": "lm_head.dense",
          "transform_norm": "lm_head.layer_norm", "output_bias": "lm_head.bias"}  # fmt: skip
_COPIES = {"mpnet.embeddings.word_embeddings.weight": ("lm_head.decoder.weight",),
           "lm_head.bias": ("lm_head.decoder.bias",), "lm_head.decoder.bias": ("lm_head.bias",)}  # fmt: skip
FAMILY = Family("mpnet", "MPNetForMaskedLM", "mpnet.", _read, _write, _tensors, BUFFERS, "MPNetForSequenceClassification",
                "MPNetModel", "lm_head.decoder.weight", _COPIES)  # fmt: skip

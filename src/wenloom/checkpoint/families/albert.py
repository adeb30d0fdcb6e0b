"""ALBERT (Lan et al. 2020): BERT with narrow embeddings, whose layers are one block, or a few, again and again."""

import re
from typing import Any

from wenloom.checkpoint.families.base import Family, TensorMap, heads_of_encoder, same, with_bias
from wenloom.checkpoint.families.bert import embeddings, own_head, read_common, write_config
from wenloom.checkpoint.families.fields import ConfigFields
from wenloom.model.config import ModelConfig, limit


def _read(fields: ConfigFields) -> ModelConfig:
    fields.only("inner_group_num", 1, None)
    fields.understood("classifier_dropout_prob")
    n_layers = fields.integer("num_hidden_layers", 12, most=limit("n_layers"))
    return read_common(fields, "albert", widths=(4096, 12, 64), d_mlp=16_384, act="gelu_new", dropout=0.0,
                       embedding={"width": fields.integer("embedding_size", 128, most=limit("d_model"))},
                       layer_groups=fields.integer("num_hidden_groups", 1, most=n_layers))  # fmt: skip


def _write(config: ModelConfig) -> dict[str, Any]:
    return {**write_config(config), "embedding_size": config.embedding.width, "num_hidden_groups": config.layer_groups}


def _tensors(config: ModelConfig) -> list[TensorMap]:
    maps = embeddings(config, "albert")
    maps += with_bias(same, "albert.encoder.embedding_hidden_mapping_in", "widen", True)
    for block in range(config.n_blocks):
        theirs, ours = f"albert.encoder.albert_layer_groups.{block}.albert_layers.0", f"blocks.{block}"
        for name, part in _PARTS.items():
            maps += with_bias(same, f"{theirs}.{name}", f"{ours}.{part}", True)
    return [*maps, *heads_of_encoder(config, _HEADS, own_head("predictions.decoder"))]


_PARTS = {
    **{f"attention.{part}": f"attention.{part}" for part in ("query", "key", "value")}, "attention.dense": "attention.output",
    "attention.LayerNorm": "attention_norm", "ffn": "mlp.up", "ffn_output": "mlp.down", "full_layer_layer_norm": "mlp_norm",
}  # fmt: skip
_HEADS = {"classifier.dense": "albert.pooler", "classifier.output": "classifier", "transform": "predictions.dense",
          "transform_norm": "predictions.LayerNorm", "output_bias": "predictions.bias"}  # fmt: skip
_COPIES = {"albert.embeddings.word_embeddings.weight": ("predictions.decoder.weight",),
           "predictions.bias": ("predictions.decoder.bias",), "predictions.decoder.bias": ("predictions.bias",)}  # fmt: skip
FAMILY = Family("albert", "AlbertForMaskedLM", "albert.", _read, _write, _tensors, re.compile(r"position_ids$|\.pooler\."),
                "AlbertForSequenceClassification", "AlbertModel", "predictions.decoder.weight", _COPIES,
                head_prefixes=("predictions.", "sop_classifier."))  # fmt: skip

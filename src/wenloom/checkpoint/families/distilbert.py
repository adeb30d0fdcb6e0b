"""DistilBERT (Sanh et al. 2019): BERT without token types, under other names."""

import re
from typing import Any

from wenloom.checkpoint.families.base import Family, TensorMap, heads_of_encoder, layers, same, with_bias, written
from wenloom.checkpoint.families.bert import ENCODER
from wenloom.checkpoint.families.fields import HF_ACTIVATIONS, ConfigFields
from wenloom.model.config import ModelConfig, config_of

_NAMES = {"d_model": "dim", "n_layers": "n_layers", "n_heads": "n_heads", "d_mlp": "hidden_dim",
          "context_length": "max_position_embeddings", "dropout.residual": "dropout",
          "dropout.attention": "attention_dropout"}  # fmt: skip


def _read(fields: ConfigFields) -> ModelConfig:
    sizes = fields.sizes(_NAMES, (768, 6, 12))
    fields.flag("sinusoidal_pos_embds", False)  # how the position table began; it is stored either way
    fields.understood("qa_dropout", "seq_classif_dropout")
    common, activation = fields.common(tied=True), fields.activation("activation", "gelu")
    dropout = fields.share("dropout", 0.1)
    config = config_of(
        sizes,
        ENCODER,
        common,
        family="distilbert",
        d_mlp=fields.integer("hidden_dim", 3072),
        context_length=fields.size("max_position_embeddings", "context_length", 512),
        norms={"eps": 1e-12},
        mlp={"activation": activation},
        head={"activation": activation, "present": fields.has_head(), "pooler": "relu" if common["labels"] else None},
        dropout={"embedding": dropout, "attention": fields.share("attention_dropout", 0.1), "residual": dropout},
    )
    fields.finish()
    return config


def _write(config: ModelConfig) -> dict[str, Any]:
    return {**written(config, _NAMES), "activation": HF_ACTIVATIONS[config.mlp.activation]}


def _tensors(config: ModelConfig) -> list[TensorMap]:
    maps = [
        same("distilbert.embeddings.word_embeddings.weight", "embed.weight"),
        same("distilbert.embeddings.position_embeddings.weight", "positions.weight"),
        *with_bias(same, "distilbert.embeddings.LayerNorm", "embedding_norm", True),
    ]
    maps += layers(config, "distilbert.transformer.layer.{}", _PARTS)
    return [*maps, *heads_of_encoder(config, _HEADS, [same("vocab_projector.weight", "head.weight")])]


_PARTS = {
    **{f"attention.{short}_lin": f"attention.{long}"
       for short, long in (("q", "query"), ("k", "key"), ("v", "value"), ("out", "output"))},
    "sa_layer_norm": "attention_norm", "ffn.lin1": "mlp.up", "ffn.lin2": "mlp.down", "output_layer_norm": "mlp_norm",
}  # fmt: skip
_HEADS = {"classifier.dense": "pre_classifier", "classifier.output": "classifier", "transform": "vocab_transform",
          "transform_norm": "vocab_layer_norm", "output_bias": "vocab_projector.bias"}  # fmt: skip
_BUFFERS = re.compile(r"position_ids$")
_COPIES = {"distilbert.embeddings.word_embeddings.weight": ("vocab_projector.weight",)}
_CLASSIFIER = "DistilBertForSequenceClassification"
FAMILY = Family("distilbert", "DistilBertForMaskedLM", "distilbert.", _read, _write, _tensors, _BUFFERS, _CLASSIFIER,
                "DistilBertModel", "vocab_projector.weight", _COPIES)  # fmt: skip

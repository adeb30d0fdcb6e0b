"""DistilBERT (Sanh et al. 2019): BERT without token types, under other names."""

import re
from typing import Any

from wenloom.checkpoint.families.base import Family, TensorMap, same, with_bias
from wenloom.checkpoint.families.fields import HF_ACTIVATIONS, ConfigFields
from wenloom.model.config import LIMITS, ModelConfig


def _read(fields: ConfigFields) -> ModelConfig:
    d_model = fields.integer("dim", 768, most=LIMITS["d_model"])
    n_heads = fields.integer("n_heads", 12, most=LIMITS["n_heads"])
    fields.flag("sinusoidal_pos_embds", False)  # how the position table began; it is stored either way
    fields.understood("qa_dropout", "seq_classif_dropout")
    labels, activation = fields.labels(), fields.activation("activation", "gelu")
    dropout = fields.share("dropout", 0.1)
    config = ModelConfig(
        family="distilbert",
        vocab_size=fields.integer("vocab_size", 30522, most=LIMITS["vocab_size"]),
        n_layers=fields.integer("n_layers", 6, most=LIMITS["n_layers"]),
        d_model=d_model,
        n_heads=n_heads,
        n_kv_heads=n_heads,
        d_head=fields.width_per_head("dim", d_model, "n_heads", n_heads),
        d_mlp=fields.integer("hidden_dim", 3072),
        context_length=fields.integer("max_position_embeddings", 512, most=LIMITS["context_length"]),
        norm="layernorm",
        norm_eps=1e-12,
        post_norm=True,
        final_norm=False,
        embedding_norm=True,
        causal=False,
        activation=activation,
        gated_mlp=False,
        qkv_bias=True,
        attention_output_bias=True,
        mlp_bias=True,
        tie_embeddings=fields.flag("tie_word_embeddings", True),
        head_activation=activation,
        output_bias=True,
        labels=labels,
        has_head=fields.has_head(),
        pooler="relu" if labels else None,
        embedding_dropout=dropout,
        attention_dropout=fields.share("attention_dropout", 0.1),
        residual_dropout=dropout,
        initializer_range=fields.number("initializer_range", 0.02),
        **fields.token_ids(),
    )
    fields.finish()
    return config


def _write(config: ModelConfig) -> dict[str, Any]:
    return {
        "dim": config.d_model,
        "n_layers": config.n_layers,
        "n_heads": config.n_heads,
        "hidden_dim": config.d_mlp,
        "activation": HF_ACTIVATIONS[config.activation],
        "max_position_embeddings": config.context_length,
        "dropout": config.residual_dropout,
        "attention_dropout": config.attention_dropout,
    }


def _tensors(config: ModelConfig) -> list[TensorMap]:
    maps = [
        same("distilbert.embeddings.word_embeddings.weight", "embed.weight"),
        same("distilbert.embeddings.position_embeddings.weight", "positions.weight"),
        *with_bias(same, "distilbert.embeddings.LayerNorm", "embedding_norm", True),
    ]
    for layer in range(config.n_layers):
        theirs, ours = f"distilbert.transformer.layer.{layer}", f"blocks.{layer}"
        for short, long in (("q", "query"), ("k", "key"), ("v", "value"), ("out", "output")):
            maps += with_bias(same, f"{theirs}.attention.{short}_lin", f"{ours}.attention.{long}", True)
        maps += [
            *with_bias(same, f"{theirs}.sa_layer_norm", f"{ours}.attention_norm", True),
            *with_bias(same, f"{theirs}.ffn.lin1", f"{ours}.mlp.up", True),
            *with_bias(same, f"{theirs}.ffn.lin2", f"{ours}.mlp.down", True),
            *with_bias(same, f"{theirs}.output_layer_norm", f"{ours}.mlp_norm", True),
        ]
    if config.labels:
        return [
            *maps,
            *with_bias(same, "pre_classifier", "classifier.dense", True),
            *with_bias(same, "classifier", "classifier.output", True),
        ]
    if not config.has_head:
        return maps
    maps += [
        *with_bias(same, "vocab_transform", "transform", True),
        *with_bias(same, "vocab_layer_norm", "transform_norm", True),
        same("vocab_projector.bias", "output_bias"),
    ]
    return maps if config.tie_embeddings else [*maps, same("vocab_projector.weight", "head.weight")]


_BUFFERS = re.compile(r"position_ids$")
_COPIES = {"distilbert.embeddings.word_embeddings.weight": ("vocab_projector.weight",)}
_CLASSIFIER = "DistilBertForSequenceClassification"
FAMILY = Family("distilbert", "DistilBertForMaskedLM", "distilbert.", _read, _write, _tensors, _BUFFERS, _CLASSIFIER,
                "DistilBertModel", "vocab_projector.weight", _COPIES)  # fmt: skip

"""BERT (Devlin et al. 2019), and the shape that RoBERTa shares with it."""

import re
from typing import Any

from wenloom.checkpoint.families.base import Family, TensorMap, same, with_bias
from wenloom.checkpoint.families.fields import HF_ACTIVATIONS, ConfigFields
from wenloom.model.config import LIMITS, Activation, ModelConfig

COPIES = {"bert.embeddings.word_embeddings.weight": ("cls.predictions.decoder.weight",),
          "cls.predictions.bias": ("cls.predictions.decoder.bias",),
          "cls.predictions.decoder.bias": ("cls.predictions.bias",)}  # fmt: skip
BUFFERS = re.compile(r"position_ids$|\.pooler\.|^cls\.seq_relationship")
"""The pooler and the next-sentence head belong to other tasks."""


def read_common(
    fields: ConfigFields, family: str, head_activation: Activation | None = None, **own: Any
) -> ModelConfig:
    """What config.json says in both families; `own` is what this family adds.

    Args:
        head_activation: of the head, where it is not that of the blocks.
    """
    d_model = fields.integer("hidden_size", 768, most=LIMITS["d_model"])
    n_heads = fields.integer("num_attention_heads", 12, most=LIMITS["n_heads"])
    fields.only("position_embedding_type", "absolute", None)
    fields.only("is_decoder", False, None)
    labels, activation = fields.labels(), fields.activation("hidden_act", "gelu")
    dropout = fields.share("hidden_dropout_prob", 0.1)
    offset = own.get("position_offset", 0)
    positions = fields.integer("max_position_embeddings", 512, offset + 1, LIMITS["context_length"])
    config = ModelConfig(
        family=family,
        vocab_size=fields.integer("vocab_size", most=LIMITS["vocab_size"]),
        n_layers=fields.integer("num_hidden_layers", 12, most=LIMITS["n_layers"]),
        d_model=d_model,
        n_heads=n_heads,
        n_kv_heads=n_heads,
        d_head=fields.width_per_head("hidden_size", d_model, "num_attention_heads", n_heads),
        d_mlp=fields.integer("intermediate_size", 3072),
        context_length=positions - offset,
        norm="layernorm",
        norm_eps=fields.number("layer_norm_eps", 1e-12),
        post_norm=True,
        final_norm=False,
        embedding_norm=True,
        token_types=fields.integer("type_vocab_size", 2),
        causal=False,
        activation=activation,
        gated_mlp=False,
        qkv_bias=True,
        attention_output_bias=True,
        mlp_bias=True,
        tie_embeddings=fields.flag("tie_word_embeddings", True),
        head_activation=head_activation or activation,
        output_bias=True,
        labels=labels,
        has_head=fields.has_head(),
        pooler="tanh" if labels else None,
        embedding_dropout=dropout,
        attention_dropout=fields.share("attention_probs_dropout_prob", 0.1),
        residual_dropout=dropout,
        initializer_range=fields.number("initializer_range", 0.02),
        **fields.token_ids(),
        **own,
    )
    fields.finish()
    return config


def write_config(config: ModelConfig) -> dict[str, Any]:
    """The fields that both families write."""
    return {
        "hidden_size": config.d_model,
        "num_hidden_layers": config.n_layers,
        "num_attention_heads": config.n_heads,
        "intermediate_size": config.d_mlp,
        "hidden_act": HF_ACTIVATIONS[config.activation],
        "max_position_embeddings": config.context_length + config.position_offset,
        "type_vocab_size": config.token_types,
        "layer_norm_eps": config.norm_eps,
        "hidden_dropout_prob": config.residual_dropout,
        "attention_probs_dropout_prob": config.attention_dropout,
    }


def body(config: ModelConfig, prefix: str) -> list[TensorMap]:
    """Embeddings and blocks under the family's prefix."""
    embeddings = f"{prefix}.embeddings"
    maps = [
        same(f"{embeddings}.word_embeddings.weight", "embed.weight"),
        same(f"{embeddings}.position_embeddings.weight", "positions.weight"),
        same(f"{embeddings}.token_type_embeddings.weight", "token_types.weight"),
        *with_bias(same, f"{embeddings}.LayerNorm", "embedding_norm", True),
    ]
    for layer in range(config.n_layers):
        theirs, ours = f"{prefix}.encoder.layer.{layer}", f"blocks.{layer}"
        for part in ("query", "key", "value"):
            maps += with_bias(same, f"{theirs}.attention.self.{part}", f"{ours}.attention.{part}", True)
        maps += [
            *with_bias(same, f"{theirs}.attention.output.dense", f"{ours}.attention.output", True),
            *with_bias(same, f"{theirs}.attention.output.LayerNorm", f"{ours}.attention_norm", True),
            *with_bias(same, f"{theirs}.intermediate.dense", f"{ours}.mlp.up", True),
            *with_bias(same, f"{theirs}.output.dense", f"{ours}.mlp.down", True),
            *with_bias(same, f"{theirs}.output.LayerNorm", f"{ours}.mlp_norm", True),
        ]
    return maps


def own_head(theirs: str) -> list[TensorMap]:
    """An output matrix that is not the embedding; the bias stands here once more, and this one counts."""
    copied = TensorMap(f"{theirs}.bias", ("output_bias",), join=lambda tensors: tensors[0].clone())
    return [same(f"{theirs}.weight", "head.weight"), copied]


def _tensors(config: ModelConfig) -> list[TensorMap]:
    maps = body(config, "bert")
    if config.labels:
        return [
            *maps,
            *with_bias(same, "bert.pooler.dense", "classifier.dense", True),
            *with_bias(same, "classifier", "classifier.output", True),
        ]
    if not config.has_head:
        return maps
    head = "cls.predictions"
    maps += [
        *with_bias(same, f"{head}.transform.dense", "transform", True),
        *with_bias(same, f"{head}.transform.LayerNorm", "transform_norm", True),
        same(f"{head}.bias", "output_bias"),
    ]
    return maps if config.tie_embeddings else [*maps, *own_head(f"{head}.decoder")]


def _read(fields: ConfigFields) -> ModelConfig:
    return read_common(fields, "bert")


_CLASSIFIER = "BertForSequenceClassification"
FAMILY = Family("bert", "BertForMaskedLM", "bert.", _read, write_config, _tensors, BUFFERS, _CLASSIFIER, "BertModel",
                "cls.predictions.decoder.weight", COPIES)  # fmt: skip

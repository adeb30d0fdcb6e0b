"""BERT (Devlin et al. 2019), and the shape that RoBERTa shares with it."""

import re
from collections.abc import Mapping
from typing import Any

from wenloom.checkpoint.families.base import Family, TensorMap, heads_of_encoder, layers, same, with_bias, written
from wenloom.checkpoint.families.fields import HF_ACTIVATIONS, ConfigFields
from wenloom.model.config import POST_NORM, ModelConfig, config_of, joined_shapes, limit
from wenloom.model.parts import Activation

COPIES = {"bert.embeddings.word_embeddings.weight": ("cls.predictions.decoder.weight",),
          "cls.predictions.bias": ("cls.predictions.decoder.bias",),
          "cls.predictions.decoder.bias": ("cls.predictions.bias",)}  # fmt: skip
ENCODER = joined_shapes(POST_NORM, {"norms": {"embedding": True}, "logits": {"bias": True}, "causal": False})
BUFFERS = re.compile(r"position_ids$|\.pooler\.|^cls\.seq_relationship")
"""The pooler and the next-sentence head belong to other tasks."""
NAMES = {"d_model": "hidden_size", "n_layers": "num_hidden_layers", "n_heads": "num_attention_heads",
         "d_mlp": "intermediate_size", "embedding.token_types": "type_vocab_size", "norms.eps": "layer_norm_eps",
         "dropout.residual": "hidden_dropout_prob", "dropout.attention": "attention_probs_dropout_prob"}  # fmt: skip


def read_common(
    fields: ConfigFields,
    family: str,
    *shapes: Mapping[str, Any],
    widths: tuple[int, int, int] = (768, 12, 12),
    d_mlp: int = 3072,
    eps: float = 1e-12,
    act: str = "gelu",
    dropout: float = 0.1,
    head_activation: Activation | None = None,
    pooler: str = "tanh",
    **own: Any,
) -> ModelConfig:
    """What config.json says in BERT and its relatives; `shapes` and `own` are what this family adds.

    Args:
        widths, d_mlp, eps, act, dropout: the family's defaults of d_model, n_layers and n_heads, and of what is named so.
        head_activation: of the head, where it is not that of the blocks.
        pooler: activation of the dense layer before classes.
    """
    sizes, own = fields.sizes(NAMES, widths), joined_shapes(*shapes, own)
    fields.only("position_embedding_type", "absolute", None)
    fields.only("is_decoder", False, None)
    common, activation = fields.common(tied=True), fields.activation("hidden_act", act)
    dropped = fields.share("hidden_dropout_prob", dropout)
    offset = own.get("positions", {}).get("offset", 0)
    positions = fields.integer("max_position_embeddings", 512, offset + 1, limit("context_length"))
    has_types = "token_types" in own.get("embedding", {})
    config = config_of(
        sizes,
        ENCODER,
        common,
        {
            "family": family,
            "d_mlp": fields.integer("intermediate_size", d_mlp),
            "context_length": positions - offset,
            "norms": {"eps": fields.number("layer_norm_eps", eps)},
            "embedding": {} if has_types else {"token_types": fields.integer("type_vocab_size", 2)},
            "mlp": {"activation": activation},
            "head": {
                "activation": head_activation or activation,
                "present": fields.has_head(),
                "pooler": pooler if common["labels"] else None,
            },
            "dropout": {
                "embedding": dropped,
                "attention": fields.share("attention_probs_dropout_prob", dropout),
                "residual": dropped,
            },
        },
        own,
    )
    fields.finish()
    return config


def write_config(config: ModelConfig) -> dict[str, Any]:
    """The fields that BERT and its relatives write."""
    return {
        **written(config, NAMES),
        "hidden_act": HF_ACTIVATIONS[config.mlp.activation],
        "max_position_embeddings": config.context_length + config.positions.offset,
    }


def body(config: ModelConfig, prefix: str, parts: Mapping[str, str] | None = None) -> list[TensorMap]:
    """Embeddings and blocks under the family's prefix.

    Args:
        parts: what the family calls the parts of a block, where that is not as in BERT.
    """
    return [*embeddings(config, prefix), *layers(config, prefix + ".encoder.layer.{}", parts or PARTS)]


def embeddings(config: ModelConfig, prefix: str) -> list[TensorMap]:
    """What stands before the blocks."""
    names = {"word": "embed", **({"position": "positions"} if config.positions.kind == "learned" else {}),
             **({"token_type": "token_types"} if config.embedding.token_types else {})}  # fmt: skip
    return [
        *(same(f"{prefix}.embeddings.{theirs}_embeddings.weight", f"{ours}.weight") for theirs, ours in names.items()),
        *with_bias(same, f"{prefix}.embeddings.LayerNorm", "embedding_norm", True),
    ]


PARTS = {
    **{f"attention.self.{part}": f"attention.{part}" for part in ("query", "key", "value")},
    "attention.output.dense": "attention.output", "attention.output.LayerNorm": "attention_norm",
    "intermediate.dense": "mlp.up", "output.dense": "mlp.down", "output.LayerNorm": "mlp_norm",
}  # fmt: skip


def own_head(theirs: str) -> list[TensorMap]:
    """An output matrix that is not the embedding; the bias stands here once more, and this one counts."""
    copied = TensorMap(f"{theirs}.bias", ("output_bias",), join=lambda tensors: tensors[0].clone())
    return [same(f"{theirs}.weight", "head.weight"), copied]


def _tensors(config: ModelConfig) -> list[TensorMap]:
    return [*body(config, "bert"), *heads_of_encoder(config, _HEADS, own_head("cls.predictions.decoder"))]


_HEADS = {"classifier.dense": "bert.pooler.dense", "classifier.output": "classifier",
          "transform": "cls.predictions.transform.dense", "transform_norm": "cls.predictions.transform.LayerNorm",
          "output_bias": "cls.predictions.bias"}  # fmt: skip


def _read(fields: ConfigFields) -> ModelConfig:
    return read_common(fields, "bert")


_CLASSIFIER = "BertForSequenceClassification"
FAMILY = Family("bert", "BertForMaskedLM", "bert.", _read, write_config, _tensors, BUFFERS, _CLASSIFIER, "BertModel",
                "cls.predictions.decoder.weight", COPIES)  # fmt: skip

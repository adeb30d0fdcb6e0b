"""ELECTRA (Clark et al. 2020): BERT whose embeddings may be narrower. The discriminator, which is published, has no head for tokens."""

from typing import Any

from wenloom.checkpoint.families.base import Family, TensorMap, heads_of_encoder, same, with_bias
from wenloom.checkpoint.families.bert import BUFFERS, body, read_common, write_config
from wenloom.checkpoint.families.fields import ConfigFields
from wenloom.model.config import ModelConfig, limit


def _read(fields: ConfigFields) -> ModelConfig:
    fields.understood("summary_type", "summary_use_proj", "summary_activation", "summary_last_dropout")
    width = fields.integer("embedding_size", 128, most=limit("d_model"))
    is_wide = width == fields.integer("hidden_size", 256, most=limit("d_model"))
    return read_common(fields, "electra", widths=(256, 12, 4), d_mlp=1024, head_activation="gelu", pooler="gelu",
                       embedding={"width": None if is_wide else width})  # fmt: skip


def _write(config: ModelConfig) -> dict[str, Any]:
    return {**write_config(config), "embedding_size": config.embedding.width or config.d_model}


def _tensors(config: ModelConfig) -> list[TensorMap]:
    widen = with_bias(same, "electra.embeddings_project", "widen", True) if config.embedding.width else []
    untied = [same("generator_lm_head.weight", "head.weight")]
    return [*body(config, "electra"), *widen, *heads_of_encoder(config, _HEADS, untied)]


_HEADS = {"classifier.dense": "classifier.dense", "classifier.output": "classifier.out_proj",
          "transform": "generator_predictions.dense", "transform_norm": "generator_predictions.LayerNorm",
          "output_bias": "generator_lm_head.bias"}  # fmt: skip
_COPIES = {"electra.embeddings.word_embeddings.weight": ("generator_lm_head.weight",)}
FAMILY = Family("electra", "ElectraForMaskedLM", "electra.", _read, _write, _tensors, BUFFERS, "ElectraForSequenceClassification",
                "ElectraModel", "generator_lm_head.weight", _COPIES,
                head_prefixes=("generator_predictions.", "generator_lm_head.", "discriminator_predictions.",
                               "sequence_summary."))  # fmt: skip

"""RoBERTa (Liu et al. 2019): BERT with positions counted from the padding token's number on."""

from wenloom.checkpoint.families.base import Family, TensorMap, same, with_bias
from wenloom.checkpoint.families.bert import BUFFERS, body, own_head, read_common, write_config
from wenloom.checkpoint.families.fields import ConfigFields
from wenloom.model.config import LIMITS, ModelConfig


def _read(fields: ConfigFields) -> ModelConfig:
    padding = fields.integer("pad_token_id", 1, 0, LIMITS["vocab_size"])
    return read_common(fields, "roberta", position_offset=padding + 1, skip_padding=True, head_activation="gelu")


def _tensors(config: ModelConfig) -> list[TensorMap]:
    maps = body(config, "roberta")
    if config.labels:
        return [
            *maps,
            *with_bias(same, "classifier.dense", "classifier.dense", True),
            *with_bias(same, "classifier.out_proj", "classifier.output", True),
        ]
    if not config.has_head:
        return maps
    maps += [
        *with_bias(same, "lm_head.dense", "transform", True),
        *with_bias(same, "lm_head.layer_norm", "transform_norm", True),
        same("lm_head.bias", "output_bias"),
    ]
    return maps if config.tie_embeddings else [*maps, *own_head("lm_head.decoder")]


_COPIES = {"roberta.embeddings.word_embeddings.weight": ("lm_head.decoder.weight",),
           "lm_head.bias": ("lm_head.decoder.bias",), "lm_head.decoder.bias": ("lm_head.bias",)}  # fmt: skip
_CLASSIFIER = "RobertaForSequenceClassification"
FAMILY = Family("roberta", "RobertaForMaskedLM", "roberta.", _read, write_config, _tensors, BUFFERS, _CLASSIFIER, "RobertaModel",
                "lm_head.decoder.weight", _COPIES)  # fmt: skip

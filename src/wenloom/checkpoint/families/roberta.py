"""RoBERTa (Liu et al. 2019): BERT with positions counted from the padding token's number on."""

from wenloom.checkpoint.families.base import ConfigFields, Family, TensorMap, same, with_bias
from wenloom.checkpoint.families.bert import BUFFERS, body, own_head, read_common, write_config
from wenloom.model.config import ModelConfig


def _read(fields: ConfigFields) -> ModelConfig:
    padding = fields.integer("pad_token_id", 1)
    return read_common(fields, "roberta", position_offset=padding + 1, skip_padding=True, head_activation="gelu")


def _tensors(config: ModelConfig) -> list[TensorMap]:
    maps = body(config, "roberta")
    if config.labels:
        return [
            *maps,
            *with_bias(same, "classifier.dense", "classifier.dense", True),
            *with_bias(same, "classifier.out_proj", "classifier.output", True),
        ]
    maps += [
        *with_bias(same, "lm_head.dense", "transform", True),
        *with_bias(same, "lm_head.layer_norm", "transform_norm", True),
        same("lm_head.bias", "output_bias"),
    ]
    return maps if config.tie_embeddings else [*maps, *own_head("lm_head.decoder")]


_CLASSIFIER = "RobertaForSequenceClassification"
FAMILY = Family("roberta", "RobertaForMaskedLM", "roberta.", _read, write_config, _tensors, BUFFERS, _CLASSIFIER)

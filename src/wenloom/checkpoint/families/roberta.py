"""RoBERTa (Liu et al. 2019): BERT with positions counted from the padding token's number on."""

from wenloom.checkpoint.families.base import Family, TensorMap, heads_of_encoder
from wenloom.checkpoint.families.bert import BUFFERS, body, own_head, read_common, write_config
from wenloom.checkpoint.families.fields import ConfigFields
from wenloom.model.config import ModelConfig, limit


def read_roberta(fields: ConfigFields, family: str) -> ModelConfig:
    """What config.json says in both families."""
    padding = fields.integer("pad_token_id", 1, 0, limit("vocab_size"))
    positions = {"offset": padding + 1, "skip_padding": True}
    return read_common(fields, family, positions=positions, head_activation="gelu")


def _read(fields: ConfigFields) -> ModelConfig:
    return read_roberta(fields, "roberta")


def tensors(config: ModelConfig) -> list[TensorMap]:
    """Names of both families' files."""
    return [*body(config, "roberta"), *heads_of_encoder(config, _HEADS, own_head("lm_head.decoder"))]


_HEADS = {"classifier.dense": "classifier.dense", "classifier.output": "classifier.out_proj", "transform": "lm_head.dense",
          "transform_norm": "lm_head.layer_norm", "output_bias": "lm_head.bias"}  # fmt: skip
COPIES = {"roberta.embeddings.word_embeddings.weight": ("lm_head.decoder.weight",),
           "lm_head.bias": ("lm_head.decoder.bias",), "lm_head.decoder.bias": ("lm_head.bias",)}  # fmt: skip
_CLASSIFIER = "RobertaForSequenceClassification"
FAMILY = Family("roberta", "RobertaForMaskedLM", "roberta.", _read, write_config, tensors, BUFFERS, _CLASSIFIER, "RobertaModel",
                "lm_head.decoder.weight", COPIES)  # fmt: skip

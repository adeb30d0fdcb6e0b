"""CamemBERT (Martin et al. 2020): RoBERTa for French, under a name of its own."""

from wenloom.checkpoint.families.base import Family
from wenloom.checkpoint.families.bert import BUFFERS, write_config
from wenloom.checkpoint.families.fields import ConfigFields
from wenloom.checkpoint.families.roberta import COPIES, read_roberta, tensors
from wenloom.model.config import ModelConfig


def _read(fields: ConfigFields) -> ModelConfig:
    return read_roberta(fields, "camembert")


_CLASSIFIER = "CamembertForSequenceClassification"
FAMILY = Family("camembert", "CamembertForMaskedLM", "roberta.", _read, write_config, tensors, BUFFERS, _CLASSIFIER,
                "CamembertModel", "lm_head.decoder.weight", COPIES)  # fmt: skip

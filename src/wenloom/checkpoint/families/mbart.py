"""mBART (Liu et al. 2020): BART with the norm before each sub-layer, and one after the last."""

from wenloom.checkpoint.families.bart import BUFFERS, COPIES, OPTIONAL, read_common, tensors, write_config
from wenloom.checkpoint.families.base import Family
from wenloom.checkpoint.families.fields import ConfigFields
from wenloom.model.config import ModelConfig


def _read(fields: ConfigFields) -> ModelConfig:
    norms = {"place": "pre", "final": True, "embedding": True}
    return read_common(fields, "mbart", 2, activation="gelu", vocab_size=50265, positions={"offset": 2}, norms=norms)


FAMILY = Family("mbart", "MBartForConditionalGeneration", "model.", _read, write_config, tensors, BUFFERS,
                copies=COPIES, optional=OPTIONAL)  # fmt: skip

"""Pegasus (Zhang et al. 2020): mBART with sines for positions, and without a norm of the embeddings."""

from wenloom.checkpoint.families.bart import BUFFERS, COPIES, OPTIONAL, read_common, tensors, write_config
from wenloom.checkpoint.families.base import Family
from wenloom.checkpoint.families.fields import ConfigFields
from wenloom.model.config import PLAIN_BLOCKS, ModelConfig


def _read(fields: ConfigFields) -> ModelConfig:
    blocks = PLAIN_BLOCKS | {"norm_place": "pre", "final_norm": True}
    return read_common(fields, "pegasus", 0, activation="gelu", vocab_size=50265, positions="sinusoidal", **blocks)


FAMILY = Family("pegasus", "PegasusForConditionalGeneration", "model.", _read, write_config, tensors, BUFFERS,
                copies=COPIES, optional=OPTIONAL)  # fmt: skip

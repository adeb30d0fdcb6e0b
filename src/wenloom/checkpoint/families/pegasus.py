"""Pegasus (Zhang et al. 2020): mBART with sines for positions, and without a norm of the embeddings."""

from wenloom.checkpoint.families.bart import BUFFERS, COPIES, OPTIONAL, read_common, tensors, write_config
from wenloom.checkpoint.families.base import Family
from wenloom.checkpoint.families.fields import ConfigFields
from wenloom.model.config import ModelConfig


def _read(fields: ConfigFields) -> ModelConfig:
    return read_common(
        fields,
        "pegasus",
        0,
        activation="gelu",
        vocab_size=50265,
        positions={"kind": "sinusoidal"},
        norms={"place": "pre", "final": True},
    )


FAMILY = Family("pegasus", "PegasusForConditionalGeneration", "model.", _read, write_config, tensors, BUFFERS,
                copies=COPIES, optional=OPTIONAL)  # fmt: skip

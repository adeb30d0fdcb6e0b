"""UMT5 (Chung et al. 2023): mT5 with biases by distance in every layer."""

from typing import Any

from wenloom.checkpoint.families.base import Family
from wenloom.checkpoint.families.fields import ConfigFields
from wenloom.checkpoint.families.t5 import BUFFERS, COPIES, read_t5, tensors, write_t5
from wenloom.model.config import ModelConfig


def _read(fields: ConfigFields) -> ModelConfig:
    return read_t5(fields, "umt5", 250_112, "gated-gelu", is_tied=True, is_scaled=True, in_layers=True,
                   d_ff=1024, num_layers=8, num_heads=6)  # fmt: skip


def _write(config: ModelConfig) -> dict[str, Any]:
    return {name: value for name, value in write_t5(config).items() if name != "scale_decoder_outputs"}


FAMILY = Family("umt5", "UMT5ForConditionalGeneration", "", _read, _write, tensors, BUFFERS,
                copies=COPIES, is_always_tied=True)  # fmt: skip

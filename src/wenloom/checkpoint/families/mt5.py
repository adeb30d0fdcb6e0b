"""mT5 (Xue et al. 2021): T5 1.1 for 101 languages; the output matrix is the embedding unless the weights have another."""

from typing import Any

from wenloom.checkpoint.families.base import Family
from wenloom.checkpoint.families.fields import ConfigFields
from wenloom.checkpoint.families.t5 import BUFFERS, COPIES, read_t5, tensors, write_t5
from wenloom.model.config import ModelConfig


def _read(fields: ConfigFields) -> ModelConfig:
    return read_t5(fields, "mt5", 250_112, "gated-gelu", is_tied=True, d_ff=1024, num_layers=8, num_heads=6)


def _write(config: ModelConfig) -> dict[str, Any]:
    return {name: value for name, value in write_t5(config).items() if name != "scale_decoder_outputs"}


FAMILY = Family("mt5", "MT5ForConditionalGeneration", "", _read, _write, tensors, BUFFERS,
                copies=COPIES, is_always_tied=True)  # fmt: skip

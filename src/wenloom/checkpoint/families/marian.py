"""Marian (Junczys-Dowmunt et al. 2018), the shape of the OPUS-MT models: BART with sines for positions."""

from typing import Any

from wenloom.checkpoint.families.bart import BUFFERS, COPIES, OPTIONAL, read_common, tensors, write_config
from wenloom.checkpoint.families.base import Family
from wenloom.checkpoint.families.fields import ConfigFields
from wenloom.model.config import ModelConfig


def _read(fields: ConfigFields) -> ModelConfig:
    fields.only("share_encoder_decoder_embeddings", True, None)
    fields.only("decoder_vocab_size", fields.size("vocab_size", "vocab_size", 58101), None)
    return read_common(fields, "marian", 58100, activation="gelu", vocab_size=58101, positions={"kind": "sinusoidal"})


def _write(config: ModelConfig) -> dict[str, Any]:
    return {**write_config(config), "share_encoder_decoder_embeddings": True, "decoder_vocab_size": config.vocab_size}


FAMILY = Family("marian", "MarianMTModel", "model.", _read, _write, tensors, BUFFERS,
                copies=COPIES, optional=OPTIONAL)  # fmt: skip

"""From a shape to a model."""

from dataclasses import replace

import torch

from wenloom.core.errors import InputError
from wenloom.model.config import ModelConfig
from wenloom.model.decoder import Decoder
from wenloom.model.encoder import Encoder
from wenloom.model.encoder_decoder import EncoderDecoder
from wenloom.model.quantize import require_unquantized

Model = Decoder | Encoder | EncoderDecoder


def build(config: ModelConfig) -> Model:
    """The model of this shape, its weights still to be drawn (`initialise`) or read."""
    kinds = {"decoder": Decoder, "encoder": Encoder, "encoder-decoder": EncoderDecoder}
    return kinds[config.kind](config)


def with_classes(model: Model, labels: tuple[str, ...], generator: torch.Generator) -> Model:
    """An encoder or decoder with a fresh head for these classes in place of the one it has.

    Raises:
        InputError: it has both an encoder and a decoder, or quantized weights.
    """
    require_unquantized(model, "classes are learned with unquantized weights")
    if isinstance(model, EncoderDecoder):
        raise InputError("classification takes an encoder or a decoder, not a model that has both.")
    pooler = "relu" if model.config.family == "distilbert" else "tanh" if isinstance(model, Encoder) else None
    made = build(replace(model.config, labels=labels, pooler=pooler, has_head=True))
    made.initialise(generator)
    heads = ("head.", "transform", "output_bias", "classifier.")
    body = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith(heads)}
    made.load_state_dict(body, strict=False)
    return made

"""From a shape to a model."""

from dataclasses import replace
from typing import Literal

import torch

from wenloom.core.errors import InputError
from wenloom.model.config import ModelConfig, reshaped
from wenloom.model.decoder import Decoder
from wenloom.model.encoder import Encoder
from wenloom.model.encoder_decoder import EncoderDecoder
from wenloom.model.experts import MixtureOfExperts
from wenloom.model.quantize import require_unquantized

Model = Decoder | Encoder | EncoderDecoder


def build(config: ModelConfig) -> Model:
    """The model of this shape, its weights still to be drawn (`initialise`) or read."""
    kinds = {"decoder": Decoder, "encoder": Encoder, "encoder-decoder": EncoderDecoder}
    return kinds[config.kind](config)


def active_parameters(model: Model) -> int:
    """Number of weights that a token meets: of experts those that are active."""
    idle = sum(each.n_idle_parameters() for each in model.modules() if isinstance(each, MixtureOfExperts))
    return model.n_parameters() - idle


def with_classes(model: Model, labels: tuple[str, ...], generator: torch.Generator) -> Model:
    """An encoder or decoder with a fresh head for these classes in place of the one it has.

    Raises:
        InputError: it has both an encoder and a decoder, or quantized weights.
    """
    require_unquantized(model, "classes are learned with unquantized weights")
    if isinstance(model, EncoderDecoder):
        raise InputError("classification takes an encoder or a decoder, not a model that has both.")
    poolers: dict[str, Literal["relu", "gelu"]] = {
        "distilbert": "relu", **dict.fromkeys(("modernbert", "electra", "deberta-v2"), "gelu"),
    }  # fmt: skip
    family = model.config.family
    pooler = poolers.get(family, "tanh") if isinstance(model, Encoder) else None
    made = build(
        reshaped(
            model.config,
            labels=labels,
            head={"pooler": pooler, "pooler_norm": family == "modernbert", "present": True},
        )
    )
    made.initialise(generator)
    heads = ("head.", "transform", "output_bias", "classifier.")
    body = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith(heads)}
    made.load_state_dict(body, strict=False)
    return made


def without_head(model: Encoder) -> Encoder:
    """An encoder that gives hidden states, with the weights of one that predicts tokens or classes."""
    made = Encoder(reshaped(model.config, labels=(), head={"present": False}))
    kept = made.state_dict().keys()
    made.load_state_dict({name: tensor for name, tensor in model.state_dict().items() if name in kept})
    return made.eval()


def can_read_more(config: ModelConfig) -> bool:
    """Whether positions are computed without regard to the context: it is then as long as a model was trained for."""
    ropes = {config.rope_of(layer) for layer in range(config.n_layers)}
    plain = all(rope is None or rope.kind == "default" for rope in ropes)
    return (
        config.kind == "decoder" and plain and (config.positions.rope is not None or config.positions.kind == "alibi")
    )


def with_context(model: Decoder, length: int) -> Decoder:
    """The same decoder, with its weights, for texts of so many tokens.

    Raises:
        InputError: its positions end with its context, or are stretched for it; or its weights are quantized.
    """
    require_unquantized(model, "a longer context is learned with unquantized weights")
    if not can_read_more(model.config):
        raise InputError(f"this model's positions are made for {model.config.context_length:,} tokens.")
    with torch.device("meta"):
        made = Decoder(replace(model.config, context_length=length))
    made.load_state_dict(model.state_dict(), strict=True, assign=True)
    return made

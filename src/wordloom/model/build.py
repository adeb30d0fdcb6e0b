"""From a shape to a model."""

from wordloom.model.config import ModelConfig
from wordloom.model.decoder import Decoder
from wordloom.model.encoder import Encoder
from wordloom.model.encoder_decoder import EncoderDecoder

Model = Decoder | Encoder | EncoderDecoder


def build(config: ModelConfig) -> Model:
    """The model of this shape, with weights as PyTorch draws them (call `initialise`)."""
    kinds = {"decoder": Decoder, "encoder": Encoder, "encoder-decoder": EncoderDecoder}
    return kinds[config.kind](config)

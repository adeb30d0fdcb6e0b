"""The original Transformer: a decoder that writes from an encoder's text (Vaswani et al. 2017)."""

import torch
from torch import Tensor, nn

from wenloom.model.cache import EncoderKV
from wenloom.model.config import ModelConfig
from wenloom.model.decoder import Decoder
from wenloom.model.sound import SoundEncoder
from wenloom.model.stack import Stack
from wenloom.model.taps import Taps, within


class EncoderDecoder(nn.Module):
    """P(y1..yn | source) = Π P(yi | y<i, source). Marian, BART, T5 and Whisper are configurations of this one model.

    Args:
        config: the decoder's, with the encoder's in it.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        assert config.encoder is not None
        self.config = config
        self.decoder = Decoder(config)
        shared = self.decoder.embed if config.embedding.shared else None
        self.encoder: Stack
        if config.hears:
            self.encoder = SoundEncoder(config.encoder, self.decoder.embed)
        else:
            self.encoder = Stack(config.encoder, shared)

    def forward(
        self,
        source_BS: Tensor,
        target_BT: Tensor,
        source_mask: Tensor | None = None,
        target_mask: Tensor | None = None,
        taps: Taps | None = None,
    ) -> Tensor:
        """Logits of the next target token after every one, shape (B, T, V).

        Args:
            source_BS: token ids, or of a model that hears a spectrogram, shape (B, n_mels, frames).
            source_mask, target_mask: 1 for tokens, 0 for padding.
        """
        encoder_kv = self.encode(source_BS, source_mask, taps=within(taps, "encoder"))
        return self.decoder(target_BT, target_mask, encoder_kv=encoder_kv, taps=within(taps, "decoder"))

    def encode(
        self,
        source_BS: Tensor,
        source_mask: Tensor | None = None,
        dropout_keys_B: Tensor | None = None,
        taps: Taps | None = None,
    ) -> EncoderKV:
        """What the decoder sees of some texts."""
        encoded_BSD = self.encoder.hidden(source_BS, source_mask, dropout_keys_B=dropout_keys_B, taps=taps)
        present_BS = None if source_mask is None or bool(source_mask.all()) else source_mask.bool()
        return self.decoder.project_source(encoded_BSD, present_BS)

    @property
    def embed(self) -> nn.Embedding:
        """The token embedding of the decoder."""
        return self.decoder.embed

    @property
    def places(self) -> list[str]:
        """Names for `taps`."""
        parts = {"encoder": self.encoder, "decoder": self.decoder}
        return [f"{name}.{place}" for name, part in parts.items() for place in part.places]

    @property
    def blocks(self) -> nn.ModuleList:
        """All blocks, the encoder's first."""
        return nn.ModuleList([*self.encoder.blocks, *self.decoder.blocks])

    def initialise(self, generator: torch.Generator) -> None:
        """Fresh weights, see `Stack.initialise`."""
        self.decoder.initialise(generator)
        self.encoder.initialise(generator)

    def n_parameters(self) -> int:
        """Number of weights, shared ones counted once."""
        return sum(parameter.numel() for parameter in self.parameters())

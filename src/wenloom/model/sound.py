"""The encoder of sound: a spectrogram in, what a decoder attends to out (Radford et al. 2022, section 2.2)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wenloom.core.errors import InputError
from wenloom.model.config import ModelConfig
from wenloom.model.position import SinusoidalPositions
from wenloom.model.stack import Stack

_FLOOR = 0.01
"""Of the largest variance of a direction of the bands, what is added to all of them before they are made alike."""


class SoundEncoder(Stack):
    """Two convolutions, of which the second halves the time, then the blocks of any encoder.

    Args:
        embed: the decoder's token embedding, which nothing here reads.
    """

    def __init__(self, config: ModelConfig, embed: nn.Embedding):
        super().__init__(config, embed)
        assert config.n_mels is not None
        self.conv_in = nn.Conv1d(config.n_mels, config.d_model, 3, padding=1)
        self.conv_half = nn.Conv1d(config.d_model, config.d_model, 3, stride=2, padding=1)
        if isinstance(self.positions, nn.Embedding):
            self.positions.weight.requires_grad_(False)  # sines, which files keep as a table

    def token_vectors(self, tokens: Tensor) -> Tensor:
        """What stands at every place.

        Args:
            tokens: a spectrogram, shape (B, n_mels, frames).

        Returns:
            Shape (B, frames / 2, D), rounded up.

        Raises:
            InputError: it is text, or has another number of bands.
        """
        if tokens.dim() == 2:
            raise InputError("this model hears sound and reads no text: `wenloom transcribe` writes down recordings.")
        if tokens.dim() != 3 or tokens.shape[1] != self.config.n_mels:
            raise InputError(
                f"this model hears spectrograms of {self.config.n_mels} bands, shape (B, {self.config.n_mels}, frames), "
                f"got {tuple(tokens.shape)}."
            )
        x_BDT = F.gelu(self.conv_in(tokens.to(self.conv_in.weight.dtype)))
        return F.gelu(self.conv_half(x_BDT)).transpose(1, 2)

    def initialise(self, generator: torch.Generator) -> None:
        """Fresh weights as in `Stack.initialise`; of convolutions by the width of what they read, positions as sines.

        What is heard must be louder than where it stands, else a small model learns at which places words mostly are, and CTC does not
        leave its first plateau: so convolutions are drawn twice as wide as keeps the variance, and sines are a tenth of Whisper's. Blocks
        begin by adding nothing (Zhang et al. 2019, "Fixup initialization", section 3), so that CTC first learns from the sound around a place.
        """
        super().initialise(generator)
        for conv in (self.conv_in, self.conv_half):
            nn.init.normal_(conv.weight, 0.0, 2 * (conv.in_channels * conv.kernel_size[0]) ** -0.5, generator=generator)
        if isinstance(self.positions, nn.Embedding):
            waves = SinusoidalPositions(self.config.context_length, self.config.d_model, of_fairseq=True)
            with torch.no_grad():
                self.positions.weight.copy_(0.1 * waves(torch.arange(self.config.context_length)))
        for name, weight in self.named_parameters():
            if name.endswith(("attention.output.weight", "mlp.down.weight")):
                nn.init.zeros_(weight)

    def whiten(self, mean_M: Tensor, covariance_MM: Tensor) -> None:
        """Let the first convolution begin by hearing all differences between spectra alike.

        Most of the variance of the bands is their common loudness, so that fresh weights hear little else. The convolution's
        weights are multiplied by a whitening matrix of the bands (ZCA, Bell & Sejnowski 1997, eq. 7; directions of less than a
        hundredth of the largest variance are not made as loud as the others), its biases take away their mean.

        Args:
            mean_M: of every band.
            covariance_MM: of the bands.
        """
        variance_M, directions_MM = torch.linalg.eigh(covariance_MM.double())
        white_MM = directions_MM * (variance_M + (_FLOOR * variance_M[-1]).clamp(min=1e-6)).rsqrt() @ directions_MM.T
        with torch.no_grad():
            weight_DMK = torch.einsum("dmk,mn->dnk", self.conv_in.weight.double() / 2, white_MM)
            self.conv_in.weight.copy_(weight_DMK)
            assert self.conv_in.bias is not None
            self.conv_in.bias.copy_(-torch.einsum("dmk,m->d", weight_DMK, mean_M.double()))

"""The encoder of sound: a spectrogram in, what a decoder attends to out (Radford et al. 2022, section 2.2)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wenloom.core.errors import InputError
from wenloom.model.config import ModelConfig
from wenloom.model.position import SinusoidalPositions
from wenloom.model.stack import Stack

_LEAST_VARIANCE = 0.01
"""Part of the largest variance below which a direction of the spectrum is not made wider: it is noise."""
_AROUND, _NEARNESS = 6.0, 1.5
"""Places, of 20 ms, at which fresh heads look; and how much weights count that make them look there."""


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
        """Fresh weights as in `Stack.initialise`; of convolutions by the width of what they read, positions as sines, heads that
        look at neighbours.

        What is heard must be louder than it is by the first rule, else a small model learns at which places words mostly are, and CTC does
        not leave its first plateau: so convolutions are drawn twice as wide as keeps the variance.
        """
        super().initialise(generator)
        for conv in (self.conv_in, self.conv_half):
            nn.init.normal_(conv.weight, 0.0, 2 * (conv.in_channels * conv.kernel_size[0]) ** -0.5, generator=generator)
        if isinstance(self.positions, nn.Embedding):
            waves = SinusoidalPositions(self.config.context_length, self.config.d_model, of_fairseq=True)
            with torch.no_grad():
                self.positions.weight.copy_(waves(torch.arange(self.config.context_length)))
            for block in self.layers:
                self._look_around(block.attention.query.weight, block.attention.key.weight)

    @torch.no_grad()
    def _look_around(self, query_HD: Tensor, key_HD: Tensor) -> None:
        """Let every head begin by looking at places near its own, the first `_AROUND` before it, the last as many behind.

        A word is told by a third of a second, which a convolution of 50 ms does not see; with weights drawn at random heads see all places
        alike, and to find the near ones from little speech takes most of a training. Of the sines of a place p, a head
        reads the pairs (sin wp, cos wp) of some frequencies w; with queries turned by w times a distance d, query and key give
        sum of cos w(p + d - p'), which is largest at p' = p + d.
        """
        n_heads, d_head = self.config.n_heads, self.config.d_head
        half = self.config.d_model // 2
        count = min(d_head // 2, half - 1)
        frequencies = 10_000 ** (-torch.arange(1, count + 1) / max(1, half - 1))
        sines, cosines = torch.arange(1, count + 1), half + torch.arange(1, count + 1)
        even, odd = torch.arange(0, 2 * count, 2), torch.arange(1, 2 * count, 2)
        for head, distance in enumerate(torch.linspace(-_AROUND, _AROUND, n_heads).tolist()):
            query, key = (weight[head * d_head : (head + 1) * d_head] for weight in (query_HD, key_HD))
            turned_cos, turned_sin = (frequencies * distance).cos(), (frequencies * distance).sin()
            key[even, sines] += _NEARNESS
            key[odd, cosines] += _NEARNESS
            query[even, sines] += _NEARNESS * turned_cos
            query[even, cosines] += _NEARNESS * turned_sin
            query[odd, cosines] += _NEARNESS * turned_cos
            query[odd, sines] -= _NEARNESS * turned_sin

    @torch.no_grad()
    def hear_differences(self, frames_FM: Tensor) -> None:
        """Make the fresh first convolution one of spectra without their mean, all directions about as wide.

        Bands rise and fall together: 85 % of the variance of speech is its loudness, which fresh weights therefore report, and the
        shape of the spectrum, which tells sounds apart, drowns. With mean m and covariance C = U diag(l) Uᵀ of the bands, weights W become
        W U diag(l + 0.01 max l)^-1/2 Uᵀ, and biases what takes m away (whitening by zero-phase components, Bell and Sejnowski 1997).

        Args:
            frames_FM: spectra of what will be learned.
        """
        mean_M = frames_FM.mean(0)
        variances_M, directions_MM = torch.linalg.eigh(torch.cov(frames_FM.T).double())
        widths_M = (variances_M + _LEAST_VARIANCE * variances_M.max().clamp(min=1e-6)).rsqrt()
        whitening_MM = ((directions_MM * widths_M) @ directions_MM.T).to(self.conv_in.weight.dtype)
        self.conv_in.weight.copy_(0.5 * torch.einsum("dmk,mn->dnk", self.conv_in.weight, whitening_MM))
        self.conv_in.bias.copy_(-torch.einsum("dmk,m->d", self.conv_in.weight, mean_M))

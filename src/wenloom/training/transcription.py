"""What is minimised where a model learns to write down what it hears: attention, and beside it CTC."""

import torch
from torch import Tensor
from torch.nn import functional

from wenloom.model.encoder_decoder import EncoderDecoder
from wenloom.training.cross_entropy import IGNORED, cross_entropy
from wenloom.training.ctc import PRIOR, levelled_ctc
from wenloom.training.objectives import LossSum, Objective, counted


class TranscriptionObjective(Objective):
    """Tokens of a transcript, given the sound and the tokens before them; from nothing, CTC holds sound and text together.

    (1 - w) of the loss is -log P of every token by the decoder, w is CTC's (Graves et al. 2006, eq. 8, see `levelled_ctc`) from the encoder's
    stream (hybrid CTC and attention, Kim et al. 2017, eq. 9). CTC's output matrix is the token embedding, its blank a token
    that no text holds. Its priors fade over the second half of a run, as far as the texts are found by then: spread paths find the words,
    and later hear one twice; without priors, what finds no words yet ends in blanks alone. A model that is measured has none.

    Args:
        smoothing: see `EncoderDecoderObjective`.
        ctc: w; 0 for none.
        blank: CTC's blank.
        end: the token that closes a transcript, which CTC has no use for.
        short: read spectrograms that are as long as the longest of a batch while training, not as the model hears at once; of `_WHOLE`
            batches one is read as in a transcription.
    """

    def __init__(
        self, model: EncoderDecoder, smoothing: float, ctc: float, blank: int, end: int, short: bool = False
    ):  # fmt: skip
        super().__init__(model)
        self.short = short
        self.smoothing, self.ctc, self.blank, self.end = smoothing, ctc, blank, end

    def forward(
        self,
        inputs_BT: Tensor,
        targets_BT: Tensor,
        frames_BFM: Tensor,
        length_B: Tensor,
        silence_B: Tensor,
        dropout_keys_B: Tensor | None = None,
    ) -> LossSum:
        """
        Args:
            inputs_BT: opening and text.
            targets_BT: the same one place on; `IGNORED` within the opening.
            frames_BFM: spectrograms, filled up to the longest of the batch.
            length_B: how many frames each has.
            silence_B: what silence is in each.
        """
        model = self.model
        assert isinstance(model, EncoderDecoder)
        n_frames = 2 * model.encoder.config.context_length
        if model.training and self.short and (dropout_keys_B is None or int(dropout_keys_B[0]) % _WHOLE):
            n_frames = min(n_frames, frames_BFM.shape[1] + frames_BFM.shape[1] % 2)
        features_BMF = _filled(frames_BFM, length_B, silence_B, n_frames)
        encoded_BSD = model.encoder.hidden(features_BMF, dropout_keys_B=dropout_keys_B)
        encoder_kv = model.decoder.project_source(encoded_BSD)
        keys_B = None if dropout_keys_B is None else dropout_keys_B + 0x5BD1E995  # others than the encoder's
        hidden_BTD = model.decoder.hidden(inputs_BT, dropout_keys_B=keys_B, encoder_kv=encoder_kv)
        decoder, smoothing = model.decoder, self.smoothing if model.training else 0.0
        nats = cross_entropy(decoder.transformed(hidden_BTD.flatten(0, 1)), decoder.output_weight, targets_BT.flatten(),
                             decoder.output_bias, smoothing)  # fmt: skip
        found = counted(nats, targets_BT)
        if not self.ctc:
            return found
        beside = self._ctc(encoded_BSD, targets_BT, length_B)
        return LossSum((1 - self.ctc) * found.total + self.ctc * beside, found.weight, {"ctc": beside.detach()})

    def _ctc(self, encoded_BSD: Tensor, targets_BT: Tensor, length_B: Tensor) -> Tensor:
        """CTC of the texts; those too long for their sound count nothing."""
        model = self.model
        assert isinstance(model, EncoderDecoder)
        is_text_BT = (targets_BT != IGNORED) & (targets_BT != self.end)
        logits_BSV = functional.linear(encoded_BSD, model.decoder.output_weight.to(encoded_BSD.dtype))
        places_B = ((length_B + 1) // 2).clamp(max=encoded_BSD.shape[1])
        with torch.autocast(encoded_BSD.device.type, enabled=False):
            heard = logits_BSV.float(), targets_BT[is_text_BT], places_B, is_text_BT.sum(1), self.blank
            return levelled_ctc(*heard, prior=self._prior(heard) if model.training else 0.0)

    def _prior(self, heard: tuple[Tensor, Tensor, Tensor, Tensor, int]) -> float:
        """What the priors count at this moment of the run, for what was heard of some rows."""
        if self.done <= 0.5:
            return PRIOR
        with torch.no_grad():
            nats = float(levelled_ctc(*heard)) / max(1, len(heard[1]))
        return PRIOR * min(1.0, max(2 * (1 - self.done), nats - _FOUND))


_WHOLE = 64
"""Of so many batches one ends in all the silence that a transcription has; the others are read in a third of the time."""
_FOUND = 2.0
"""Nats of CTC a token, with all of the priors, below which a text counts as found."""


def _filled(frames_BFM: Tensor, length_B: Tensor, silence_B: Tensor, n_frames: int) -> Tensor:
    """Spectrograms of so many frames, silent behind their sound; shape (B, bands, frames)."""
    frames_BFM = functional.pad(frames_BFM, (0, 0, 0, n_frames - frames_BFM.shape[1]))
    is_sound_BF1 = (torch.arange(n_frames, device=length_B.device) < length_B[:, None])[..., None]
    return torch.where(is_sound_BF1, frames_BFM, silence_B[:, None, None].to(frames_BFM.dtype)).transpose(1, 2)

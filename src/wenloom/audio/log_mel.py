"""The log-mel spectrogram that Whisper hears (Radford et al. 2022, section 2.2), exactly as its authors compute it.

Of samples at 16 kHz: |STFT|² with a Hann window of 400 samples every 160; triangles on the mel scale of Slaney, each of
area 1 (80 bands, 128 in large-v3); log10 of at least 1e-10; nothing lower than 8 below the loudest; then (x + 4) / 4. The
loudest is that of the whole recording, so a window of it is not the same as the window heard alone.
"""

import functools
import math

import numpy as np
import torch
from torch import Tensor

from wenloom.audio.reading import RATE

N_FFT, HOP = 400, 160
FRAMES_PER_SECOND = RATE // HOP
WINDOW_SECONDS = 30
WINDOW_FRAMES = WINDOW_SECONDS * FRAMES_PER_SECOND
_BLOCK = 60 * FRAMES_PER_SECOND
"""Frames that are computed at a time."""


@functools.cache
def mel_filters(bands: int) -> Tensor:
    """The triangles, float32 of shape (bands, N_FFT / 2 + 1).

    Slaney's scale: linear up to 1,000 Hz (15 mels), then 27 mels for every factor of 6.4.
    """
    top = _mel(RATE / 2)
    edges = np.array([_hertz(top * number / (bands + 1)) for number in range(bands + 2)])
    frequencies = np.arange(N_FFT // 2 + 1) * (RATE / N_FFT)
    rising = (frequencies - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - frequencies) / (edges[2:] - edges[1:-1])[:, None]
    area = 2 / (edges[2:] - edges[:-2])
    return torch.from_numpy(np.maximum(0, np.minimum(rising, falling)) * area[:, None]).float()


def _mel(hertz: float) -> float:
    return hertz * 3 / 200 if hertz < 1000 else 15 + math.log(hertz / 1000) * 27 / math.log(6.4)


def _hertz(mel: float) -> float:
    return mel * 200 / 3 if mel < 15 else 1000 * math.exp((mel - 15) * math.log(6.4) / 27)


def hertz_of(band: int, bands: int) -> float:
    """The frequency at which a triangle is highest."""
    return _hertz(_mel(RATE / 2) * (band + 1) / (bands + 1))


def band_of(hertz: float, bands: int) -> float:
    """The band of a frequency, with the part of the way to the next."""
    return _mel(hertz) * (bands + 1) / _mel(RATE / 2) - 1


class LogMel:
    """The spectrogram of a recording behind which there is silence.

    Args:
        samples: float32 at 16 kHz, shape (samples,).
        bands: how many the model hears.
    """

    def __init__(self, samples: np.ndarray, bands: int):
        self.samples, self.bands = samples, bands
        self.n_frames = len(samples) // HOP
        """Frames of the recording."""

    @functools.cached_property
    def loudest(self) -> float:
        """The largest of its logarithms."""
        last = self.n_frames + N_FFT // HOP + 1
        parts = (self._logarithms(start, min(start + _BLOCK, last)) for start in range(0, last, _BLOCK))
        return max(float(part.max()) for part in parts)

    def window(self, first: int = 0, count: int = WINDOW_FRAMES) -> Tensor:
        """Some frames, shape (bands, count).

        Args:
            first: the first of them, from 0; those beyond the recording are silent.
        """
        return (self._logarithms(first, first + count).clamp(min=self.loudest - 8) + 4) / 4

    def _logarithms(self, first: int, end: int) -> Tensor:
        power = torch.stft(self._stretch(first, end), N_FFT, HOP, window=torch.hann_window(N_FFT), center=False,
                           return_complex=True).abs().square()  # fmt: skip
        return (mel_filters(self.bands) @ power).clamp(min=1e-10).log10()

    def _stretch(self, first: int, end: int) -> Tensor:
        """The samples of some frames, of which each is centred at its own; mirrored before the first sample."""
        start, stop = first * HOP - N_FFT // 2, (end - 1) * HOP + N_FFT // 2
        part = torch.zeros(stop - start)
        low, high = max(0, start), min(len(self.samples), stop)
        if low < high:
            part[low - start : high - start] = torch.from_numpy(np.array(self.samples[low:high]))
        if start < 0:
            mirrored = np.zeros(-start + 1, np.float32)
            heard = self.samples[: -start + 1]
            mirrored[: len(heard)] = heard
            part[:-start] = torch.from_numpy(mirrored[:0:-1].copy())
        return part


def log_mel(samples: np.ndarray, bands: int) -> Tensor:
    """All frames of a recording, shape (bands, frames); see `LogMel`."""
    made = LogMel(samples, bands)
    return made.window(0, max(1, made.n_frames))

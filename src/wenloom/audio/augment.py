"""Small changes to what a model hears, new ones each time: speed, voice, microphone, and bands and moments that are hidden.

SpecAugment (Park et al. 2019, section 2) with masks that grow with the recording; speed by stretching the spectrogram, as in
speed perturbation (Ko et al. 2015) but without a change of pitch; other voices by stretching the frequencies (vocal tract length
perturbation, Jaitly and Hinton 2013), in other rooms: microphones that favour other bands, and noise.
"""

import functools

import numpy as np

from wenloom.audio.log_mel import band_of, hertz_of

_BAND_PART, _BAND_MASKS = 0.15, 2
_TIME_PART, _TIME_MASKS = 0.08, 2
_LONGEST_MASK = 12
"""Frames: a mask of 120 ms hides a part of a word; one of half a second hides a word that is still to be written."""
_SPEEDS = (0.9, 1.1)
_VOICES = 0.15
"""Frequencies are multiplied by up to e^0.15 = 1.16, or divided: as far as a child's voice is from a woman's, hers from a man's."""
_TILTS, _TILT = 4, 0.05
"""Cosines over the bands of which a microphone's favour is made, and the deviation of each: 2 dB in the numbers of the spectrogram."""
_NOISE = 1.0
"""How far noise may rise above the lowest number of a spectrogram: 40 of its 80 dB."""
RANGE = 2.0
"""Between the loudest number of a spectrogram and the lowest, see `log_mel`."""
_LOG10 = np.float32(4 * np.log(10))
"""Nats of power in one step of a spectrogram's numbers."""


def augmented(
    frames_TM: np.ndarray, seed: int, speeds: tuple[float, float] = _SPEEDS, longest: int | None = None,
    voices: bool = False,
) -> np.ndarray:  # fmt: skip
    """A spectrogram with another speed and with masks, others for every seed.

    Args:
        frames_TM: shape (frames, bands).
        speeds: between which the speed is drawn; equal ones change none.
        longest: frames that there may be.
        voices: whether voice and room are others, too.
    """
    drawn = np.random.default_rng(seed)
    made = _stretched(frames_TM, drawn.uniform(*speeds), longest)
    if voices:
        made = _elsewhere(_by_another(made, drawn), drawn)
    hidden = float(made.mean())
    for axis, part, count in ((1, _BAND_PART, _BAND_MASKS), (0, _TIME_PART, _TIME_MASKS)):
        size = made.shape[axis]
        for _ in range(count):
            most = max(1, round(part * size))
            width = int(drawn.integers(0, (most if axis else min(most, _LONGEST_MASK)) + 1))
            first = int(drawn.integers(0, size - width + 1))
            if axis:
                made[:, first : first + width] = hidden
            else:
                made[first : first + width] = hidden
    return made


def _stretched(frames_TM: np.ndarray, speed: float, longest: int | None) -> np.ndarray:
    """Frames between which it is interpolated; a copy."""
    length = max(1, round(len(frames_TM) / speed))
    if longest is not None:
        length = min(length, longest)
    places = np.linspace(0, len(frames_TM) - 1, length)
    low = np.floor(places).astype(int)
    high, part = np.minimum(low + 1, len(frames_TM) - 1), (places - low)[:, None].astype(np.float32)
    return (frames_TM[low] * (1 - part) + frames_TM[high] * part).astype(np.float32)


def _by_another(frames_TM: np.ndarray, drawn: np.random.Generator) -> np.ndarray:
    """As another throat would say it: what is heard at a frequency was said at a multiple of it."""
    bands = frames_TM.shape[1]
    factor = np.exp(drawn.uniform(-_VOICES, _VOICES))
    places = np.array([band_of(hertz * factor, bands) for hertz in _hertz_of_bands(bands)]).clip(0, bands - 1)
    low = np.floor(places).astype(int)
    part = (places - low).astype(np.float32)
    return frames_TM[:, low] * (1 - part) + frames_TM[:, np.minimum(low + 1, bands - 1)] * part


@functools.cache
def _hertz_of_bands(bands: int) -> list[float]:
    return [hertz_of(band, bands) for band in range(bands)]


def _elsewhere(frames_TM: np.ndarray, drawn: np.random.Generator) -> np.ndarray:
    """As another microphone would hear it, with noise; powers are added, here divided by the loudest that there can be."""
    places = np.linspace(0, np.pi, frames_TM.shape[1])
    favour = sum(drawn.normal(0, _TILT) * np.cos(number * places) for number in range(1, _TILTS + 1))
    made = frames_TM + np.asarray(favour, np.float32)
    loudest = made.max()
    noise = drawn.uniform(0, _NOISE) - RANGE + 0.1 * drawn.normal(size=made.shape)
    power = np.exp(_LOG10 * (made - loudest)) + np.exp(_LOG10 * noise.astype(np.float32))
    made = loudest + np.log(power) / _LOG10
    return np.maximum(made, made.max() - RANGE)

"""Small changes to what a model hears, new ones each time: speed, and bands and moments that are hidden.

SpecAugment (Park et al. 2019, section 2) with masks that grow with the recording; speed by stretching the spectrogram, as in
speed perturbation (Ko et al. 2015) but without a change of pitch.
"""

import numpy as np

_BAND_PART, _BAND_MASKS = 0.15, 2
_TIME_PART, _TIME_MASKS = 0.08, 2
_SPEEDS = (0.9, 1.1)


def augmented(
    frames_TM: np.ndarray, seed: int, speeds: tuple[float, float] = _SPEEDS, longest: int | None = None
) -> np.ndarray:
    """A spectrogram with another speed and with masks, others for every seed.

    Args:
        frames_TM: shape (frames, bands).
        speeds: between which the speed is drawn; equal ones change none.
        longest: frames that there may be.
    """
    drawn = np.random.default_rng(seed)
    made = _stretched(frames_TM, drawn.uniform(*speeds), longest)
    hidden = float(made.mean())
    for axis, part, count in ((1, _BAND_PART, _BAND_MASKS), (0, _TIME_PART, _TIME_MASKS)):
        size = made.shape[axis]
        for _ in range(count):
            width = int(drawn.integers(0, max(1, round(part * size)) + 1))
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

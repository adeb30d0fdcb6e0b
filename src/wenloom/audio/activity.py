"""Whether anybody speaks: by how far the loud moments of a stretch stand out from its quiet ones."""

import numpy as np

from wenloom.audio.reading import RATE

MOMENT = RATE // 50
"""Samples of a moment, 20 ms."""
_STANDS_OUT = 4.0
"""Times the power of the quiet moments (6 dB). The power of 320 samples of white noise varies by 8 %, its largest of 1,500
moments is 1.3 times the lowest tenth; that of speech rises by a factor of 1,000 from pauses to vowels."""
_SILENT = 1e-9
"""Mean square of what nobody hears: -90 dB, below the noise of 16 bits."""


def active_moments(samples: np.ndarray) -> np.ndarray:
    """Whether each whole moment of a stretch of sound stands out from its background, shape (moments,).

    Args:
        samples: float32 at 16 kHz, shape (samples,).

    Returns:
        False everywhere for silence and for noise or hum that stays the same. Quiet is what the lowest tenth of the moments are.
    """
    whole = len(samples) // MOMENT * MOMENT
    if not whole:
        return np.zeros(0, bool)
    moments = np.asarray(samples[:whole], np.float32).reshape(-1, MOMENT)
    power = (moments - moments.mean(1, keepdims=True)).var(1)
    return power > max(_SILENT, _STANDS_OUT * float(np.quantile(power, 0.1)))


def active_seconds(samples: np.ndarray) -> float:
    """Seconds of a stretch of sound that stand out from its background, see `active_moments`."""
    return float(active_moments(samples).sum()) * MOMENT / RATE

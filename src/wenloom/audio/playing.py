"""Sound in a page, to be played."""

import base64
import io
import wave

import numpy as np


def as_data_url(samples: np.ndarray, rate: int) -> str:
    """A recording of 16 bits and one channel as a data URL.

    Args:
        samples: float32 from -1 to 1, shape (samples,).
        rate: how many a second.
    """
    made = io.BytesIO()
    with wave.open(made, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes())
    return "data:audio/wav;base64," + base64.b64encode(made.getvalue()).decode()

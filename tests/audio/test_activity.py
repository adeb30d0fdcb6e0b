"""Silence, noise and hum are not active; what comes and goes is."""

import numpy as np
import pytest

from wenloom.audio.activity import active_seconds
from wenloom.audio.reading import RATE

from ..hearing import spoken

DRAW = np.random.default_rng(0)
TIME = np.arange(10 * RATE) / RATE


@pytest.mark.parametrize(
    "samples",
    [np.zeros(10 * RATE), DRAW.normal(0, 0.1, 10 * RATE), DRAW.normal(0, 1e-6, 10 * RATE), 0.3 * np.sin(2 * np.pi * 50 * TIME),
     0.3 * np.sin(2 * np.pi * 440 * TIME), np.full(10 * RATE, 0.4), np.zeros(0), np.ones(3)],
)  # fmt: skip
def test_what_stays_the_same_is_silent(samples: np.ndarray):
    assert active_seconds(samples.astype(np.float32)) == 0


def test_what_comes_and_goes_is_heard_in_noise():
    noise = DRAW.normal(0, 0.02, 5 * RATE).astype(np.float32)
    assert active_seconds(spoken(5.0)) > 1
    assert active_seconds(spoken(5.0) + noise) > 0.5

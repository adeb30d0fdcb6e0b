"""The spectrogram equals that of transformers' WhisperFeatureExtractor, whole and window by window."""

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from wenloom.audio.log_mel import HOP, WINDOW_FRAMES, LogMel, log_mel, mel_filters
from wenloom.audio.reading import RATE, read_sound

from ..hearing import spoken

SILENCE = np.zeros(30 * RATE, np.float32)


def theirs(samples: np.ndarray, bands: int) -> np.ndarray:
    """Of the recording with 30 seconds of silence behind it, as Whisper's authors take it."""
    extractor = transformers.WhisperFeatureExtractor(feature_size=bands)
    padded = np.concatenate((samples, SILENCE))
    return extractor(padded, sampling_rate=RATE, truncation=False, padding=False, return_tensors="np").input_features[0]


@pytest.mark.parametrize("bands", [80, 128])
@pytest.mark.parametrize("seconds", [0.001, 0.0126, 0.5, 29.999, 30.0, 61.7])
def test_features_equal_transformers(bands: int, seconds: float):
    samples = spoken(seconds)
    expected = theirs(samples, bands)
    mel = LogMel(samples, bands)
    np.testing.assert_allclose(mel.window(0, expected.shape[1] - 1), expected[:, :-1], atol=1e-5)  # mirrored at its end


def test_windows_are_parts_of_the_whole():
    mel = LogMel(spoken(50.0), 80)
    whole = mel.window(0, 5000)
    torch.testing.assert_close(mel.window(1234, 700), whole[:, 1234:1934])
    torch.testing.assert_close(log_mel(mel.samples, 80), whole)


def test_silence_and_a_single_sample_are_numbers():
    for samples in (np.zeros(1, np.float32), np.ones(1, np.float32), np.zeros(5 * RATE, np.float32)):
        assert torch.isfinite(LogMel(samples, 80).window()).all()


def test_filters_have_area_1():
    areas = mel_filters(80).double().sum(1) * RATE / 400
    assert (areas[40:] - 1).abs().max() < 0.1  # lower ones are narrower than the distance of two frequencies


@pytest.mark.shared_data
@pytest.mark.parametrize("bands", [80, 128])
def test_features_of_every_recording_equal_transformers(shared_data: Path, bands: int):
    kinds = (".wav", ".flac", ".mp3", ".ogg", ".opus", ".raw", ".aiff")
    files = [path for path in sorted((shared_data / "audio").rglob("*")) if path.suffix in kinds]
    assert len(files) > 50
    for path in files:
        samples = read_sound(path).samples
        expected = theirs(samples, bands)
        made = LogMel(samples, bands)
        assert made.n_frames == len(samples) // HOP
        for first in range(0, expected.shape[1] - 1, WINDOW_FRAMES):
            count = min(WINDOW_FRAMES, expected.shape[1] - 1 - first)
            np.testing.assert_allclose(made.window(first, count), expected[:, first : first + count], atol=1e-4)

"""Reading sound: whatever a file holds becomes one channel at 16 kHz, or one sentence."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from wenloom.audio import reading
from wenloom.audio.reading import RATE, read_sound
from wenloom.core.errors import InputError, WenloomError

from ..hearing import spoken


def tone(rate: int, seconds: float = 1.0, hertz: float = 300.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(rate * seconds)) / rate)).astype(np.float32)


@pytest.mark.parametrize("rate", [8000, 11025, 16000, 22050, 44100, 384_000])
@pytest.mark.parametrize("kind", ["WAV", "FLAC", "AIFF"])
def test_a_tone_of_any_rate_is_the_same_tone_at_16_khz(rate: int, kind: str, tmp_path: Path):
    soundfile.write(tmp_path / "x", tone(rate), rate, format=kind)
    read = read_sound(tmp_path / "x")
    assert abs(len(read.samples) - RATE) <= 2 and read.samples.dtype == np.float32 and abs(read.seconds - 1) < 1e-3
    middle = slice(RATE // 4, RATE // 2)
    np.testing.assert_allclose(read.samples[middle], tone(RATE)[middle], atol=2e-3)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW"])
def test_any_depth_is_read(subtype: str, tmp_path: Path):
    soundfile.write(tmp_path / "x.wav", tone(RATE), RATE, subtype=subtype)
    np.testing.assert_allclose(read_sound(tmp_path / "x.wav").samples, tone(RATE), atol=0.02)


@pytest.mark.parametrize("kind", ["OGG", "MP3"])
def test_compressed_sound_is_nearly_the_same(kind: str, tmp_path: Path):
    soundfile.write(tmp_path / "x", spoken(2.0), RATE, format=kind)
    read = read_sound(tmp_path / "x").samples[: 2 * RATE]
    assert np.corrcoef(read, spoken(2.0)[: len(read)])[0, 1] > 0.99


def test_channels_are_averaged(tmp_path: Path):
    channels = np.stack([tone(RATE) * (number / 8) for number in range(8)], 1)
    soundfile.write(tmp_path / "x.wav", channels, RATE, subtype="FLOAT")
    np.testing.assert_allclose(read_sound(tmp_path / "x.wav").samples, channels.mean(1), atol=1e-6)


def test_raw_samples_are_16_bits_at_16_khz(tmp_path: Path):
    (tmp_path / "x.raw").write_bytes((tone(RATE) * 32767).astype("<i2").tobytes())
    np.testing.assert_allclose(read_sound(tmp_path / "x.raw").samples, tone(RATE), atol=1e-4)


def test_bytes_are_read_as_the_file_is(tmp_path: Path):
    soundfile.write(tmp_path / "x.flac", spoken(), RATE)
    path = tmp_path / "x.flac"
    np.testing.assert_array_equal(read_sound(path.read_bytes()).samples, read_sound(path).samples)


def test_a_long_recording_is_mapped_and_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    soundfile.write(tmp_path / "x.wav", spoken(7.3), 8000)
    whole = read_sound(tmp_path / "x.wav").samples
    monkeypatch.setattr(reading, "_IN_MEMORY", 3)
    mapped = read_sound(tmp_path / "x.wav").samples
    assert isinstance(mapped, np.memmap) and not isinstance(whole, np.memmap)
    np.testing.assert_array_equal(mapped, whole)


def test_what_is_no_number_is_silence(tmp_path: Path):
    samples = tone(RATE)
    samples[100:200], samples[300] = np.nan, np.inf
    soundfile.write(tmp_path / "x.wav", samples, RATE, subtype="FLOAT")
    read = read_sound(tmp_path / "x.wav")
    assert not read.samples[100:200].any() and "101 samples are no numbers" in read.remarks[0]
    soundfile.write(tmp_path / "x.wav", np.full(9, np.nan), RATE, subtype="FLOAT")
    with pytest.raises(InputError, match="none of its 9 samples is a number"):
        read_sound(tmp_path / "x.wav")


def test_samples_of_another_scale_are_brought_to_1(tmp_path: Path):
    soundfile.write(tmp_path / "x.wav", tone(RATE) * 32768, RATE, subtype="FLOAT")
    read = read_sound(tmp_path / "x.wav")
    assert abs(np.abs(read.samples).max() - 1) < 1e-6 and "are scaled" in read.remarks[0]


def test_a_file_that_is_cut_short_is_read_as_far_as_it_goes(tmp_path: Path):
    soundfile.write(tmp_path / "x.wav", tone(RATE), RATE)
    data = (tmp_path / "x.wav").read_bytes()
    (tmp_path / "x.wav").write_bytes(data[: len(data) // 4])
    read = read_sound(tmp_path / "x.wav")
    assert 0.2 < read.seconds < 0.3 and "cut short: 25 % of what its header promises" in read.remarks[0]


def test_what_is_no_sound_is_one_sentence(tmp_path: Path):
    (tmp_path / "text.wav").write_text("The lamp was lit.\n" * 50)
    soundfile.write(tmp_path / "none.wav", np.zeros(0), RATE)
    soundfile.write(tmp_path / "slow.wav", tone(RATE), 3)
    soundfile.write(tmp_path / "x.flac", spoken(9.0), RATE)
    (tmp_path / "nothing.wav").touch()
    (tmp_path / "half.flac").write_bytes((tmp_path / "x.flac").read_bytes()[:20_000])
    for name, words in {
        "text.wav": "is no sound that can be read",
        "none.wav": "holds no sound",
        "nothing.wav": "is empty",
        "slow.wav": "3 samples a second",
        "half.flac": "is damaged or cut short",
        "absent.wav": "no such file",
        ".": "is a folder",
    }.items():
        with pytest.raises(InputError, match=words) as error:
            read_sound(tmp_path / name)
        assert str(tmp_path / name) in str(error.value) and "\n" not in str(error.value)


@given(st.data())
def test_damage_is_an_error_or_sound(data: st.DataObject):
    import io

    buffer = io.BytesIO()
    soundfile.write(buffer, spoken(0.3), RATE, format=data.draw(st.sampled_from(["WAV", "FLAC", "OGG", "AIFF"])))
    raw = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, min(200, len(raw) - 1)))] = data.draw(st.integers(0, 255))
    raw = raw[: data.draw(st.integers(0, len(raw)))]
    try:
        read = read_sound(bytes(raw), "it")
    except WenloomError as error:
        assert str(error).startswith("it: ")
    else:
        assert len(read.samples) and np.isfinite(read.samples).all()


def test_without_the_packages_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import sys

    soundfile.write(tmp_path / "x.wav", tone(RATE), RATE)
    monkeypatch.setitem(sys.modules, "soxr", None)
    with pytest.raises(InputError, match=r"pip install 'wenloom\[audio\]'"):
        read_sound(tmp_path / "x.wav")

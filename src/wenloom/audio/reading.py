"""Reading sound: any file that libsndfile knows, as one channel of float32 at the rate that a model wants.

A file is decoded, mixed and resampled in blocks. What is longer than `_IN_MEMORY` seconds goes into a temporary file that
is mapped, so that ten hours take no more memory than ten minutes.
"""

import io
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import numpy as np

from wenloom.core.errors import InputError, printable
from wenloom.core.foreign import regular_file

if TYPE_CHECKING:
    import soundfile

RATE = 16_000
"""Samples a second of what the models here hear."""
_BLOCK_SECONDS = 2
_IN_MEMORY = 1800
"""Seconds of sound that are kept in memory (115 MB); more is mapped from a temporary file."""
_RATES = (2_000, 1_000_000)
"""Sampling rates in Hz that are believed; others stand in a damaged header."""
_LOUDEST = 8.0
"""Floating-point sound is within 1; from here on its numbers are taken for those of another scale, as of 16 bits."""
_RAW = (".raw", ".pcm")
"""Names of samples without a header: 16 kHz, 16 bits, little-endian, one channel, as speech corpora keep them."""
KINDS = "wav, flac, ogg, opus, mp3, aiff, au, caf; raw and pcm as 16 kHz, 16 bits, one channel"
_LACKS = "reading sound needs two more packages: pip install 'wenloom[audio]'"


class Sound(NamedTuple):
    """A recording."""

    samples: np.ndarray
    """float32, shape (samples,), one channel."""
    rate: int = RATE
    """Samples a second."""
    remarks: tuple[str, ...] = ()
    """What was mended while reading, in whole sentences."""

    @property
    def seconds(self) -> float:
        """How long it is."""
        return len(self.samples) / self.rate


def read_sound(source: Path | bytes, name: str = "", rate: int = RATE) -> Sound:
    """A recording from a file, or from the bytes of one.

    Channels are averaged; the rate is changed by soxr at its high quality. Samples that are no numbers become silence, and
    numbers far beyond 1 are scaled to it; a remark says so.

    Args:
        name: what messages call it; the path where empty.
        rate: samples a second of the answer.

    Raises:
        InputError: there is no such file, it is no sound, holds none or is damaged; or soundfile or soxr is missing.
    """
    name = name or (str(source) if isinstance(source, Path) else "the sound")
    if not (regular_file(source).st_size if isinstance(source, Path) else len(source)):
        raise InputError(f"{name}: is empty.")
    with _opened(source, name) as file:
        if not _RATES[0] <= file.samplerate <= _RATES[1]:
            raise InputError(
                f"{name}: says that it has {file.samplerate:,} samples a second, which no recording has: {_RATES[0]:,} to "
                f"{_RATES[1]:,} are read. Its header is damaged, or it is of another kind."
            )
        remarks = _cut_short(file, name)
        mended = _Mended()
        samples = _kept(mended.passed(_resampled(file, name, rate)))
    if not len(samples):
        raise InputError(f"{name}: holds no sound (0 samples).")
    if mended.not_numbers == mended.all:
        raise InputError(f"{name}: none of its {mended.all:,} samples is a number.")
    if mended.not_numbers:
        remarks += (f"{name}: {mended.not_numbers:,} samples are no numbers and taken for silence.",)
    if mended.loudest > _LOUDEST:
        remarks += (f"{name}: its samples go up to {mended.loudest:.3g} where 1 is the most; they are scaled to that.",)
        samples = (samples / np.float32(mended.loudest)).astype(np.float32)
    return Sound(samples, rate, remarks)


def _opened(source: Path | bytes, name: str) -> "soundfile.SoundFile":
    try:
        import soundfile
        import soxr  # noqa: F401
    except (ImportError, OSError):  # OSError: the package is there without the library
        raise InputError(f"{name}: {_LACKS}.") from None
    raw: dict[str, Any] = {}
    if isinstance(source, Path) and source.suffix.lower() in _RAW:
        raw = {"samplerate": RATE, "channels": 1, "subtype": "PCM_16", "format": "RAW", "endian": "LITTLE"}
    try:
        return soundfile.SoundFile(str(source) if isinstance(source, Path) else _Bytes(source), **raw)
    except (soundfile.LibsndfileError, RuntimeError, TypeError) as error:
        reason = printable(getattr(error, "error_string", str(error)), 120).rstrip(".")
        raise InputError(
            f"{name}: is no sound that can be read ({reason}). Read are {KINDS}; others convert first, as by "
            "`ffmpeg -i FILE sound.flac`."
        ) from None


class _Bytes(io.BytesIO):
    """Bytes of a file in which a damaged header may ask for a place before the first."""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """As `BytesIO.seek`, at the beginning where it would be before that."""
        return super().seek(max(0, offset) if whence == 0 else offset, whence)


_DATA = re.compile(r"^\s*data\s*: (\d+) \(should be (\d+)\)", re.MULTILINE)
"""What libsndfile notes of a header that promises other data than there are."""
_UNKNOWN = 0x7FFF_0000
"""Lengths from here on stand in the headers of recordings that were written into a pipe."""


def _cut_short(file: "soundfile.SoundFile", name: str) -> tuple[str, ...]:
    """A remark where a header promises more than there is."""
    found = _DATA.search(file.extra_info)
    if found is None or not int(found[2]) < int(found[1]) < _UNKNOWN:
        return ()
    share = int(found[2]) / int(found[1])
    return (f"{name}: is cut short: {100 * share:.0f} % of what its header promises is there, and is read.",)


def _resampled(file: "soundfile.SoundFile", name: str, rate: int) -> Iterator[np.ndarray]:
    """Blocks of one channel at the rate asked for."""
    import soxr

    stream = None
    if file.samplerate != rate:
        stream = soxr.ResampleStream(file.samplerate, rate, 1, dtype="float32", quality="HQ")
    read = 0
    for block in _blocks(file, name):
        read += len(block)
        yield block if stream is None else stream.resample_chunk(block)
    if stream is not None and read:
        yield stream.resample_chunk(np.zeros(0, np.float32), last=True)


def _blocks(file: "soundfile.SoundFile", name: str) -> Iterator[np.ndarray]:
    import soundfile

    seconds, length = 0.0, file.samplerate * _BLOCK_SECONDS
    while True:
        try:
            block = file.read(length, dtype="float32", always_2d=True)
        except (soundfile.LibsndfileError, RuntimeError) as error:
            reason = printable(getattr(error, "error_string", str(error)), 120).rstrip(".")
            raise InputError(f"{name}: is damaged or cut short after second {seconds:,.0f} ({reason}).") from None
        if not len(block):
            return
        seconds += len(block) / file.samplerate
        yield block[:, 0] if block.shape[1] == 1 else block.mean(1, dtype=np.float32)


class _Mended:
    """Takes what is no number out of blocks that pass, and notes the loudest sample."""

    def __init__(self) -> None:
        self.all = self.not_numbers = 0
        self.loudest = 0.0

    def passed(self, blocks: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
        """The blocks, mended."""
        for block in blocks:
            is_number = np.isfinite(block)
            self.all += len(block)
            if wrong := len(block) - int(is_number.sum()):
                self.not_numbers += wrong
                block = np.where(is_number, block, np.float32(0))
            if len(block):
                self.loudest = max(self.loudest, float(np.abs(block).max()))
            yield block


def _kept(blocks: Iterator[np.ndarray]) -> np.ndarray:
    """All blocks as one array, mapped from a temporary file where it is long."""
    kept: list[np.ndarray] = []
    file: IO[bytes] | None = None
    count = 0
    for block in blocks:
        count += len(block)
        kept.append(np.ascontiguousarray(block, np.float32))
        if count > RATE * _IN_MEMORY:
            file = file or tempfile.TemporaryFile()  # noqa: SIM115 - the map keeps it
            for each in kept:
                file.write(each.tobytes())
            kept.clear()
    if file is None:
        return np.concatenate(kept) if kept else np.zeros(0, np.float32)
    file.flush()
    return np.memmap(file, np.float32, "r+", shape=(count,))

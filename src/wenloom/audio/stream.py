"""Sound that arrives while it is heard: samples without a header, out of a pipe."""

from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from wenloom.audio.reading import RATE

_HEADS = (b"RIFF", b"RIFX", b"RF64", b"fLaC", b"OggS", b"ID3", b"FORM", b"caff", b".snd", b"riff", b"NIST",
          *(bytes((0xFF, second)) for second in (0xFB, 0xFA, 0xF3, 0xF2, 0xE3, 0xE2)))  # fmt: skip
"""How files begin that say what they are; the last six are frames of mp3."""
HEAD_BYTES = 512
"""By which `is_raw` decides."""


def is_raw(head: bytes) -> bool:
    """Whether a stream that begins like this holds samples and nothing else: it names no kind of file, and is no text."""
    if len(head) < 2 or head.startswith(_HEADS):
        return False
    is_text = all(byte >= 32 or byte in b"\t\r\n\f" for byte in head)
    try:
        head[:-3].decode()
    except UnicodeDecodeError:
        is_text = False
    return not is_text


def arriving(pipe: BinaryIO, head: bytes = b"", seconds: float = 0.5) -> Iterator[np.ndarray]:
    """What arrives, as float32 at 16 kHz, piece by piece as soon as it is there.

    Args:
        pipe: samples of 16 bits, little-endian, one channel, 16 kHz.
        head: bytes that were read from it already.
        seconds: of a piece, about.
    """
    size, left = 2 * round(seconds * RATE), head
    read = getattr(pipe, "read1", pipe.read)
    while True:
        more = read(size)
        left += more
        whole = len(left) if not more else len(left) // size * size
        if whole // 2:
            yield np.frombuffer(left[: whole // 2 * 2], "<i2").astype(np.float32) / 32768
            left = left[whole:]
        if not more:
            return

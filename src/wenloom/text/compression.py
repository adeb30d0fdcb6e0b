"""Compressed files: gz and zst."""

import gzip
import io
import zlib
from pathlib import Path
from typing import IO, Any

from wenloom.core.errors import InputError

COMPRESSIONS = (".gz", ".zst")
"""Endings that are taken off to see what is inside."""


def damaged_archive() -> tuple[type[Exception], ...]:
    """The errors that reading a damaged or cut-short file raises."""
    try:
        from zstandard import ZstdError

        return EOFError, gzip.BadGzipFile, zlib.error, ZstdError
    except ImportError:
        return EOFError, gzip.BadGzipFile, zlib.error


class _Zstd(io.RawIOBase):
    """Bytes of a zstd file, frame after frame.

    The library's own reader ends silently where a file is cut short; this one says so.
    """

    def __init__(self, file: Path):
        self._file, self._frame, self._ready = file.open("rb"), None, b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        from zstandard import ZstdDecompressor

        while not self._ready:
            data = self._file.read(1 << 16)
            if not data:
                if self._frame is not None:
                    raise EOFError("the last frame is not complete")
                return 0
            while data:
                self._frame = self._frame or ZstdDecompressor().decompressobj()
                self._ready += self._frame.decompress(data)
                data = self._frame.unused_data if self._frame.eof else b""
                if self._frame.eof:
                    self._frame = None
        count = min(len(buffer), len(self._ready))
        buffer[:count], self._ready = self._ready[:count], self._ready[count:]
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


def open_decompressed(file: Path) -> IO[bytes]:
    """Open a file for reading, decompressed according to its ending.

    Raises:
        InputError: a .zst file, and the package that reads it is not installed.
    """
    if file.suffix.lower() == ".gz":
        return gzip.open(file, "rb")  # pyright: ignore[reportReturnType]
    if file.suffix.lower() == ".zst":
        try:
            import zstandard  # noqa: F401
        except ImportError:
            raise InputError(f"{file}: reading .zst needs one more package: pip install 'wenloom[data]'.") from None
        return io.BufferedReader(_Zstd(file))  # pyright: ignore[reportReturnType]
    return file.open("rb")

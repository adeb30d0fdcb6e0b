"""Files as bytes, those that end in gz or zst unpacked; a little at a time, however much they unpack to."""

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from wenloom.core.errors import InputError
from wenloom.core.foreign import reading, regular_file

COMPRESSIONS = (".gz", ".zst")
"""Endings that are taken off to see what is inside."""
_ZSTD_INPUT = 1024
"""Bytes unpacked at once: a block of 4 bytes may stand for 128 KiB, so that these are 32 MiB at most."""
_ZSTD_WINDOW = 2**27
"""Bytes that a frame may ask to look back over, as much as the zstd program allows unless told otherwise."""


@contextmanager
def unpacking(file: Path) -> Iterator[None]:
    """Whatever the block raises about a file that it reads becomes a sentence that names it.

    Raises:
        InputError: the file is damaged, cut short or cannot be read.
    """
    with reading(file):
        try:
            yield
        except _damaged() as error:
            raise InputError(f"{file}: the compressed file is damaged or cut short ({error}).") from None


def _damaged() -> tuple[type[Exception], ...]:
    """The errors that reading a damaged or cut-short file raises."""
    try:
        from zstandard import ZstdError

        return EOFError, gzip.BadGzipFile, zlib.error, ZstdError
    except ImportError:
        return EOFError, gzip.BadGzipFile, zlib.error


class _AsLongAsItWas(io.FileIO):
    """A file's first `size` bytes: one that grows while it is read would not come to an end."""

    def __init__(self, file: Path, size: int):
        super().__init__(file, "rb")
        self._left = size

    def readinto(self, buffer: Any) -> int:
        count = super().readinto(memoryview(buffer)[: max(0, self._left)]) or 0
        self._left -= count
        return count

    def seekable(self) -> bool:
        return False


class _Zstd(io.RawIOBase):
    """Bytes of a zstd file, frame after frame.

    The library's own reader ends silently where a file is cut short; this one says so.
    """

    def __init__(self, file: IO[bytes]):
        self._file, self._frame, self._ready = file, None, memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        from zstandard import ZstdDecompressor

        while not self._ready:
            data = self._file.read(_ZSTD_INPUT)
            if not data:
                if self._frame is not None:
                    raise EOFError("the last frame is not complete")
                return 0
            parts: list[bytes] = []
            while data:
                self._frame = self._frame or ZstdDecompressor(max_window_size=_ZSTD_WINDOW).decompressobj()
                parts.append(self._frame.decompress(data))
                data = self._frame.unused_data if self._frame.eof else b""
                if self._frame.eof:
                    self._frame = None
            self._ready = memoryview(b"".join(parts))
        count = min(len(buffer), len(self._ready))
        buffer[:count], self._ready = self._ready[:count], self._ready[count:]
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


class _Gzip(gzip.GzipFile):
    """Closes the file below it too."""

    def __init__(self, below: IO[bytes]):
        super().__init__(fileobj=below)
        self._below = below

    def close(self) -> None:
        super().close()
        self._below.close()


def open_decompressed(file: Path) -> IO[bytes]:
    """Open a file for reading, decompressed according to its ending, as far as it reaches now.

    Raises:
        InputError: it is not a file (but a folder, pipe or device), or a .zst file and the package that reads it is not
            installed.
        OSError: it may not be read.
    """
    size = regular_file(file).st_size
    ending = file.suffix.lower()
    if ending == ".zst":
        try:
            import zstandard  # noqa: F401
        except ImportError:
            raise InputError(f"{file}: reading .zst needs one more package: pip install 'wenloom[data]'.") from None
    stream = io.BufferedReader(_AsLongAsItWas(file, size), 1 << 16)
    if ending == ".gz":
        return _Gzip(stream)  # pyright: ignore[reportReturnType]
    return io.BufferedReader(_Zstd(stream), 1 << 16) if ending == ".zst" else stream  # pyright: ignore

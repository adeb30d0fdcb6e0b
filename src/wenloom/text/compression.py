"""Files as bytes, those that end in gz, zst, bz2 or xz unpacked; a little at a time, however much they unpack to."""

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from wenloom.core.errors import InputError
from wenloom.core.foreign import reading, regular_file

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

        return *_DAMAGED, ZstdError
    except ImportError:
        return _DAMAGED


_DAMAGED = (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError)
SUSPICIOUS, RATIO = 64 * 2**20, 200
"""Bytes from which what unpacks to more than 200 times its size is a bomb: text of this length packs 3 to 30 times."""
_XZ_MEMORY = 2**27
"""Bytes that an xz stream may ask for; `xz -9` makes streams that take 65 MiB to unpack."""


class _AsLongAsItWas(io.FileIO):
    """A file's first `size` bytes: one that grows while it is read would not come to an end."""

    def __init__(self, file: Path, size: int):
        super().__init__(file, "rb")
        self._left, self.taken = size, 0

    def readinto(self, buffer: Any) -> int:
        count = super().readinto(memoryview(buffer)[: max(0, self._left)]) or 0
        self._left -= count
        self.taken += count
        return count

    def seekable(self) -> bool:
        return False


class _Unpacked(io.RawIOBase):
    """What a compressed file unpacks to, as long as that is no bomb.

    Raises:
        InputError: it is one.
    """

    def __init__(self, stream: Any, packed: _AsLongAsItWas, file: Path):
        self._stream, self._packed, self._file, self._size = stream, packed, file, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = self._stream.readinto(buffer)
        self._size += count
        if self._size > SUSPICIOUS and self._size > RATIO * self._packed.taken:
            raise InputError(f"{self._file}: unpacks to more than {RATIO} times what was read of it, {self._size:,} bytes so far; text does "
                             "not. Unpack it first if it is no bomb.")  # fmt: skip
        return count

    def close(self) -> None:
        self._stream.close()
        super().close()


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


class _Streams(io.RawIOBase):
    """Bytes of bz2 or xz streams, one after the other, 64 KiB at a time."""

    def __init__(self, file: IO[bytes], new: Callable[[], Any]):
        self._file, self._new, self._stream, self._waiting = file, new, new(), b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while True:
            if self._stream.eof:
                self._waiting = self._stream.unused_data or self._file.read(1 << 16)
                if not self._waiting.strip(b"\0"):  # padding
                    return 0
                self._stream = self._new()
            elif self._stream.needs_input and not self._waiting:
                self._waiting = self._file.read(1 << 16)
                if not self._waiting:
                    raise EOFError("the last stream is not complete")
            try:
                data = self._stream.decompress(self._waiting, len(buffer))
            except OSError as error:  # of bz2
                raise EOFError(str(error).lower()) from None
            self._waiting = b""
            if data:
                buffer[: len(data)] = data
                return len(data)

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
    packed = _AsLongAsItWas(file, size)
    stream = io.BufferedReader(packed, 1 << 16)
    if ending in (".gz", ".tgz"):
        unpacked = _Gzip(stream)
    elif ending == ".bz2":
        unpacked = _Streams(stream, bz2.BZ2Decompressor)
    elif ending == ".xz":
        unpacked = _Streams(stream, lambda: lzma.LZMADecompressor(memlimit=_XZ_MEMORY))
    elif ending == ".zst":
        unpacked = _Zstd(stream)
    else:
        return stream
    return io.BufferedReader(_Unpacked(unpacked, packed, file), 1 << 16)  # pyright: ignore[reportArgumentType]

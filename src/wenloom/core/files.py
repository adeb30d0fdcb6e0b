"""Writing so that a crash or a full disk never costs what was already there.

Everything is written aside, flushed to the disk (fsync) and then renamed, which the operating
system does in one piece: a reader sees the old file or the new one, never half of one.
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from wenloom.core.errors import WenloomError


@contextmanager
def _mended(path: Path) -> Iterator[None]:
    """Turn what the disk refuses (full, read-only, too large) into one sentence for the user."""
    try:
        yield
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise WenloomError(
            f"{path}: could not be written ({reason}). Nothing that was there before is lost; "
            "free some space or choose another place, then run the same command again."
        ) from error


def _fsync(path: Path) -> None:
    if path.is_dir() and os.name == "nt":  # Windows flushes folders by itself and cannot be asked to
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _umask() -> int:
    """Which permissions new files do not get."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        return int(status.partition("\nUmask:")[2].split(maxsplit=1)[0], 8)
    except (OSError, ValueError, IndexError):  # elsewhere than on Linux it can only be asked for by changing it
        mask = os.umask(0o022)
        os.umask(mask)
        return mask


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replace the file `path` by `content` in one piece.

    Raises:
        WenloomError: the disk refused; the old file is untouched.
    """
    data = content.encode() if isinstance(content, str) else content
    with _mended(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        aside = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            aside.chmod(0o666 & ~_umask())
            aside.replace(path)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise


@contextmanager
def folder_aside(path: Path) -> Iterator[Path]:
    """Yield an empty folder; when the block ends well it becomes `path`, else it vanishes.

    A folder that was at `path` stays readable until the new one is complete.

    Raises:
        WenloomError: the disk refused; what was at `path` is untouched.
    """
    with _mended(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
        try:
            yield aside
            for file in aside.rglob("*"):
                file.chmod((0o777 if file.is_dir() else 0o666) & ~_umask())
                _fsync(file)
            aside.chmod(0o777 & ~_umask())
            if path.exists():
                outgoing = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.old."))
                path.replace(outgoing)  # an empty folder may be replaced by a full one
                aside.replace(path)
                shutil.rmtree(outgoing)
            else:
                aside.replace(path)
            _fsync(path.parent)
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise


def publish(file: Path, folder: Path) -> None:
    """Make `file` appear in `folder` in one piece: by a hard link where the disk can, else a copy."""
    target = folder / file.name
    with _mended(target):
        aside = folder / f".{file.name}.new"
        aside.unlink(missing_ok=True)
        try:
            os.link(file, aside)
        except OSError:
            shutil.copyfile(file, aside)
            _fsync(aside)
        aside.replace(target)


def sha256_of_file(path: Path) -> str:
    """SHA-256 of a file's bytes, as hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

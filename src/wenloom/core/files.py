"""Writing so that a crash or a full disk never costs what was already there.

Everything is written aside, flushed to the disk (fsync) and then renamed, which the operating
system does in one piece: a reader sees the old file or the new one, never half of one.
"""

import contextlib
import ctypes
import glob
import hashlib
import os
import re
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from wenloom.core.errors import InputError, WenloomError

if sys.platform != "win32":
    import fcntl


def check_free(out: Path) -> None:
    """
    Raises:
        InputError: the folder to write holds something, or is a file.
    """
    if out.exists() and any(out.iterdir() if out.is_dir() else [out]):
        raise InputError(f"{out}: is not empty. Choose another --out.")


def check_no_folder(out: Path) -> None:
    """
    Raises:
        InputError: a folder is given as the file to write.
    """
    if out.is_dir():
        raise InputError(f"--out {out}: is a folder; name a file.")


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


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replace the file `path` by `content` in one piece.

    Raises:
        WenloomError: the disk refused; the old file is untouched.
    """
    with file_aside(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def file_aside(path: Path) -> Iterator[IO[bytes]]:
    """Yield an empty file; when the block ends well it becomes `path`, else it vanishes.

    Raises:
        WenloomError: the disk refused; the old file is untouched.
    """
    with _mended(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        made, aside = _beside(path, "new."), _beside(path)
        descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)  # less the umask, as anybody's files
        try:
            with os.fdopen(descriptor, "wb") as file:
                _is_held(descriptor)
                aside = _named(made, aside)
                yield file
                file.flush()
                os.fsync(file.fileno())
            aside.replace(path)
            _fsync(path.parent)
        except BaseException:
            made.unlink(missing_ok=True)
            aside.unlink(missing_ok=True)
            raise


def _named(made: Path, aside: Path) -> Path:
    """What was just made and is held gets the name under which `clear_abandoned` removes what nobody holds; where there are no such
    locks (Windows, which renames nothing that is open) it keeps its own."""
    return made if sys.platform == "win32" else made.replace(aside)


def _beside(path: Path, kind: str = "") -> Path:
    """A hidden name in the same folder that nobody has."""
    return path.with_name(f".{path.name[:40]}.{kind}{secrets.token_hex(4)}")


@contextmanager
def folder_aside(path: Path) -> Iterator[Path]:
    """Yield an empty folder; when the block ends well it becomes `path`, else it vanishes.

    A folder that was at `path` stays readable until the new one is complete. What a process that was killed left beside it goes.

    Raises:
        WenloomError: the disk refused; what was at `path` is untouched.
    """
    with _mended(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        clear_abandoned(path)
        made, aside = _beside(path, "new."), _beside(path)
        made.mkdir()
        lock = _locked(made)
        try:
            aside = _named(made, aside)
            yield aside
            mode = aside.stat().st_mode & 0o666  # what the umask leaves of a file's
            for file in aside.rglob("*"):
                if file.is_file():
                    file.chmod(mode)  # libraries choose their own: safetensors 0600
                _fsync(file)
            _fsync(aside)
            if path.exists():
                outgoing = _exchanged(aside, path)
                _fsync(path.parent)
                shutil.rmtree(outgoing)
            else:
                aside.replace(path)
                _fsync(path.parent)
        except BaseException:
            for each in (made, aside):
                shutil.rmtree(each, ignore_errors=True)
            raise
        finally:
            if lock is not None:
                os.close(lock)


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Yield an empty folder among the system's temporary ones, for as long as the block lasts. What killed processes left there goes."""
    path = Path(tempfile.gettempdir(), "wenloom")
    clear_abandoned(path)
    made, folder = _beside(path, "new."), _beside(path)
    made.mkdir(mode=0o700)
    lock = _locked(made)
    try:
        folder = _named(made, folder)
        yield folder
    finally:
        for each in (made, folder):
            shutil.rmtree(each, ignore_errors=True)
        if lock is not None:
            os.close(lock)


_JUST_MADE = 60.0
"""Seconds for which a new file or folder may have no lock yet."""


def clear_abandoned(path: Path) -> None:
    """Remove what was written aside for a file or folder and is held by no process: those that wrote it were killed."""
    names = re.compile(rf"\.{re.escape(path.name[:40])}\.(new\.)?[0-9a-f]{{8}}")
    for each in path.parent.glob(f".{glob.escape(path.name[:40])}.*"):
        if each.is_symlink() or not (found := names.fullmatch(each.name)):
            continue
        with contextlib.suppress(OSError):
            is_new = bool(found[1]) and time.time() - each.stat().st_mtime <= _JUST_MADE
            if not is_new and (lock := _locked(each)) is not None:
                shutil.rmtree(each, ignore_errors=True) if each.is_dir() else each.unlink(missing_ok=True)
                os.close(lock)


def _locked(path: Path) -> int | None:
    """Hold a file or folder for as long as this process lives; None: another one does, or there are no such locks here."""
    if sys.platform == "win32":
        return None
    descriptor = os.open(path, os.O_RDONLY)
    if not _is_held(descriptor):
        os.close(descriptor)
        return None
    return descriptor


def _is_held(descriptor: int) -> bool:
    """Whether this process alone holds what is open, from now on until it is closed."""
    if sys.platform == "win32":
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _exchanged(aside: Path, path: Path) -> Path:
    """Put the folder `aside` in the place of `path`; returns where the old one is then.

    In one piece where the system can (Linux: renameat2), else in two, between which there is nothing at `path`.
    """
    if sys.platform == "linux":
        rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
        here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
        if rename is not None and rename(here, os.fsencode(aside), here, os.fsencode(path), exchange) == 0:
            return aside
    outgoing = _beside(path, "old.")
    path.replace(outgoing)
    try:
        aside.replace(path)
    except BaseException:
        outgoing.replace(path)
        raise
    return outgoing


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
        aside.unlink(missing_ok=True)  # renaming one hard link of a file to another does nothing (POSIX)
        _fsync(folder)


def sha256_of_file(path: Path) -> str:
    """SHA-256 of a file's bytes, as hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

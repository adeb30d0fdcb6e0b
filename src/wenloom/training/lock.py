"""One training at a time in a run folder: the second is refused by the name of the first.

The lock is the kernel's (flock on a file in the folder): it ends with the process that holds it, however that ends.
"""

import json
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from wenloom.core.console import remark
from wenloom.core.errors import InputError, printable

if sys.platform != "win32":
    import fcntl

LOCK = ".lock"
"""In the run folder: who trains there. It stays when the training ends; the kernel's lock does not."""


class RunIsTaken(InputError):
    """Another process trains in this folder."""


@contextmanager
def locked(run: Path) -> Iterator[None]:
    """Hold the lock of an existing run folder.

    Where the file system or the machine has no such locks, one remark says so and the block goes on.

    Raises:
        RunIsTaken: another process holds it; says which, where and since when.
    """
    descriptor = _taken(run)
    try:
        yield
    finally:
        if descriptor is not None:
            os.ftruncate(descriptor, 0)
            os.close(descriptor)


def refuse_if_taken(run: Path) -> None:
    """Tell early, before anything is prepared, that another process trains in a folder.

    Raises:
        RunIsTaken: so it is.
    """
    if run.is_dir() and (run / LOCK).is_file() and os.environ.get("RANK", "0") == "0":  # one process asks for all
        with locked(run):
            pass


def is_held(run: Path) -> bool:
    """Whether a process trains in a folder, as far as its lock file says; looks without touching the lock."""
    try:
        about: Any = json.loads((run / LOCK).read_bytes()[:4096])
        if about["host"] != socket.gethostname():
            return True
        os.kill(about["pid"], 0)
    except PermissionError:  # it lives, and is somebody else's
        return True
    except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return False
    return True


def _taken(run: Path) -> int | None:
    path = run / LOCK
    if sys.platform == "win32":
        remark(f"{run}: is not locked on this system: start no second training there.")
        return None
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    except OSError as error:
        raise InputError(f"{path}: the folder cannot be locked ({(error.strerror or str(error)).lower()}).") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = _holder(descriptor)
        os.close(descriptor)
        raise RunIsTaken(
            f"{run}: is being trained by {holder}: wait for its end, stop it, or choose another --out."
        ) from None
    except OSError as error:
        os.close(descriptor)
        remark(
            f"{run}: its file system has no locks ({(error.strerror or str(error)).lower()}): start no second training there."
        )
        return None
    about = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": datetime.now().astimezone().isoformat(" ", "seconds"),
    }
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(about).encode() + b"\n", 0)
    return descriptor


def _holder(descriptor: int) -> str:
    try:
        about: Any = json.loads(os.pread(descriptor, 4096, 0))
        text = f"process {about['pid']} on {about['host']} since {about['since']}"
    except (ValueError, TypeError, KeyError, RecursionError):  # it has just begun
        return "another process"
    return printable(text, 200)

"""The C files built by the machine's own C compiler, and kept for the next time.

What is kept is code that later runs as the user. So it lies in a folder that nobody else can write to, under a name
that holds what it was built from and the hash of its own bytes, and is loaded only if it is the user's and whole.
"""

import atexit
import contextlib
import ctypes
import hashlib
import os
import platform
import shlex
import signal
import stat
import subprocess
import tempfile
import threading
from importlib.resources import files
from pathlib import Path

from wenloom.core.console import remark
from wenloom.core.errors import printable
from wenloom.core.version import __version__
from wenloom.runtime.native.layout import mismatch

FLAGS = ["-O3", "-march=native", "-fno-fast-math", "-ffp-contract=fast", "-fno-math-errno", "-fopenmp", "-shared", "-fPIC"]  # fmt: skip
_SECONDS = 120
"""A slow machine takes ten."""
_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


class _NoStep(Exception):
    """Why there is no compiled step."""


class _Build:
    """The library, once it is there."""

    def __init__(self):
        self.library: ctypes.CDLL | None = None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.library = _library()
        except Exception as error:  # of whatever kind: PyTorch writes as well
            last = (str(error).strip() or type(error).__name__).splitlines()[-1]
            remark(f"Writing with PyTorch's kernels, at a fraction of the speed: {printable(last, 160)}.")


_build: _Build | None = None
_lock = threading.Lock()


def library(seconds: float | None = 0.0) -> ctypes.CDLL | None:
    """The compiled step; None while it is being built, or where it cannot be. The first call begins to build.

    Args:
        seconds: how long to wait for it; None: to the end.
    """
    global _build
    with _lock:
        if _build is None:
            _build = _Build()
    if seconds != 0.0:
        _build.thread.join(seconds)
    return _build.library


def compiler() -> list[str]:
    """The command of the machine's C compiler, or of the one that `CC` names."""
    return shlex.split(os.environ.get("CC", "")) or ["cc"]


def sources() -> dict[str, bytes]:
    """The C files by their names; `step.c` includes all others."""
    here = files("wenloom.runtime.native").iterdir()
    return {file.name: file.read_bytes() for file in sorted(here, key=str) if file.name.endswith((".c", ".h"))}


def _library() -> ctypes.CDLL:
    try:
        command = compiler()
    except ValueError as error:
        raise _NoStep(f"CC is not a command ({error})") from None
    source = sources()
    parts = [*command, *FLAGS, __version__, platform.machine(), _processor(), *source]
    key = hashlib.sha256(b"\0".join([*map(os.fsencode, parts), *source.values()])).hexdigest()[:16]
    wrong = "no folder to keep it in"
    for folder in _folders():
        try:
            _make_private(folder)
            return _kept(folder, key) or _built(folder, key, source, command)
        except (_NoStep, OSError) as error:
            wrong = str(error) or type(error).__name__
    raise _NoStep(wrong)


def _folders() -> list[Path]:
    """Where the library may be kept: the user's cache, else a temporary folder of the user's own."""
    found = []
    with contextlib.suppress(RuntimeError):  # nobody may know where home is
        cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
        if cache.is_absolute() and os.environ.get("HOME") != "":
            found.append(cache / "wenloom")
    with contextlib.suppress(OSError):  # there may be none that can be written to
        found.append(Path(tempfile.gettempdir()) / f"wenloom-{os.getuid()}")
    return found


def _make_private(folder: Path) -> None:
    """See that a folder is the user's own and that nobody else can put anything there; make it where there is none.

    Raises:
        _NoStep: it is not.
        OSError: it cannot be made.
    """
    if not os.path.lexists(folder):
        folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with contextlib.suppress(FileExistsError):  # another process may be faster
            folder.mkdir(mode=0o700)
            folder.chmod(0o700)  # whatever the umask says
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode):
        raise _NoStep(f"{folder} is a link or a file, no folder to keep compiled code in")
    if status.st_uid != os.getuid():
        raise _NoStep(f"{folder} belongs to somebody else; compiled code of theirs is not run")
    if status.st_mode & _BY_OTHERS:
        raise _NoStep(f"{folder} can be written to by others; compiled code is not kept there (chmod go-w {folder})")
    for above in folder.resolve().parents:
        mode = above.stat().st_mode
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            raise _NoStep(f"{above}, above {folder}, can be written to by everybody; compiled code is not kept there")


def _kept(folder: Path, key: str) -> ctypes.CDLL | None:
    """The library that was built here from the same source, if it is whole."""
    for path in sorted(folder.glob(f"step-{key}-*.so")):
        if _is_whole(path, key):
            return _loaded(path)
        path.unlink()  # cut short, it would end the process; somebody else's, it could do anything
    return None


def _is_whole(path: Path, key: str) -> bool:
    """Whether a file is the user's own and as it was built."""
    if path.is_symlink():
        return False
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & _BY_OTHERS:
            return False
        return path.name == _name(key, file.read())


def _name(key: str, content: bytes) -> str:
    return f"step-{key}-{hashlib.sha256(content).hexdigest()[:16]}.so"


def _built(folder: Path, key: str, source: dict[str, bytes], command: list[str]) -> ctypes.CDLL:
    """Build the library aside, try it, and put it into its place in one piece."""
    with tempfile.TemporaryDirectory(dir=folder, prefix=".building-", ignore_cleanup_errors=True) as room:
        for name, content in source.items():
            (Path(room) / name).write_bytes(content)
        built = Path(room) / "step.so"
        _compile([*command, *FLAGS, "-o", str(built), str(Path(room) / "step.c"), "-lm"], room)
        if not built.is_file():
            raise _NoStep(f"no C compiler that works ({command[0]} wrote no library)")
        built.chmod(0o700)
        content = built.read_bytes()
        loaded = _loaded(built)
        with built.open("rb+") as file:
            os.fsync(file.fileno())
        built.replace(folder / _name(key, content))
    return loaded


def _loaded(path: Path) -> ctypes.CDLL:
    """
    Raises:
        _NoStep: the system refuses to load it, it is another library, or its structures are not Python's.
    """
    try:
        loaded = ctypes.CDLL(str(path))
        assert loaded.step
        wrong = mismatch(loaded)
    except (OSError, AttributeError) as error:
        raise _NoStep(f"the compiled step cannot be loaded ({error})") from None
    if wrong:
        raise _NoStep(f"the compiled step has other structures than this code ({wrong})")
    return loaded


def _compile(command: list[str], room: str) -> None:
    """Run a compiler, whose temporary files go to `room` too; end it with all that it started where it hangs."""
    try:
        running = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            start_new_session=True, env=os.environ | {"TMPDIR": room},
        )  # fmt: skip
    except OSError as error:
        raise _NoStep(f"no C compiler that works ({command[0]}: {(error.strerror or str(error)).lower()})") from None
    atexit.register(_end, running)
    try:
        said = running.communicate(timeout=_SECONDS)[1].decode(errors="replace").strip()
    except subprocess.TimeoutExpired:
        raise _NoStep(f"no C compiler that works ({command[0]} did not end within {_SECONDS} seconds)") from None
    finally:
        _end(running)
        atexit.unregister(_end)
    if running.returncode:
        last = said.splitlines()[-1][:120] if said else f"{command[0]} ended with status {running.returncode}"
        raise _NoStep(f"no C compiler that works ({last})")


def _end(running: subprocess.Popen[bytes]) -> None:
    if running.poll() is None:
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()


def _processor() -> str:
    """What -march=native depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.processor())

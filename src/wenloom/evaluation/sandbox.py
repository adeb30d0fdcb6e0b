"""Running a program that a model wrote: in a process of its own, with bounds on everything it could use up.

Bounds hold by the operating system: time, memory, the size of files, and where the kernel allows it (Linux user
namespaces) no network and no process that outlives the program. Beside them, a guard inside the interpreter refuses
processes, sockets and files outside the program's folder. This keeps accidents and model-written mischief in bounds;
it is no wall against somebody who attacks Python itself: run unknown people's code in a virtual machine.
"""

import functools
import os
import secrets
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from wenloom.core.errors import InputError


class Limits(NamedTuple):
    """What a program may use."""

    seconds: float = 10.0
    memory: int = 512 * 2**20
    """Bytes of address space."""
    file_size: int = 2**20
    """Bytes of any file it writes."""
    output: int = 64 * 2**10
    """Bytes of output that are kept."""


class Outcome(NamedTuple):
    """How a program ended."""

    passed: bool
    """It ran to its end without an error."""
    reason: str
    """`passed`, `timed out`, or the last line of what it complained about."""


_GUARD = """
import os, resource, sys

def limit(which, value):
    hard = resource.getrlimit(which)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(which, (value, value))

seconds, memory, file_size = (int(each) for each in sys.argv[1:4])
reached_the_end = sys.argv[4]
folder = os.path.realpath(os.getcwd())
limit(resource.RLIMIT_CPU, seconds + 1)
limit(resource.RLIMIT_AS, memory)
limit(resource.RLIMIT_FSIZE, file_size)
limit(resource.RLIMIT_NOFILE, 64)
limit(resource.RLIMIT_CORE, 0)
with open("program.py", encoding="utf-8") as file:
    source = file.read()
code = compile(source, "program.py", "exec")
written = 0

def guard(event, arguments):
    global written
    if event.startswith(("socket.", "os.fork", "os.exec", "os.spawn", "os.posix_spawn", "os.system", "subprocess.",
                         "ctypes.", "os.kill", "os.putenv", "shutil.", "signal.", "resource.", "_posixsubprocess",
                         "pty.", "os.chmod", "os.chown", "os.link", "os.symlink", "os.startfile", "webbrowser.")):
        raise PermissionError(f"{event} is not allowed here")
    if event in ("os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.truncate"):
        for each in arguments[:2]:
            if isinstance(each, (str, bytes)) and not inside(each):
                raise PermissionError(f"{event} outside the program's folder")
    if event == "open":
        path, mode, flags = arguments
        writing = any(each in (mode or "") for each in "wax+") or (flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if writing:
            written += 1
            if not isinstance(path, (str, bytes)) or not inside(path):
                raise PermissionError("writing outside the program's folder")
            if written > 100:
                raise PermissionError("too many files")

def inside(path):
    return os.path.realpath(os.fsdecode(path)).startswith(folder + os.sep)

sys.argv = ["program.py"]
sys.addaudithook(guard)
exec(code, {"__name__": "__main__"})
sys.__stdout__.write(chr(10) + reached_the_end)
"""


@functools.cache
def _isolated() -> tuple[str, ...]:
    """A command before the program's that takes network and lasting processes away, where the kernel lets us."""
    command = ("unshare", "--user", "--map-root-user", "--net", "--pid", "--fork", "--kill-child")
    try:
        done = subprocess.run([*command, "true"], capture_output=True, timeout=10, check=False)
    except (OSError, subprocess.SubprocessError):
        return ()
    return command if done.returncode == 0 else ()


def run_program(source: str, limits: Limits | None = None) -> Outcome:
    """Run Python source in a fresh folder and tell whether it ended well.

    Raises:
        InputError: not on this system.
    """
    if os.name != "posix":
        raise InputError("programs are only run on Linux and macOS, where they can be kept within bounds.")
    limits = limits or Limits()
    with tempfile.TemporaryDirectory(prefix="wenloom-program-") as folder:
        (Path(folder) / "program.py").write_text(source, encoding="utf-8", errors="replace")
        (Path(folder) / "guard.py").write_text(_GUARD, encoding="utf-8")
        reached_the_end = secrets.token_hex(16)  # a program that ends itself with code 0 has not passed its tests
        bounds = [*(str(int(each)) for each in (limits.seconds, limits.memory, limits.file_size)), reached_the_end]
        command = [*_isolated(), sys.executable, "-I", "-S", "-B", "guard.py", *bounds]
        with (Path(folder) / "output").open("wb+") as output:
            process = subprocess.Popen(
                command, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
                env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1", "HOME": folder},
                preexec_fn=functools.partial(_bound_output, limits.file_size),
            )  # fmt: skip
            try:
                code = process.wait(limits.seconds)
            except subprocess.TimeoutExpired:
                code = None
            finally:
                _end(process)
            size = output.seek(0, os.SEEK_END)
            output.seek(max(0, size - limits.output))
            said = output.read().decode(errors="replace").strip()
    if code is None:
        return Outcome(False, "timed out")
    if code == 0 and said.endswith(reached_the_end):
        return Outcome(True, "passed")
    last = said.splitlines()[-1][:300] if said else f"ended with code {code}"
    return Outcome(False, last)


def _bound_output(size: int) -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def _end(process: subprocess.Popen[bytes]) -> None:
    """The process and all of its group."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        process.kill()
    process.wait()

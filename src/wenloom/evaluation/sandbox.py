"""Running a program that a model wrote: where it can harm nothing, and so that it cannot claim to have passed.

Three processes. This one starts the judge (`confine.py`), which puts up the kernel's walls and starts the program below the
inner one (`guard.py`). The judge alone knows the word that is sent where the program ends, and its exit code alone says
"passed". What stays possible is told in docs/evaluation.md.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.resources import as_file, files
from pathlib import Path
from typing import Literal, NamedTuple

from wenloom.core.errors import InputError, printable
from wenloom.evaluation.confine import BROKEN, PASSED

Wall = Literal["namespaces", "nobody", "landlock", "seccomp"]


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
    """Whether it ran to its end without an error."""
    reason: str
    """`passed`, `timed out`, or the last line of what it complained about."""


def run_program(source: str, limits: Limits | None = None, without: Sequence[Wall] = ()) -> Outcome:
    """Run Python source in a fresh folder and tell whether it ended well.

    Args:
        without: walls that are left out, to see what the others hold.

    Raises:
        InputError: not on this system.
    """
    if os.name != "posix":
        raise InputError("programs are only run on Linux and macOS, where they can be kept within bounds.")
    limits = limits or Limits()
    asked = {
        "seconds": int(limits.seconds), "memory": limits.memory, "file_size": limits.file_size, "without": list(without),
    }  # fmt: skip
    with (
        as_file(files("wenloom.evaluation")) as scripts,
        tempfile.TemporaryDirectory(prefix="wenloom-program-") as folder,
        tempfile.TemporaryFile() as output,
    ):
        (Path(folder) / "program.py").write_text(source, encoding="utf-8", errors="replace")
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-B", scripts / "confine.py", json.dumps(asked)],
            cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
            env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
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
    last = printable(said.splitlines()[-1], 300) if said else f"ended with code {code}"
    if code == BROKEN:
        raise InputError(f"programs cannot be run here: {last}.")
    if code is None:
        return Outcome(False, "timed out")
    return Outcome(True, "passed") if code == PASSED else Outcome(False, last)


def _end(process: subprocess.Popen[bytes]) -> None:
    """The judge, and with it the program (its kernel ends it with its parent) and all of the group."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        process.kill()
    process.wait()

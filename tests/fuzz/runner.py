"""One input after the other: made from its number alone, read, judged."""

import contextlib
import io
import os
import random
import resource
import shutil
import signal
import traceback
from pathlib import Path
from typing import Any, NamedTuple

from wenloom.core.errors import WenloomError

from .mutations import spoiled
from .targets import TARGETS, Target

SECONDS = 10.0
"""What an input may take of a core (other programs may be using it, too)."""
BYTES = 2**30
"""What it may take of memory, beyond what the process has when it begins."""


class Failure(NamedTuple):
    """What went wrong with an input."""

    number: int
    target: str
    file: str
    what: str
    where: str
    """The innermost line of ours."""

    @property
    def kind(self) -> str:
        """Equal for inputs that fail alike."""
        return f"{self.target}: {self.what.partition(':')[0]} at {self.where}"


class Interrupted(BaseException):
    """Raised by the alarm."""


def bound_memory() -> None:
    """Let this process have `BYTES` more than it has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + BYTES
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def peak() -> int:
    """Most resident bytes of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class Fuzzer:
    """Makes and reads inputs.

    Args:
        seeds: folder made by `targets.make_seeds`.
        work: folder for the copies.
    """

    def __init__(self, seeds: Path, work: Path, seed: int = 0, only: str | None = None):
        self._seeds, self._work, self._seed = seeds, work, seed
        targets = [target for target in TARGETS if only is None or target.name == only]
        self._targets = [target for target in targets for _ in range(target.weight)]
        self.folder = work / "input"
        self._checkpoint = next(
            (path.relative_to(seeds / "run") for path in (seeds / "run" / "checkpoints").glob("step-*")), None
        )

    def make(self, number: int) -> tuple[Target, Path]:
        """Write input `number`; returns what reads it, and the spoiled file."""
        rng = random.Random(f"{self._seed}:{number}")
        target = rng.choice(self._targets)
        name = rng.choice(target.files)
        file = self.copy(target, name)
        file.write_bytes(spoiled(file.read_bytes(), file.name, rng))
        return target, file

    def copy(self, target: Target, name: str) -> Path:
        """The valid file of this name in a fresh folder, beside what is read with it."""
        name = name.replace("@checkpoint", str(self._checkpoint))
        shutil.rmtree(self.folder, ignore_errors=True)
        if target.seeds in ("texts", "rows", "results"):
            self.folder.mkdir(parents=True)
            shutil.copy(self._seeds / target.seeds / name, self.folder / name)
        else:
            shutil.copytree(self._seeds / target.seeds, self.folder, copy_function=os.link)
            (self.folder / name).unlink()
            shutil.copy(self._seeds / target.seeds / name, self.folder / name)
        return self.folder / name

    def run(self, number: int) -> Failure | None:
        """Read input `number`; None where that gives a result or a sentence for the user."""
        target, file = self.make(number)
        fired = False

        def ring(*_: object) -> None:
            nonlocal fired
            fired = True
            raise Interrupted

        def failure(what: str, error: BaseException | None = None) -> Failure:
            return Failure(number, target.name, file.name, what, _innermost(error))

        before = peak()
        signal.signal(signal.SIGPROF, ring)
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        found = None
        try:
            with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
                target.read(self.folder, file)
        except WenloomError as error:
            cause: BaseException | None = error
            while cause is not None and not isinstance(cause, MemoryError):
                cause = cause.__cause__
            if "\n" in str(error).strip() and "Traceback" in str(error):
                found = failure("a traceback as a message", error)
            elif cause is not None and peak() - before > BYTES // 2:
                found = failure("memory", cause)
        except BaseException as error:
            found = failure(
                "time" if isinstance(error, Interrupted) else f"{type(error).__name__}: {error}"[:300], error
            )
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        if fired:
            return found if found and found.what == "time" else failure("time")
        if found is None and peak() - before > BYTES:
            return failure(f"memory: {(peak() - before) / 2**20:,.0f} MiB")
        return found


def _innermost(error: BaseException | None) -> str:
    frames: list[Any] = traceback.extract_tb(error.__traceback__) if error else []
    ours = [frame for frame in frames if "wenloom" in frame.filename] or frames
    return f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else ""

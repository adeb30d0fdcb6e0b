"""Tasks on a cluster, by the executors of datatrove (Ray, Slurm): this is all that knows of them."""

import contextlib
import importlib
import os
import shlex
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wenloom.core.console import remark
from wenloom.core.errors import InputError, WenloomError, printable
from wenloom.core.files import write_atomically
from wenloom.core.progress import progress

_POLL = 2.0
"""Seconds between looks at what is done."""
_PATIENCE = 10.0
"""Seconds that jobs wait for one reason before it is told."""
_TIME = "24:00:00"
"""That a job may take; SBATCH_TIMELIMIT, and every other option of sbatch by its variable, wins."""
_ANSWER = 5.0
"""Seconds for a cluster of Ray to answer."""
_SETTINGS = b"\0\0\0\x04\0\0\0\0\0"
"""The frame with which both sides of HTTP/2 begin: without settings, of kind 4."""
_FAILED, _JOB = "failed", "job"

Task = Callable[[Any, int, int], object]
"""Called with nothing, its number and the number of tasks: datatrove's steps are such."""


@dataclass(frozen=True)
class _Told:
    """A task that leaves behind in words why it failed."""

    task: Task
    folder: Path

    def __call__(self, data: object, rank: int, world_size: int) -> object:
        told = self.folder / _FAILED / f"{rank:05}"
        told.unlink(missing_ok=True)
        try:
            return self.task(data, rank, world_size)
        except Exception as error:
            words = str(error) if isinstance(error, WenloomError) else ""
            write_atomically(told, words)
            raise


@dataclass(frozen=True)
class Cluster:
    """Where tasks run: the cluster of Ray that RAY_ADDRESS names (none: this machine), or a partition of Slurm."""

    on: str
    """`ray` or `slurm:PARTITION`."""
    at_once: int | None = None
    """Tasks at a time; default: as many as there is room for."""

    def __post_init__(self) -> None:
        kind, _, partition = self.on.partition(":")
        if self.on != "ray" and not (kind == "slurm" and partition):
            raise InputError(f"--on {self.on}: must be ray or slurm:PARTITION.")
        try:
            importlib.import_module("datatrove.executor.base")
            importlib.import_module("ray" if kind == "ray" else "dill")
        except ImportError:
            raise InputError(f"--on {self.on}: needs more packages: pip install 'wenloom[cluster]'.") from None
        if kind == "slurm" and shutil.which("sbatch") is None:
            raise InputError(f"--on {self.on}: sbatch is not here; run this on a machine that submits jobs.")

    def run(self, label: str, task: Task, count: int, folder: Path) -> None:
        """Run so many tasks and wait for them; those that are marked as done in the folder are not done again.

        Args:
            label: what they do, for the progress bar.
            folder: for logs and marks; all machines see it.

        Raises:
            InputError: a task ended with one.
            WenloomError: tasks did not end well.
        """
        folder = folder.resolve()
        executor = self._executor(_Told(task, folder), count, folder)
        with progress(label, count, "tasks") as bar, _watched(folder, bar.advance):
            if self.on.startswith("slurm:"):
                _submit(executor, folder, range(count))
            else:
                self._connect()
                with contextlib.suppress(Exception):  # of a task; told below
                    executor.run()
        if left := executor.get_incomplete_ranks(range(count)):
            for said in (each.read_text(encoding="utf-8") for each in sorted((folder / _FAILED).glob("*"))):
                if said:
                    raise InputError(said)
            raise WenloomError(
                f"{len(left)} of {count} tasks did not end well; why stands in {folder}. The same command does them again."
            )

    def _executor(self, task: Task, count: int, folder: Path) -> Any:
        common = {"pipeline": [task], "tasks": count, "workers": self.at_once or -1, "logging_dir": str(folder)}
        module = importlib.import_module(f"datatrove.executor.{'ray' if self.on == 'ray' else 'slurm'}")
        importlib.import_module("loguru").logger.remove()  # it tells of every task at length; their logs stay
        if self.on == "ray":
            return module.RayPipelineExecutor(**common)
        path = f"export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH"
        return module.SlurmPipelineExecutor(**common, time=_TIME, partition=self.on.partition(":")[2], job_name="wenloom", qos=None,
                                            requeue_signals=None, env_command=path)  # fmt: skip

    def _connect(self) -> None:
        """Once for all tasks of this process, at whose end Ray lets go.

        Raises:
            WenloomError: Ray does not answer.
        """
        ray = importlib.import_module("ray")
        if not ray.is_initialized():
            try:
                _check_answers(os.environ.get("RAY_ADDRESS", ""))
                ray.init(log_to_driver=False, logging_level="ERROR")
            except Exception as error:
                first = (str(error).strip().splitlines() or [type(error).__name__])[0]
                raise WenloomError(
                    f"--on ray: no cluster answers ({printable(first, 200)}); see RAY_ADDRESS."
                ) from None


def _check_answers(address: str) -> None:
    """Of a cluster of Ray, which would itself try for minutes; it talks HTTP/2 (RFC 9113, section 3.4) from the first byte.

    Args:
        address: `HOST:PORT` or `ray://HOST:PORT`; anything else is left to Ray.

    Raises:
        OSError: nobody is there.
        TimeoutError: somebody is and says nothing.
        WenloomError: or something else.
    """
    host, _, port = address.removeprefix("ray://").partition("/")[0].rpartition(":")
    if not host or not port.isdecimal():
        return
    try:
        with socket.create_connection((host.strip("[]"), int(port)), _ANSWER) as connection:
            if os.environ.get("RAY_USE_TLS", "0") != "0":
                return
            connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _SETTINGS)
            if connection.recv(9, socket.MSG_WAITALL)[3:4] != _SETTINGS[3:4]:
                raise WenloomError(f"what listens at {address} is none")
    except TimeoutError:
        raise TimeoutError(f"{address}: silent for {_ANSWER:.0f} s") from None
    except (OSError, OverflowError) as error:  # the latter: no port has this number
        raise OSError(f"{address}: {getattr(error, 'strerror', None) or error}") from None


@contextlib.contextmanager
def _watched(folder: Path, on_done: Callable[[int], None]) -> Iterator[None]:
    """Tell how many tasks more are marked as done."""
    done, told = threading.Event(), 0

    def look() -> None:
        nonlocal told
        there = len(list((folder / "completions").glob("*")))
        on_done(there - told)
        told = there

    def watch() -> None:
        while not done.wait(_POLL):
            look()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        look()


def _submit(executor: Any, folder: Path, ranks: range) -> None:
    """Submit an array of jobs, unless an earlier one still runs, and wait until none is left.

    Raises:
        WenloomError: sbatch refused.
    """
    file = folder / _JOB
    if not file.exists() or _waits_for(file.read_text()) is None:
        write_atomically(file, _launched(executor, folder / "launch_script.slurm"))
    job, why, since, is_told = file.read_text(), "", 0.0, False
    try:
        while executor.get_incomplete_ranks(ranks) and (now := _waits_for(job)) is not None:
            why, since, is_told = (why, since, is_told) if now == why else (now, time.monotonic(), False)
            if why and not is_told and time.monotonic() - since > _PATIENCE:
                remark(f"Job {job} of Slurm waits: {why}.")
                is_told = True
            time.sleep(_POLL)
    except KeyboardInterrupt:
        remark(f"Job {job} of Slurm goes on (scancel ends it); the same command waits for it again.")
        raise


def _launched(executor: Any, script: Path) -> str:
    """Numbers of the jobs of an executor, with commas, once they are submitted.

    datatrove itself leaves the reason of a refusal on the terminal, and would add a job that only sums up times: where a task
    fails it stays in the queue for ever.

    Raises:
        WenloomError: sbatch refused.
    """
    module, jobs = importlib.import_module("datatrove.executor.slurm"), list[str]()

    def submit(contents: str, number_of: object, *options: str) -> str:
        asked = subprocess.run(
            ["sbatch", "--parsable", *options, str(script)], capture_output=True, text=True, check=False
        )
        if asked.returncode:
            raise WenloomError(f"sbatch refused {script}: {_last_line(asked.stderr)}.")
        jobs.append(_last_line(asked.stdout).partition(";")[0])  # behind it, of several clusters, its name
        return jobs[-1]

    theirs, module.launch_slurm_job, executor.launch_merge_stats = module.launch_slurm_job, submit, _nothing  # pyright: ignore[reportAttributeAccessIssue]
    try:
        executor.launch_job()
    finally:
        module.launch_slurm_job = theirs  # pyright: ignore[reportAttributeAccessIssue]
    return ",".join(jobs)


def _nothing() -> None:
    """In place of what is not to be done."""


def _last_line(said: str) -> str:
    return printable((said.strip().splitlines() or ["nothing"])[-1].strip().removesuffix("."), 200)


def _waits_for(job: str) -> str | None:
    """Why none of the jobs runs that Slurm still has; empty: one runs; None: it has none, as one that it knows no more has ended.
    A squeue that fails says nothing about jobs."""
    asked = subprocess.run(
        ["squeue", "--noheader", "--format=%T %r", "--jobs", job], capture_output=True, text=True, check=False
    )
    if asked.returncode:
        return None if "Invalid job id" in asked.stderr else _last_line(asked.stderr)
    reasons = [line.split(maxsplit=1) for line in asked.stdout.splitlines() if line.strip()]
    if not reasons:
        return None
    return "" if any(state != "PENDING" for state, *_ in reasons) else reasons[0][-1]

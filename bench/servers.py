"""Processes that answer over HTTP, for the time of a measurement."""

import contextlib
import os
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path


def free_port() -> int:
    """A port at which nobody listens."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@contextlib.contextmanager
def running(
    command: Sequence[object], port: int, ready: str, seconds: float = 300, **environment: str
) -> Iterator[subprocess.Popen[bytes]]:
    """A server, from when it answers at a path until it has ended.

    Raises:
        RuntimeError: it ends or does not answer in time; tells the end of what it wrote.
    """
    with tempfile.TemporaryDirectory() as folder:
        said = Path(folder) / "said"
        with said.open("wb") as file:
            process = subprocess.Popen(
                [*map(str, command)], stdout=file, stderr=file, env={**os.environ, **environment}
            )
        try:
            deadline = time.monotonic() + seconds
            while not _answers(f"http://127.0.0.1:{port}{ready}"):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"{command[0]} does not answer: {said.read_text(errors='replace')[-1500:]}")
                time.sleep(0.2)
            yield process
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return answer.status == 200
    except OSError:
        return False

"""Ctrl-C and SIGTERM as a flag that the loop reads when it is safe to stop."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from wenloom.core.console import remark
from wenloom.core.errors import WenloomError


class Interrupted(WenloomError):
    """The user pressed Ctrl-C (or the system asked to stop).

    Args:
        stopped: where, and what is saved, in a sentence.
        command: what goes on; None where nothing is saved.
    """

    exit_code = 130

    def __init__(self, stopped: str, command: str | None):
        self.stopped = stopped
        super().__init__(stopped if command is None else f"{stopped} Continue with:\n  {command}")


@contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """Yield an event that a signal sets; a second signal stops at once.

    Outside the main thread, which alone receives signals, the event is never set.
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def handle(number: int, frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()
        remark("Stopping and saving (press Ctrl-C again to stop at once and lose what came after the last save) ...")

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

"""Turns at an engine that several threads use: one at a time, and whoever waits comes next."""

import threading


class Turns:
    """A lock for `with` that a thread may enter again, and that is handed on fairly.

    A plain lock that one thread takes again and again, as an engine's loop does, may keep another waiting for ever:
    here whoever wants it stands in the door first, where the loop has to queue behind.
    """

    def __init__(self):
        self._door, self._inside = threading.Lock(), threading.Lock()
        self._owner, self._depth = 0, 0

    @property
    def mine(self) -> bool:
        """Whether it is this thread's turn."""
        return self._owner == threading.get_ident()

    def __enter__(self) -> None:
        me = threading.get_ident()
        if self._owner == me:
            self._depth += 1
            return
        with self._door:
            self._inside.acquire()
        self._owner = me

    def __exit__(self, *_: object) -> None:
        if self._depth:
            self._depth -= 1
            return
        self._owner = 0
        self._inside.release()

"""The access log: one JSON line per request."""

import json
import threading
import time
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TextIO

from wenloom.serving.admission import Ticket
from wenloom.serving.errors import APIError


@dataclass(eq=False)
class Entry:
    """What is known of a request."""

    deadline: float
    """When it is ended, by the monotonic clock."""
    id: str = field(default_factory=lambda: f"req_{uuid.uuid4().hex}")
    began: float = field(default_factory=time.monotonic)
    client: str = ""
    """The name of its key, or its address."""
    method: str = ""
    path: str = ""
    status: int = 0
    """0: the client went away before there was one."""
    model: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    error: str | None = None
    """Why it was refused or failed."""
    reason: str | None = None
    """That in one word."""
    note: dict[str, Any] = field(default_factory=dict)
    """What the client wants noted: user, metadata."""
    body: str | None = None
    """The request itself, where prompts are logged."""
    ticket: Ticket | None = None
    """Its place in the line."""

    def refuse(self, error: APIError) -> None:
        """It is not answered."""
        self.error, self.reason = str(error), error.code or ("failed" if error.status >= 500 else "invalid_request")

    def release(self) -> None:
        """It waits no more: its first token has come, or nothing will."""
        if self.ticket is not None:
            self.ticket.give_back()
            self.ticket = None


class AccessLog:
    """Writes lines, one at a time."""

    def __init__(self, file: TextIO | None):
        self._file, self._lock = file, threading.Lock()

    def write(self, entry: Entry) -> None:
        """Add a line."""
        if self._file is None:
            return
        line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "id": entry.id, "client": entry.client,
                "method": entry.method, "path": entry.path, "status": entry.status,
                "seconds": round(time.monotonic() - entry.began, 4)}  # fmt: skip
        if entry.model is not None:
            line |= {
                "model": entry.model,
                "prompt_tokens": entry.prompt_tokens,
                "completion_tokens": entry.completion_tokens,
            }
        line |= {name: value for name in ("error", "body") if (value := getattr(entry, name)) is not None} | entry.note
        with self._lock:
            self._file.write(json.dumps(line, ensure_ascii=True) + "\n")
            self._file.flush()

"""What a run of the engine becomes on the wire, whole or as a stream."""

import time
import uuid
from collections.abc import Iterator
from typing import Any, Protocol

from wenloom.serving.errors import APIError
from wenloom.serving.run import ChoiceEvent, EngineRun

JSON = dict[str, Any]


class WholeWriter(Protocol):
    """Writes the answer to one request as a JSON document."""

    run: EngineRun

    def whole(self) -> JSON:
        """The answer in one document, once the run is done.

        Raises:
            APIError: a choice could not be finished.
        """
        ...


class AnswerWriter(WholeWriter, Protocol):
    """Writes it piece by piece, too; a chunk's own "type" is the type of its event."""

    last: bytes
    """What ends a stream that was written whole."""

    def opening(self) -> Iterator[JSON]:
        """Chunks before the first token."""
        ...

    def pieces(self, each: ChoiceEvent) -> Iterator[JSON]:
        """Chunks of an event.

        Raises:
            APIError: the choice could not be finished.
        """
        ...

    def ending(self) -> Iterator[JSON]:
        """Chunks after the last token."""
        ...

    def failure(self, error: APIError) -> JSON:
        """The last chunk of an answer that fails on the way."""
        ...


class Head:
    """What every document of an answer begins with."""

    def __init__(self, prefix: str, kind: str, run: EngineRun):
        self.id, self._kind, self._run = f"{prefix}-{uuid.uuid4().hex}", kind, run
        self._created = int(time.time())

    def __call__(self, choices: list[JSON], kind: str | None = None, **more: Any) -> JSON:
        served = self._run.served
        return {"id": self.id, "object": kind or self._kind, "created": self._created, "model": served.name,
                "system_fingerprint": served.fingerprint, "choices": choices, **more}  # fmt: skip

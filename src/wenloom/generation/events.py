"""What comes of a request while it is under way."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from wenloom.generation.jobs import FinishReason, Job, TokenScore


@dataclass(frozen=True, slots=True)
class Event:
    """What has come of a continuation. Unpacks as (index, token, text)."""

    index: int
    """Which continuation of the request."""
    token: int | None
    """The token; None where only text came that had been held back."""
    text: str
    """The text that became certain."""
    score: TokenScore | None = None
    """The token's log-probability, if asked for."""
    finish_reason: FinishReason | None = None
    """Of the continuation's last event."""

    def __iter__(self) -> Iterator[Any]:
        return iter((self.index, self.token, self.text))


class News:
    """Tells, each time it is called, what has come of a request since."""

    def __init__(self, job: Job):
        self._continuations = job.continuations
        self._told, self._ended = [0] * len(job.continuations), [False] * len(job.continuations)

    def __call__(self) -> list[Event]:
        found: list[Event] = []
        for index, each in enumerate(self._continuations):
            new, reason = each.tokens[self._told[index] :], each.finish_reason
            if self._ended[index] or not (new or reason):
                continue
            text = each.stream.take() if each.stream else ""
            scores = each.scores[self._told[index] :] or [None] * len(new)
            for token, score in zip(new[:-1], scores, strict=False):
                found.append(Event(index, token, "", score))
            last = (new[-1], text, scores[-1]) if new else (None, text, None)
            found.append(Event(index, *last, reason))
            self._told[index] += len(new)
            self._ended[index] = reason is not None
        return found

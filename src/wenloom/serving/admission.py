"""Who may begin: bounds on what is under way, and on how often each client asks."""

import time
from collections import OrderedDict

from wenloom.serving.errors import APIError
from wenloom.serving.settings import RequestLimits

_KNOWN_CLIENTS = 10_000


class Admission:
    """Counts what is under way; all calls come from the event loop's thread."""

    def __init__(self, limits: RequestLimits):
        self._limits = limits
        self.n_requests = 0
        """Requests under way."""
        self.queued_tokens = 0
        """Tokens of prompts that wait for their first token."""
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()
        """Of each client: requests that it may still make, and when that was true."""

    def enter(self, client: str) -> None:
        """A request begins; `leave` ends it.

        Raises:
            APIError: there are too many, or this client asks too often.
        """
        if self.n_requests >= self._limits.max_concurrent_requests:
            raise APIError(429, f"{self.n_requests} requests are under way, as many as this server takes: ask again later.",
                           code="too_many_requests", retry_after=1)  # fmt: skip
        if wait := self._wait(client, time.monotonic()):
            raise APIError(429, f"more than {self._limits.rate:g} requests a minute: ask again later.",
                           code="rate_limit_exceeded", retry_after=int(wait) + 1)  # fmt: skip
        self.n_requests += 1

    def leave(self) -> None:
        """A request is over."""
        self.n_requests -= 1

    def queue(self, n_tokens: int) -> "Ticket":
        """A prompt goes into the line.

        Raises:
            APIError: too many tokens wait.
        """
        if self.queued_tokens and self.queued_tokens + n_tokens > self._limits.max_queued_tokens:
            raise APIError(429, f"prompts of {self.queued_tokens:,} tokens wait: ask again later.",
                           code="queue_full", retry_after=2)  # fmt: skip
        self.queued_tokens += n_tokens
        return Ticket(self, n_tokens)

    def _wait(self, client: str, now: float) -> float:
        """Seconds until a client may ask; 0 takes a token of its bucket."""
        rate = self._limits.rate / 60
        if not rate:
            return 0.0
        full = max(1.0, self._limits.rate)
        left, since = self._buckets.pop(client, (full, now))
        left = min(full, left + (now - since) * rate)
        allowed = left >= 1
        self._buckets[client] = (left - allowed, now)
        if len(self._buckets) > _KNOWN_CLIENTS:
            self._buckets.popitem(last=False)
        return 0.0 if allowed else (1 - left) / rate


class Ticket:
    """A place in the line, given back once."""

    def __init__(self, admission: Admission, n_tokens: int):
        self._admission, self._n_tokens = admission, n_tokens

    def give_back(self) -> None:
        """Its first token has come, or nothing will."""
        self._admission.queued_tokens -= self._n_tokens
        self._n_tokens = 0

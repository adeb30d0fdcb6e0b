"""A server that speaks the OpenAI API, asked over HTTP: retries, a bound on what is asked at once, tokens counted.

The key is read from the environment and sent to the address that was named and to no other: redirects are refused.
"""

import email.utils
import http.client
import json
import os
import random
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from wenloom.core.errors import InputError, WenloomError, printable

KEY = "OPENAI_API_KEY"
"""The environment variable that holds the key."""
_PASSING = (408, 409, 429, 500, 502, 503, 504)
"""Statuses after which the same request may succeed."""
_TRIES = 6
_LONGEST_WAIT = 60.0
_ANSWER_BYTES = 2**26
_LINE_BYTES = 2**20
T = TypeVar("T")
R = TypeVar("R")


class EndpointError(WenloomError):
    """A server does not answer as it should.

    Args:
        status: of HTTP; 0 where there was no answer.
    """

    def __init__(self, message: str, status: int = 0):
        super().__init__(message)
        self.status = status


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *arguments: Any) -> None:
        return None


@dataclass
class TokenCount:
    """Tokens that a server has counted."""

    prompt: int = 0
    written: int = 0
    requests: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, usage: Any) -> None:
        """What an answer says of itself."""
        told = usage if isinstance(usage, Mapping) else {}
        with self._lock:
            self.requests += 1
            self.prompt += _whole(told.get("prompt_tokens"))
            self.written += _whole(told.get("completion_tokens"))


def _whole(value: Any) -> int:
    return value if isinstance(value, int) and value >= 0 else 0


@dataclass(frozen=True)
class Endpoint:
    """An address and the model that is asked there.

    Args:
        url: with the version, as in http://localhost:8000/v1.
        seconds: after which an answer counts as missing.
        at_once: requests under way at a time.
        wait: how a pause is made; tests make none.

    Raises:
        InputError: no address of HTTP.
    """

    url: str
    model: str
    seconds: float = 120.0
    at_once: int = 8
    key_variable: str = KEY
    wait: Callable[[float], object] = time.sleep
    count: TokenCount = field(default_factory=TokenCount)

    def __post_init__(self):
        if not self.url.startswith(("http://", "https://")):
            raise InputError(
                f"--api {printable(self.url, 200)}: an address beginning with http:// or https:// was expected."
            )
        if self.at_once < 1:
            raise InputError(f"--api-at-once {self.at_once}: at least 1.")

    def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Ask, again where that may help: after 408, 409, 429 and 5xx, and where nothing answers, up to six times, as late as the
        server says or twice as late each time.

        Args:
            path: below the address, such as chat/completions.

        Raises:
            EndpointError: no answer, a refusal, or an answer that is no JSON object.
        """
        with self._asked(path, body) as answer:
            data = answer.read(_ANSWER_BYTES + 1)
        try:
            found = json.loads(data) if len(data) <= _ANSWER_BYTES else None
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise EndpointError(f"{self.url}: {path} answered with something that is no JSON object.")
        self.count.add(found.get("usage"))
        return found

    def stream(self, path: str, body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """The events of an answer that comes bit by bit.

        Raises:
            EndpointError: see `post`; the server reports an error in the midst, or breaks off.
        """
        with self._asked(path, {**body, "stream": True}) as answer:
            while True:
                try:
                    line = answer.readline(_LINE_BYTES + 1)
                except (OSError, http.client.HTTPException) as error:
                    raise EndpointError(f"{self.url}: broke off ({printable(str(error), 200)}).") from None
                if not line:
                    raise EndpointError(f"{self.url}: broke off in the midst of its answer.")
                text = line.decode("utf-8", "replace").strip()
                if not text.startswith("data:"):
                    continue
                if text == "data: [DONE]":
                    self.count.add({})
                    return
                try:
                    event = json.loads(text[5:])
                except (ValueError, RecursionError):
                    event = None
                if not isinstance(event, dict):
                    raise EndpointError(f"{self.url}: sent an event that is no JSON object.")
                if "error" in event:
                    raise EndpointError(f"{self.url}: {_message(event)}.")
                yield event

    def together(
        self, ask: Callable[[T], R], things: Sequence[T], on_answer: Callable[[int], object] = lambda n: None
    ) -> list[R]:
        """Ask for many things, some at a time; answers in their order.

        Raises:
            EndpointError: see `post`; what was not begun is not asked.
        """

        def one(thing: T) -> R:
            found = ask(thing)
            on_answer(1)
            return found

        with ThreadPoolExecutor(self.at_once) as pool:
            waiting = [pool.submit(one, each) for each in things]
            try:
                return [each.result() for each in waiting]
            except BaseException:
                for each in waiting:
                    each.cancel()
                raise

    @contextmanager
    def _asked(self, path: str, body: Mapping[str, Any]) -> Iterator[http.client.HTTPResponse]:
        headers = {"Content-Type": "application/json", "User-Agent": "wenloom"}
        if key := os.environ.get(self.key_variable):
            headers["Authorization"] = f"Bearer {key}"
        request = urllib.request.Request(
            f"{self.url.rstrip('/')}/{path}", json.dumps({"model": self.model, **body}).encode(), headers
        )
        with self._opened(request) as answer:
            yield answer

    def _opened(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        opener = urllib.request.build_opener(_NoRedirect)
        for attempt in range(1, _TRIES + 1):
            try:
                return opener.open(request, timeout=self.seconds)
            except urllib.error.HTTPError as error:
                if error.code not in _PASSING or attempt == _TRIES:
                    raise EndpointError(f"{self.url}: {_refusal(error)}.", error.code) from None
                pause = _retry_after(error.headers.get("Retry-After"))
            except (OSError, http.client.HTTPException) as error:
                if attempt == _TRIES or isinstance(getattr(error, "reason", error), ConnectionRefusedError):
                    raise EndpointError(f"{self.url}: cannot be reached ({printable(str(error), 200)}).") from None
                pause = None
            self.wait(min(_LONGEST_WAIT, 0.5 * 2**attempt * random.uniform(0.75, 1.25) if pause is None else pause))
        raise AssertionError("the last try returns or raises")


def _retry_after(header: str | None) -> float | None:
    """Seconds that a server asks for: a number, or a date.

    >>> _retry_after("3"), _retry_after("soon"), _retry_after(None)
    (3.0, None, None)
    """
    if header is None:
        return None
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(header).timestamp() - time.time())
    except (ValueError, TypeError):
        return None


def _refusal(error: urllib.error.HTTPError) -> str:
    if 300 <= error.code < 400:
        return f"redirects ({error.code}) to {printable(str(error.headers.get('Location')), 200)}; name that address with --api"
    try:
        said = _message(json.loads(error.read(2**20)))
    except (ValueError, OSError, RecursionError):
        said = printable(str(error.reason), 200)
    hint = f" (the key is read from the variable {KEY})" if error.code in (401, 403) else ""
    return f"answered with {error.code}: {said}{hint}"


def _message(answer: Any) -> str:
    """The sentence of an error in OpenAI's form."""
    error = answer.get("error", answer) if isinstance(answer, dict) else answer
    text = error.get("message", error) if isinstance(error, dict) else error
    return printable(str(text), 500).rstrip(".")

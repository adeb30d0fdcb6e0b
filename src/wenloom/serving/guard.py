"""Who is let in: every request passes here first, and what is not open asks for a key."""

import ipaddress
import re
from collections.abc import Callable, Mapping
from time import monotonic
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from wenloom.core.errors import printable
from wenloom.serving.admission import Admission
from wenloom.serving.errors import APIError
from wenloom.serving.keys import Keys
from wenloom.serving.log import AccessLog, Entry
from wenloom.serving.metrics import Metrics
from wenloom.serving.settings import ServerSettings

OPEN = frozenset(["/healthz", "/readyz"])
"""What machines that watch may ask without a key; neither says more than a word."""
_REQUEST_ID = re.compile(r"[\w.:-]{1,64}", re.ASCII)


class Guard:
    """Checks host, origin, key and bounds of a request, logs it, and passes it on.

    Args:
        app: what answers.
        keys: None: whoever reaches the server may ask.
        routes: the name of a path's route, for the counters.
    """

    def __init__(
        self,
        app: ASGIApp,
        settings: ServerSettings,
        keys: Keys | None,
        admission: Admission,
        metrics: Metrics,
        log: AccessLog,
        routes: Callable[[str], str],
    ):
        self._app, self._settings, self._keys, self._routes = app, settings, keys, routes
        self._admission, self._metrics, self._log = admission, metrics, log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return  # a WebSocket that nobody accepts is closed
        headers = Headers(scope=scope)
        entry = Entry(deadline=monotonic() + self._settings.limits.deadline, method=scope["method"], path=scope["path"])
        if _REQUEST_ID.fullmatch(asked := headers.get("x-request-id", "")):
            entry.id = asked
        if self._settings.running.log_prompts:
            entry.body = ""
        scope["wenloom.entry"] = entry

        async def noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                entry.status = message["status"]
                added = MutableHeaders(scope=message)
                added["x-request-id"] = entry.id
                added["openai-processing-ms"] = str(round((monotonic() - entry.began) * 1000))
            await send(message)

        is_inside = False
        answer: Send = noted
        try:
            self._check_host(headers)
            origin = self._check_origin(headers)
            if scope["method"] == "OPTIONS" and origin is not None:
                await _preflight(origin)(scope, receive, noted)
                return
            if origin is not None:
                answer = _with_origin(noted, origin)
            entry.client = self._check_key(scope, headers)
            if scope["path"].startswith("/v1/") and scope["method"] == "POST":
                self._admission.enter(entry.client)
                is_inside = True
            await self._app(scope, receive, answer)
        except APIError as error:
            entry.refuse(error)
            if not entry.status:
                await error.response()(scope, receive, answer)
        finally:
            if is_inside:
                self._admission.leave()
            entry.release()
            route = self._routes(entry.path)
            if entry.reason is not None:
                self._metrics.refusals.labels(entry.reason).inc()
            self._metrics.requests.labels(route, str(entry.status)).inc()
            self._metrics.whole.labels(route).observe(monotonic() - entry.began)
            if entry.path not in OPEN:  # which is asked all the time
                self._log.write(entry)

    def _check_host(self, headers: Mapping[str, str]) -> None:
        """A page of somebody's whose name leads to this machine (DNS rebinding) sends its own name here."""
        allowed = {"localhost", self._settings.access.host, *self._settings.access.allow_host}
        name = _host_name(headers.get("host", ""))
        if "*" not in allowed and name not in allowed and not _is_address(name):
            raise APIError(403, f"Host {printable(name, 100)} is not answered here; --allow-host names more.",
                           code="host_not_allowed")  # fmt: skip

    def _check_origin(self, headers: Mapping[str, str]) -> str | None:
        """The page that asks, where one of another origin does."""
        origin = headers.get("origin")
        if origin is None or urlsplit(origin).netloc == headers.get("host"):
            return None
        if not {"*", origin} & set(self._settings.access.allow_origin):
            raise APIError(403, f"pages of {printable(origin, 100)} may not ask; --allow-origin names those that may.",
                           code="origin_not_allowed")  # fmt: skip
        return origin

    def _check_key(self, scope: Scope, headers: Mapping[str, str]) -> str:
        """Who asks."""
        address = scope["client"][0] if scope.get("client") else "local"
        if self._keys is None or scope["path"] in OPEN:
            return address
        scheme, _, key = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not key:
            raise APIError(401, "You didn't provide an API key: send it as Authorization: Bearer KEY.", code="missing_api_key")  # fmt: skip
        name = self._keys.name_of(key.strip())
        if name is None:
            raise APIError(401, "Incorrect API key provided.", code="invalid_api_key")
        return name


def _host_name(host: str) -> str:
    """The name in a Host header, without its port."""
    bare = host.rsplit("]", 1)[0].lstrip("[") if host.startswith("[") else host.rsplit(":", 1)[0]
    return bare.lower().rstrip(".")


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _with_origin(send: Send, origin: str) -> Send:
    async def with_header(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers["access-control-allow-origin"] = origin
            headers.append("vary", "Origin")
        await send(message)

    return with_header


def _preflight(origin: str) -> ASGIApp:
    """What a browser asks before it lets a page of an allowed origin ask."""
    return Response(status_code=204, headers={
        "access-control-allow-origin": origin, "access-control-allow-methods": "GET, POST",
        "access-control-allow-headers": "authorization, content-type, x-request-id", "access-control-max-age": "600",
        "vary": "Origin",
    })  # fmt: skip

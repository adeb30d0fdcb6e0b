"""The server as a deployment of Ray Serve: replicas of the same app on the machines of a cluster, behind one address.

Ray starts replicas, counts what waits for each, and starts more or fewer. In front of them one light app per machine reads a request's
body and asks for the replica whose cache has read the same beginning before (consistent hashing).
"""

import asyncio
import hashlib
import importlib
import json
import signal
import threading
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.types import Message, Receive, Scope, Send

from wenloom.core.console import remark
from wenloom.core.errors import InputError, WenloomError, printable
from wenloom.serving.app import create_app
from wenloom.serving.models import Loaded, Models
from wenloom.serving.settings import ServerSettings

APP = "wenloom"
_ANSWERING = "Answering"
_ROUTER = "ray.serve.experimental.consistent_hash_router:ConsistentHashRouter"
_BEGINNING = 256
"""Characters of a text by which requests with one beginning are known."""
_STOPPING = 30.0
"""Seconds that Ray may take to stop replicas that have nothing left to do."""
_PASSED_ON = ("type", "asgi", "http_version", "method", "scheme", "path", "raw_path", "query_string", "root_path", "headers", "client", "server")  # fmt: skip


@dataclass(frozen=True)
class Replicas:
    """How many there are."""

    fewest: int = 1
    most: int = 1
    under_way: int = 8
    """Requests, waiting ones included, of each replica on average, above which more are started."""

    def __post_init__(self):
        if not 1 <= self.fewest <= self.most:
            raise InputError(
                f"--replicas {self.fewest} to --most-replicas {self.most}: must be at least 1, and not fall."
            )


def beginning_of(path: str, body: bytes) -> str:
    """What requests share that begin alike: model, and the beginning of the text or the turns up to the first user's; empty for
    none.

    >>> beginning_of("/v1/completions", b'{"prompt": "a"}') == beginning_of("/v1/completions", b'{"prompt": "a", "n": 2}')
    True
    """
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    if not isinstance(document, dict):
        return ""
    said: Any = [document.get(name) for name in ("model", "instructions", "prompt", "input", "messages")]
    turns = next((each for each in said if isinstance(each, list) and each and isinstance(each[0], dict)), None)
    if turns is None:
        said = [str(each)[:_BEGINNING] for each in said]
    else:
        first = next((n for n, each in enumerate(turns) if isinstance(each, dict) and each.get("role") == "user"), 0)
        said = [said[0], said[1], turns[: first + 1]]
    return hashlib.sha256(repr((path, said)).encode("utf-8", "replace")).hexdigest()[:32]


class Answering:
    """A replica: the whole server but for its socket.

    Args:
        loaders: what loads each model, by its name.
    """

    async def __init__(self, loaders: Mapping[str, Callable[[], Loaded]], settings: ServerSettings):
        self._models = Models(loaders)
        self._app = create_app(self._models, settings)
        await self._models.load()
        self._name = importlib.import_module("ray").serve.get_replica_context().replica_id.unique_id

    async def answer(self, scope: dict[str, Any], body: bytes) -> AsyncGenerator[Message, None]:
        """What the app sends; cancelled where nobody waits for it any more."""
        sent: asyncio.Queue[Message | None] = asyncio.Queue()
        is_read = False

        async def receive() -> Message:
            nonlocal is_read
            if is_read:
                await asyncio.Event().wait()
            is_read = True
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], (b"x-replica", self._name.encode())]}
            await sent.put(message)

        work = asyncio.ensure_future(self._app(scope, receive, send))
        work.add_done_callback(lambda _: sent.put_nowait(None))
        try:
            while (message := await sent.get()) is not None:
                yield message
        finally:
            work.cancel()
            await asyncio.wait([work])
        if not work.cancelled():
            work.result()

    def __del__(self):
        self._models.close()


def front_app(handle: Any, most_bytes: int) -> Callable[[Scope, Receive, Send], Any]:
    """What reads bodies and passes requests on.

    Args:
        handle: of the replicas.
        most_bytes: of a body; a replica refuses what is longer.
    """

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            for _ in range(2):
                await send({"type": f"{(await receive())['type']}.complete"})
            return
        if scope["type"] != "http":
            return
        body = await _read(receive, most_bytes)
        if body is None:
            return
        session = beginning_of(scope["path"], body)
        kept = {name: scope[name] for name in _PASSED_ON if name in scope}
        messages = handle.options(stream=True, **({"session_id": session} if session else {})).answer.remote(kept, body)
        watch = asyncio.ensure_future(_disconnected(receive, messages.cancel))
        try:
            async for message in messages:
                await send(message)
        finally:
            watch.cancel()

    return app


async def _read(receive: Receive, most_bytes: int) -> bytes | None:
    parts, size = [], 0
    while size <= most_bytes:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if not message.get("more_body"):
            break
    return b"".join(parts)


async def _disconnected(receive: Receive, cancel: Callable[[], None]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    cancel()


def deployment(
    loaders: Mapping[str, Callable[[], Loaded]], settings: ServerSettings, replicas: Replicas, on_gpu: bool
) -> Any:
    """The application for `ray.serve.run`.

    Args:
        on_gpu: whether each replica has a GPU of its own.
    """
    serve = importlib.import_module("ray.serve")
    config = importlib.import_module("ray.serve.config")
    limits = settings.limits
    most_bytes = int(1e6 * max(limits.max_body_mb, limits.max_audio_mb))

    def build() -> Callable[[Scope, Receive, Send], Any]:
        return front_app(
            importlib.import_module("ray.serve").get_deployment_handle(_ANSWERING, app_name=APP), most_bytes
        )

    answering = serve.deployment(
        Answering, name=_ANSWERING, max_ongoing_requests=limits.max_concurrent_requests,
        graceful_shutdown_timeout_s=settings.running.drain, ray_actor_options={"num_cpus": 1, "num_gpus": int(on_gpu)},
        request_router_config=config.RequestRouterConfig(request_router_class=_ROUTER),
        autoscaling_config={"min_replicas": replicas.fewest, "max_replicas": replicas.most, "target_ongoing_requests": replicas.under_way},
    )  # fmt: skip
    front = serve.deployment(
        serve.ingress(build)(), name="Front", num_replicas=1, max_ongoing_requests=10_000, ray_actor_options={"num_cpus": 0},
        graceful_shutdown_timeout_s=settings.running.drain,
    )  # fmt: skip
    return front.bind(answering.bind(dict(loaders), settings))


def serve_on_ray(
    loaders: Mapping[str, Callable[[], Loaded]], settings: ServerSettings, replicas: Replicas, on_gpu: bool = False
) -> None:
    """Answer requests by replicas on the cluster that RAY_ADDRESS names (none: this machine), until a signal comes.

    Raises:
        InputError: Ray is missing.
        WenloomError: it does not answer, or a replica cannot be started.
    """
    try:
        ray, serve = importlib.import_module("ray"), importlib.import_module("ray.serve")
    except ModuleNotFoundError as error:
        raise InputError(f"--on ray needs {error.name}: pip install 'wenloom[serve,ray]'.") from None
    asked, urged = threading.Event(), threading.Event()
    access = settings.access
    try:
        if not ray.is_initialized():
            ray.init(log_to_driver=False, logging_level="ERROR")
        # Only now: `ray.init` installs a handler of its own, which ends the process at once.
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, lambda *_: (urged if asked.is_set() else asked).set())
        serve.start(http_options={"host": access.host, "port": access.port})
        remark(f"Starting {replicas.fewest} replicas on Ray: {', '.join(loaders)} ...")
        serve.run(deployment(loaders, settings, replicas, on_gpu), name=APP, route_prefix="/")
    except Exception as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise WenloomError(f"--on ray: {printable(first, 300)}; see RAY_ADDRESS and `serve status`.") from None
    remark(f"Ready. Clients of the OpenAI API take base_url=http://{access.host}:{access.port}/v1")
    asked.wait()
    remark("(requests under way are finished; another signal ends them)")
    # Replicas end what they have begun; `shutdown` alone would take the proxy away from them.
    serve.delete(APP, _blocking=False)
    end = time.monotonic() + settings.running.drain + _STOPPING
    while APP in serve.status().applications and time.monotonic() < end and not urged.wait(0.2):
        pass
    serve.shutdown()

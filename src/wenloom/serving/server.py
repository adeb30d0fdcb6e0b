"""The process: a socket, models that load while it listens, signals, and one live line in the terminal."""

import asyncio
import contextlib
import functools
import signal
import socket
import sys
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any

import uvicorn
from rich.live import Live
from rich.text import Text

from wenloom.api import LanguageModel
from wenloom.core.console import remark, remarks
from wenloom.core.errors import InputError
from wenloom.runtime.embedder import Embedder
from wenloom.serving.app import create_app
from wenloom.serving.log import AccessLog
from wenloom.serving.models import Models
from wenloom.serving.settings import Access, ServerSettings
from wenloom.tasks.speech.transcriber import Transcriber

_HEADERS_BYTES = 64 * 1024
"""Size of a request's line and headers."""


class _Server(uvicorn.Server):
    """Drains at the first signal, and ends at once at the second, whichever they are."""

    def handle_exit(self, sig: int, frame: Any) -> None:
        if self.should_exit:
            self.force_exit = True
        else:
            remark(f"({signal.Signals(sig).name}: requests under way are finished; once more ends them)")
        self.should_exit = True


def serve(
    loaders: Mapping[str, Callable[[], LanguageModel | Embedder | Transcriber]], settings: ServerSettings
) -> None:
    """Answer requests until a signal comes.

    Args:
        loaders: what loads each model, by its name.

    Raises:
        InputError: the address cannot be bound, or keys or a model cannot be used.
    """
    models, failures = Models(loaders), []
    listening = listen(settings.access)
    with contextlib.ExitStack() as stack:
        stack.enter_context(listening)
        log = AccessLog(_log_file(settings, stack))

        @contextlib.asynccontextmanager
        async def lifespan(_: Any) -> AsyncGenerator[None, None]:
            loading = asyncio.create_task(_load(models, address, server, failures))
            shown = asyncio.create_task(_live_line(models, address))
            yield
            loading.cancel()
            shown.cancel()
            await asyncio.gather(shown, return_exceptions=True)
            models.close()

        app = create_app(models, settings, log, lifespan)
        # without log_config=None uvicorn closes every handler of this process's logging, and with it their streams
        config = uvicorn.Config(
            app, http="h11", ws="none", log_config=None, log_level="error", access_log=False, server_header=False, proxy_headers=False,
            timeout_graceful_shutdown=max(1, round(settings.running.drain)), h11_max_incomplete_event_size=_HEADERS_BYTES,
        )  # fmt: skip
        server = _Server(config)
        host, port = listening.getsockname()[:2]
        address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        remark(f"Listening at {address} (Ctrl-C ends); loading {', '.join(loaders)} ...")
        with contextlib.suppress(KeyboardInterrupt):  # which uvicorn raises again when it is done
            server.run(sockets=[listening])
    if failures:
        raise failures[0]


async def _load(models: Models, address: str, server: uvicorn.Server, failures: list[BaseException]) -> None:
    try:
        await models.load()
    except asyncio.CancelledError:
        raise
    except BaseException as error:
        failures.append(error)
        server.should_exit = True
        return
    names = ", ".join(each.name for each in models)
    remark(f"Ready: {names}. Clients of the OpenAI API take base_url={address}/v1")


def listen(access: Access) -> socket.socket:
    """A socket at the address.

    What is written goes out at once: asyncio sees to that only where a socket names its protocol, which those of
    `create_server` do not, and each answer on an open connection then waits 40 ms for an acknowledgement (Nagle 1984).

    Raises:
        InputError: it cannot be bound.
    """
    host, port = access.host, access.port
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.create_server((host, port), family=family, backlog=512)
    except OSError as error:
        raise InputError(f"{host}, port {port}: cannot listen there ({error.strerror or error}); --port takes another.") from None  # fmt: skip
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # those that it accepts have it from it
    listening.set_inheritable(False)
    return listening


def _log_file(settings: ServerSettings, stack: contextlib.ExitStack) -> Any:
    path = settings.running.access_log
    if path is None:
        return None if sys.stdout.isatty() else sys.stdout
    try:
        return stack.enter_context(path.open("a", encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}).") from None


def _fitted(address: str, parts: list[str], width: int) -> str:
    """As many parts as a line holds, the first before the others, and the address, which was said before, where room is left.

    >>> _fitted("http://127.0.0.1:8000", ["2 written", "0 waiting", "3 MB of keys and values"], 60)
    '2 written   0 waiting   3 MB of keys and values'
    """
    while len(parts) > 1 and len(_BETWEEN.join(parts)) >= width:
        parts = parts[:-1]
    line = _BETWEEN.join(parts)
    whole = f"{address}{_BETWEEN}{line}"
    return whole if len(whole) < width else line


_BETWEEN = 3 * " "


async def _live_line(models: Models, address: str) -> None:
    """What is under way, once a second, where somebody watches."""
    if not remarks.is_terminal:
        return
    with Live(Text(""), console=remarks, auto_refresh=False, transient=True) as live:
        while True:
            loads = [each.model.engine.load for each in models.writers]
            total = functools.partial(lambda name, loads: sum(getattr(each, name) for each in loads), loads=loads)
            line = _fitted(address, [f"{total('running')} written", f"{total('waiting')} waiting",
                                     f"{total('cache_bytes') / 2**20:,.0f} MB of keys and values"], remarks.width)  # fmt: skip
            live.update(Text(line, style="dim", no_wrap=True), refresh=True)
            await asyncio.sleep(1)

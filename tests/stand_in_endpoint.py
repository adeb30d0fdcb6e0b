"""A server of the OpenAI API that answers what a test wants."""

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class StandIn(ThreadingHTTPServer):
    """Answers what stands in `script`, one entry a request; the last for all further ones."""

    script: list[tuple[int, dict[str, str], bytes]]
    seen: list[tuple[str, dict[str, Any], str | None]]


class _Handler(BaseHTTPRequestHandler):
    server: StandIn  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.seen.append((self.path, body, self.headers.get("Authorization")))
        status, headers, data = self.server.script.pop(0) if len(self.server.script) > 1 else self.server.script[0]
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *arguments: Any) -> None:
        return


@contextlib.contextmanager
def standing_in() -> Iterator[StandIn]:
    """Run one at a port of its own."""
    server = StandIn(("127.0.0.1", 0), _Handler)
    server.script, server.seen = [GOOD], []
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def url(server: StandIn) -> str:
    return f"http://127.0.0.1:{server.server_address[1]}/v1"


GOOD = (200, {}, b'{"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}')

"""A hub on this machine: the few answers that a download needs, and commands that ask it."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Literal

NAME = "me/tiny"
"""Of the one repository that the hub has."""


@dataclass
class Hub:
    """Where it answers, and the paths that it was asked for."""

    endpoint: str
    asked: list[str] = field(default_factory=list)


@contextmanager
def stand_in_hub(kind: Literal["models", "datasets"], files: Mapping[str, bytes]) -> Iterator[Hub]:
    """Serve one repository of these files under `NAME`, until the end of the block."""
    resolve = f"/{'datasets/' if kind == 'datasets' else ''}{NAME}/resolve/"

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, body: bool) -> None:
            hub.asked.append(self.path)
            path = self.path.partition("?")[0]
            status, data, headers = 200, b"", {"X-Repo-Commit": "c" * 40}
            if path.startswith(f"/api/{kind}/{NAME}"):
                tree = [
                    {"type": "file", "path": name, "size": len(content), "oid": "0" * 40}
                    for name, content in files.items()
                ]
                about = {"id": NAME, "sha": "c" * 40, "siblings": [{"rfilename": name} for name in files]}
                data = json.dumps(tree if "/tree/" in path else about).encode()
                headers["Content-Type"] = "application/json"
            elif path.startswith(resolve):
                data = files[path.removeprefix(resolve).partition("/")[2]]
                headers["ETag"] = f'"{hashlib.sha256(data).hexdigest()}"'
            else:
                status, headers = 404, {"X-Error-Code": "RepoNotFound"}
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if body:
                self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub = Hub(f"http://127.0.0.1:{server.server_port}")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


def run_asking(endpoint: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command in a process of its own, in a folder that also holds its cache, whose hub is this one."""
    environment = os.environ | {"HF_ENDPOINT": endpoint, "HF_HOME": str(folder / "cache"), "HF_HUB_DISABLE_XET": "1",
                                "NO_PROXY": "127.0.0.1"}  # fmt: skip
    return subprocess.run([sys.executable, "-m", "wenloom", *arguments], env=environment, capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, cwd=folder, check=False)  # fmt: skip

"""Programs that run what a page holds, where the machine has them."""

import shutil
import subprocess
from pathlib import Path

import pytest

NODE = shutil.which("node")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_node = pytest.mark.skipif(NODE is None, reason="node is not on this machine")
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not on this machine")


def node(*arguments: object) -> str:
    """What a program prints."""
    done = subprocess.run([str(NODE), *map(str, arguments)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def dom(page: str, folder: Path, script: str = "", width: int = 1000) -> str:
    """The page's HTML after its scripts, and one more, ran; a window is at least 500 pixels wide."""
    added = f"<script>addEventListener('load', () => {{ {script} }});</script></body>"
    (folder / "page.html").write_text(page.replace("</body>", added), encoding="utf-8")
    done = subprocess.run(
        [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
         f"--user-data-dir={folder / 'profile'}", f"--window-size={width},900", "--virtual-time-budget=2000", "--dump-dom",
         (folder / "page.html").as_uri()], capture_output=True, timeout=120,
    )  # fmt: skip
    return done.stdout.decode("utf-8")

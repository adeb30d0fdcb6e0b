"""What a person sees: results on standard output, progress and remarks on standard error.

Standard output carries only what was asked for, so that it can be piped.
"""

import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class _Console(Console):
    """Leaves it to the command line what a reader that went away means, and names itself where it takes no more."""

    def on_broken_pipe(self) -> None:
        raise

    def print(self, *objects: Any, **options: Any) -> None:
        try:
            super().print(*objects, **options)
        except OSError as error:
            error.filename = error.filename or f"standard {'error' if self.stderr else 'output'}"
            raise


_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""All but the end of a line and the tabulator."""

out = _Console(highlight=False)
remarks = _Console(stderr=True, highlight=False)


def silence() -> None:
    """Say nothing more in this process, but errors: one of many speaks for all."""
    out.quiet = remarks.quiet = True


def say(text: str) -> None:
    """Print lines of a result as they are, never wrapped (a path or command must stay whole)."""
    out.print(_whole(text), markup=False, soft_wrap=True)


def remark(text: str) -> None:
    """Say one line about what is being done, on standard error."""
    remarks.print(_whole(text), markup=False, soft_wrap=True)


def _whole(text: str) -> str:
    """Half surrogates and control characters, which names of files may hold, as escapes: no terminal takes the ones,
    and each obeys the others."""
    escaped = _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
    return escaped.encode("utf-8", "backslashreplace").decode()


def print_json(value: Any) -> None:
    """Print one JSON document on standard output, Chinese as Chinese (as escapes, where the output takes no UTF-8)."""
    if not out.quiet:
        escaped = not (sys.stdout.encoding or "").lower().startswith("utf")
        text = json.dumps(value, ensure_ascii=escaped, indent=2)
        sys.stdout.write(text.encode("utf-8", "backslashreplace").decode() + "\n")


@contextmanager
def progress(label: str, total: float | None, unit: str = "") -> Iterator["ProgressBar"]:
    """A bar with rate and time left on standard error; a pipe gets one line at the end instead."""
    columns = [
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn(" {task.fields[status]}"),
    ]
    with Progress(*columns, console=remarks, transient=False, disable=not remarks.is_terminal) as bar:
        yield ProgressBar(bar, bar.add_task(label, total=total, status=""), unit)


class ProgressBar:
    """The handle that `progress` yields."""

    def __init__(self, bar: Progress, task: Any, unit: str):
        self._bar, self._task, self._unit = bar, task, unit

    def advance(self, amount: float = 1, status: str = "") -> None:
        """Move forward by `amount`; `status` stands behind the bar."""
        task = self._bar.tasks[0]
        if not status and self._unit and task.speed:
            status = f"{task.speed:,.1f} {self._unit}/s"
        self._bar.update(self._task, advance=amount, status=status or task.fields["status"])

    def print(self, text: str) -> None:
        """Say a line above the bar (also where there is no bar)."""
        remark(text)

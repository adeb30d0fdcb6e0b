"""What long work says of itself: on a terminal a line that fits, elsewhere a plain line now and then.

The order of importance: the part that is done, how many of how many, the time left, the first figures (of a training: loss
and bits per byte), what is done, further figures, a bar. What does not fit is left out as a whole.
"""

import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.text import Text

from wenloom.core.console import remark, remarks
from wenloom.core.quantities import show_bytes, show_count, show_duration

_WORTH_SAYING = 2.0
"""Seconds from which work says where no terminal shows it that it is under way."""
_SAID_AFTER = (_WORTH_SAYING, 15.0, 60.0)
"""Seconds after which it says so, and then every so many seconds as the last of them."""
_PLAIN_WIDTH = 140
_GAP = 2
_BAR = range(10, 25)
"""Columns that a bar may have."""


class Field(NamedTuple):
    """A part of the line, in whole words."""

    text: str
    importance: int
    """0 for the most important."""
    short: str = ""
    """What stands there where room is scarce; nothing: the same."""


def fitted(fields: Sequence[Field], width: int, needed: int = 4) -> str:
    """As many fields as fit into so many columns, the most important ones; short forms where the `needed` first would not.

    >>> fields = [Field("Training", 3), Field("14 % done", 0), Field("step 14 of 100", 1, "14/100")]
    >>> fitted(fields, 40), fitted(fields, 30), fitted(fields, 20), fitted(fields, 10)
    ('Training  14 % done  step 14 of 100', 'Training  14 % done  14/100', '14 % done  14/100', '14 % done')
    """
    ranked = sorted(fields, key=lambda field: field.importance)
    if _columns([field.text for field in ranked[:needed]]) > width:
        fields = [field._replace(text=field.short or field.text) for field in fields]
        ranked = sorted(fields, key=lambda field: field.importance)
    count = next((n for n in range(len(ranked), 1, -1) if _columns([each.text for each in ranked[:n]]) <= width), 1)
    shown = ranked[:count]
    return (" " * _GAP).join(field.text for field in fields if field in shown)


def _columns(texts: Sequence[str]) -> int:
    return sum(map(cell_len, texts)) + _GAP * (len(texts) - 1)


class ProgressBar:
    """One piece of work that is under way.

    Args:
        total: how much there is to do; None where nobody knows.
        unit: what is counted: "bytes", "steps" or any other plural; empty where the numbers tell nothing.
    """

    def __init__(self, label: str, total: float | None, unit: str, clock: Callable[[], float] = time.monotonic):
        self.label, self.total, self.unit, self._clock = label, total, unit, clock
        self.started, self.done = clock(), 0.0
        self._before = 0.0
        self._figures: list[str] = []
        self._left: float | None = None

    def advance(self, amount: float = 1, status: str = "") -> None:
        """Move forward by `amount`; `status` stands behind the numbers."""
        self.done += amount
        if status:
            self._figures = [status]

    def begin_at(self, done: float) -> None:
        """What was done before, and does not count for the speed."""
        self.done = self._before = done

    def tell(self, figures: Sequence[str], left: float | None = None) -> None:
        """Figures, the most important first, and the seconds left where the caller knows better than the speed."""
        self._figures, self._left = list(figures), left

    def print(self, text: str) -> None:
        """Say a line above the bar (also where there is no bar)."""
        remark(text)

    @property
    def seconds(self) -> float:
        """Since it began."""
        return self._clock() - self.started

    def line(self, width: int, bar: bool = True) -> str:
        """What is shown in so many columns."""
        fields = self._fields()
        text = fitted(fields, width)
        room = width - cell_len(text) - _GAP
        if not bar or not self.total or room < _BAR[0] or self.label not in text:
            return text
        drawn = _drawn_bar(self.done / self.total, min(room, _BAR[-1]))
        return text.replace(self.label, f"{self.label}{' ' * _GAP}{drawn}", 1)

    def _fields(self) -> list[Field]:
        fields = [Field(self.label, 3 + min(2, len(self._figures)))]
        speed = (self.done - self._before) / self.seconds if self.seconds > 0 else 0.0
        if self.total:
            done = min(1.0, self.done / self.total)
            fields.append(Field(f"{int(100 * done + 1e-9)} % done", 0))
            if self.unit == "steps":
                fields.append(
                    Field(f"step {self.done:,.0f} of {self.total:,.0f}", 1, f"{self.done:,.0f}/{self.total:,.0f}")
                )
            elif self.unit:
                fields.append(Field(f"{self._amount(self.done)} of {self._amount(self.total)}{self._plural}", 1))
            left = self._left
            if left is None and speed > 0:
                left = (self.total - self.done) / speed
            if left is not None and done < 1:
                fields.append(Field(f"{show_duration(max(1.0, left))} left", 2))
            elif done >= 1:
                fields.append(Field(f"took {show_duration(max(1.0, self.seconds))}", 2))
        else:
            fields.append(Field(show_duration(max(1.0, self.seconds)), 1))
            if self.unit and self.done:
                fields.append(Field(f"{self._amount(self.done)}{self._plural}", 2))
        fields += [Field(text, 3 + number if number < 2 else 4 + number) for number, text in enumerate(self._figures)]
        if speed > 0 and self.unit not in ("", "steps"):
            fields.append(
                Field(f"{show_bytes(speed) if self.unit == 'bytes' else show_count(speed)}{self._plural}/s", 9)
            )
        return fields

    def _amount(self, number: float) -> str:
        return show_bytes(number) if self.unit == "bytes" else f"{number:,.0f}"

    @property
    def _plural(self) -> str:
        return "" if self.unit == "bytes" else f" {self.unit}"


def _drawn_bar(part: float, columns: int) -> str:
    filled = round(min(1.0, part) * columns)
    return ("━" * filled + "╌" * (columns - filled)) if _is_utf8() else "#" * filled + "-" * (columns - filled)


def _is_utf8() -> bool:
    return remarks.encoding.lower().startswith("utf")


class _Display:
    """The lines of what is under way, the outermost first; nobody's while nothing is."""

    def __init__(self) -> None:
        self.bars: list[ProgressBar] = []
        self._live: Live | None = None
        self._ended = threading.Event()
        self._teller: threading.Thread | None = None

    def push(self, bar: ProgressBar) -> None:
        self.bars.append(bar)
        if len(self.bars) > 1 or remarks.quiet:
            return
        if remarks.is_terminal:
            is_shown_there = sys.stdout.isatty()  # what a pipe reads is not for the terminal
            self._live = Live(
                self, console=remarks, refresh_per_second=5, transient=True, redirect_stdout=is_shown_there
            )
            self._live.start()
        else:
            self._ended.clear()
            self._teller = threading.Thread(target=self._tell, daemon=True, name="progress")
            self._teller.start()

    def pop(self, bar: ProgressBar) -> None:
        self.bars.remove(bar)
        if self.bars:
            return
        if self._live is not None:
            self._live.stop()
        if self._teller is not None:
            self._ended.set()
            self._teller.join()
        self._live = self._teller = None
        if bar.total and (remarks.is_terminal or bar.seconds >= _WORTH_SAYING):
            remark(bar.line(min(remarks.width, 100) if remarks.is_terminal else _PLAIN_WIDTH, bar=False))

    def _tell(self) -> None:
        """Say now and then what is under way, where no terminal shows it."""
        said = 0
        while not self._ended.wait(0.2):
            bars = self.bars[-1:]
            if bars and bars[0].seconds >= self._due(said):
                remark(bars[0].line(_PLAIN_WIDTH, bar=False))
                said += 1

    @staticmethod
    def _due(said: int) -> float:
        last = len(_SAID_AFTER) - 1
        return _SAID_AFTER[min(said, last)] + max(0, said - last) * _SAID_AFTER[-1]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = options.max_width - 2  # a spinner stands before the line
        frames = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏" if _is_utf8() else "|/-\\"
        spinner = frames[int(time.monotonic() * 5) % len(frames)]
        for bar in list(self.bars):
            yield Text(f"{spinner} {bar.line(width)}", no_wrap=True, overflow="ignore")


_DISPLAY = _Display()


@contextmanager
def progress(label: str, total: float | None = None, unit: str = "") -> Iterator[ProgressBar]:
    """Show work while it is under way: its label, and where `total` says how much there is, how far it is.

    Inside other work it has a line of its own below that of the other.
    """
    bar = ProgressBar(label, total, unit)
    _DISPLAY.push(bar)
    try:
        yield bar
    finally:
        _DISPLAY.pop(bar)

"""A line chart for a page: the figures that templates/chart.js draws, and the same drawn once for readers without it."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

from wenloom.core.pages.smoothing import smoothed
from wenloom.core.pages.ticks import duration_ticks, short, short_date, short_duration, ticks

N_COLOURS = 8
"""Of series (style.css: --s0 to --s7); a ninth takes the first again, dashed."""
MOST_POINTS = 600
"""Of a series; of more, neighbours are put together, with the lowest and highest value among them."""
SMOOTHING = 0.05
"""Part of a curve over which it is smoothed, unless a reader chooses otherwise."""

Kind = Literal["number", "duration", "date"]
_WRITTEN: dict[Kind, tuple[Callable[[float, float, int], list[float]], Callable[[float], str]]] = {
    "number": (ticks, short),
    "duration": (duration_ticks, short_duration),
    "date": (ticks, short_date),
}


@dataclass(frozen=True)
class Axis:
    """What is counted along the x axis: numbers, seconds, or years."""

    label: str
    kind: Kind = "number"


@dataclass(frozen=True)
class Series:
    """One curve.

    Args:
        rows: x by every axis of the chart, then y. Rows with a number that is not finite are left out.
        colour: which of the page's colours.
        style: a line, a line with a dot for each value, dots alone, or a line that keeps a value until the next.
        is_noisy: draw it smoothed, with what was smoothed faintly behind.
        labels: what a reader sees of each point, of dots alone.
    """

    name: str
    rows: Sequence[tuple[float, ...]]
    colour: int = 0
    style: Literal["line", "dotted", "dots", "steps"] = "line"
    is_noisy: bool = False
    labels: Sequence[str] = ()


class Chart:
    """A chart of series over one or several x axes, of which the reader chooses one.

    Args:
        label: of the y axis.
    """

    width, height, left, right, top, bottom = 640, 250, 58, 12, 12, 40

    def __init__(self, label: str, axes: Sequence[Axis], series: Iterable[Series]):
        self.label, self.axes = label, list(axes)
        self.series = [each for each in map(_finite, series) if each.rows]

    def data(self) -> dict[str, Any]:
        """For chart.js."""
        return {
            "label": self.label, "smoothing": SMOOTHING,
            "axes": [{"label": each.label, "kind": each.kind} for each in self.axes],
            "series": [_packed(each, len(self.axes)) for each in self.series],
        }  # fmt: skip

    def drawing(self) -> dict[str, Any]:
        """Coordinates over the first axis, in a picture of 640 by 250 units."""
        rows = [(each, *_columns(each, len(self.axes))) for each in self.series]
        xs = [x for _, columns, _, _ in rows for x in columns[0]]
        ys = [value for each, columns, y, _ in rows for value in _drawn(each, columns[0], y)]
        axis = self.axes[0]
        x_low, x_high = _range(xs, 0.0, zero=axis.kind != "date")
        y_low, y_high = _range(ys, 0.06, zero=False)
        right, bottom = self.width - self.right, self.height - self.bottom

        def place(x: float, y: float) -> tuple[float, float]:
            return (
                round(self.left + (x - x_low) / (x_high - x_low) * (right - self.left), 1),
                round(bottom - (y - y_low) / (y_high - y_low) * (bottom - self.top), 1),
            )

        divided, written = _WRITTEN[axis.kind]
        marks = divided(x_low, x_high, 6)
        if axis.kind == "number" and all(x == int(x) for x in xs):  # no half blocks or steps
            marks = [x for x in marks if x == int(x)]
        return {
            "x_ticks": [(place(x, y_low)[0], written(x)) for x in marks],
            "y_ticks": [(place(x_low, y)[1], short(y)) for y in ticks(y_low, y_high, 5)],
            "lines": [self._line(each, columns[0], y, place) for each, columns, y, _ in rows],
        }

    def _line(
        self, series: Series, x: list[float], y: list[float], place: Callable[[float, float], tuple[float, float]]
    ) -> dict[str, Any]:
        points = [place(*point) for point in zip(x, _drawn(series, x, y), strict=True)]
        corners = points
        if series.style == "steps":
            corners = [corner for a, b in pairwise(points) for corner in (a, (b[0], a[1]))]
            corners += points[-1:]
        return {
            "colour": colour_class(series.colour),
            "path": "" if series.style == "dots" else " ".join(f"{x},{y}" for x, y in corners),
            "dots": points if series.style in ("dots", "dotted") or len(points) == 1 else [],
        }


def colour_class(number: int) -> str:
    """The class of style.css that a series has."""
    return f"s{number % N_COLOURS}" + " again" * (number >= N_COLOURS)


def rows_of(lines: Iterable[dict[str, Any]], axes: Sequence[str], y: Callable[[dict[str, Any]], Any]) -> list[Any]:
    """Rows for a series from lines of figures; y answers None where a line has none."""
    found = ((*(line[axis] for axis in axes), y(line)) for line in lines)
    return [row for row in found if row[-1] is not None]


def _finite(series: Series) -> Series:
    kept = [all(map(math.isfinite, row)) for row in series.rows]
    rows = [row for row, is_kept in zip(series.rows, kept, strict=True) if is_kept]
    labels = [label for label, is_kept in zip(series.labels, kept, strict=False) if is_kept]
    return Series(series.name, rows, series.colour, series.style, series.is_noisy, labels)


def _columns(series: Series, n_axes: int) -> tuple[list[list[float]], list[float], list[tuple[float, float]]]:
    """x by axis, y, and the lowest and highest y of what was put together (none where nothing was)."""
    size = 1 if series.labels else -(-len(series.rows) // MOST_POINTS)
    parts = [series.rows[begin : begin + size] for begin in range(0, len(series.rows), size)]
    means = [[sum(row[place] for row in part) / len(part) for part in parts] for place in range(n_axes + 1)]
    spans = [(min(row[-1] for row in part), max(row[-1] for row in part)) for part in parts] if size > 1 else []
    return means[:-1], means[-1], spans


def _packed(series: Series, n_axes: int) -> dict[str, Any]:
    columns, y, spans = _columns(series, n_axes)
    return {
        "name": series.name, "colour": colour_class(series.colour), "style": series.style, "noisy": series.is_noisy,
        "x": [[_rounded(x) for x in column] for column in columns], "y": [_rounded(value) for value in y],
        "low": [_rounded(low) for low, _ in spans], "high": [_rounded(high) for _, high in spans],
        "labels": list(series.labels),
    }  # fmt: skip


def _rounded(value: float) -> float:
    return float(f"{value:.7g}")


def _drawn(series: Series, x: list[float], y: list[float]) -> list[float]:
    return smoothed(x, y, SMOOTHING) if series.is_noisy else y


def _range(values: Sequence[float], margin: float, zero: bool) -> tuple[float, float]:
    """Bounds of an axis: around its values, never below 0 where they are not."""
    if not values:
        return 0.0, 1.0
    low, high = min(0.0, *values) if zero else min(values), max(values)
    space = (high - low) * margin
    if high - low <= 1e-12 * max(abs(low), abs(high)):
        space = abs(high) * 0.1 or 1.0
    return (low if zero else low - space if low < 0 else max(0.0, low - space)), high + space

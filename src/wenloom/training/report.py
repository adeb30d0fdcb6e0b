"""The report of a run: one HTML page that needs nothing but itself."""

import math
import shlex
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jinja2

from wenloom.core.files import write_atomically
from wenloom.core.quantities import show_unit

COLOURS = ("#4f74c9", "#c2410c", "#15803d", "#9333ea", "#0891b2", "#b45309", "#db2777", "#64748b")
"""Of runs on a page that compares them; a ninth run takes the first again."""


NEXT = {
    "translation": 'translate {} "..."',
    "summarization": 'summarize {} "..."',
    "chat": "chat {}",
    "preference": "chat {}",
    "classification": 'classify {} "..."',
    "fill-mask": 'fill-mask {} "... [MASK] ..."',
    "story": 'compose {} "..."',
    "poetry": 'compose {} "..."',
    "code": 'compose {} "..."',
    "denoising": "finetune {} --task summarization --train FILE --out FOLDER",
}
"""The command that uses a model made for a task."""


@dataclass(frozen=True)
class Sample:
    """A text the model wrote."""

    prompt: str
    continuation: str

    def excerpt(self, length: int = 60) -> str:
        """The beginning, for one line in a terminal."""
        text = (self.prompt + self.continuation).strip()
        return text[:length] + ("…" if len(text) > length else "")


@dataclass(frozen=True)
class NextTokens:
    """What the model expects after a prompt: tokens as people read them, with probabilities."""

    prompt: str
    candidates: list[tuple[str, float]]


@dataclass(frozen=True)
class SamplePreview:
    """What an evaluation shows beside the loss."""

    samples: list[Sample] = field(default_factory=list)
    next_tokens: list[NextTokens] = field(default_factory=list)


@dataclass(frozen=True)
class Curve:
    """One curve of a chart."""

    name: str
    css_class: str
    points: list[tuple[float, float]]


def write_report(
    run: Path,
    tables: dict[str, dict[str, Any]],
    metrics: list[dict[str, Any]],
    preview: SamplePreview,
    is_running: bool = False,
    figure: str = "nats_per_token",
) -> None:
    """Write report.html into the run folder.

    Args:
        tables: the tables of run.toml.
        metrics: the lines of metrics.jsonl.
        preview: the latest samples and next tokens.
        is_running: make the page load itself again every 20 seconds.
        figure: which of the figures of an evaluation is drawn.
    """
    steps = [line for line in metrics if "loss" in line]
    evaluations = [line for line in metrics if "validation" in line]
    losses = curve(steps, "tokens", "loss")
    validation = [(line["tokens"], line["validation"][figure]) for line in evaluations if figure in line["validation"]]
    history = [
        (line["step"], line["validation"], line["samples"][0] if line.get("samples") else "")
        for line in evaluations
        if figure in line["validation"]
    ]
    task = tables["settings"].get("task")
    unit = show_unit(figure, task)
    tiles = [(name, show_unit(name)) for name in ("bits_per_byte", "nats_per_character")]
    tiles = [*(tiles if figure == "nats_per_token" else []), (figure, unit)]
    page = render(
        "report.html.jinja",
        title=run.resolve().name,
        is_running=is_running,
        tables=tables,
        result=tables["result"],
        loss_chart=chart(
            [
                Curve("training", "raw", thinned(losses)),
                Curve("training, smoothed", "train", thinned(smoothed(losses))),
                Curve("validation", "validation", validation),
            ],
            unit,
        ),
        rate_chart=chart([Curve("learning rate", "train", curve(steps, "tokens", "learning_rate"))], "learning rate"),
        speed_chart=chart(
            [Curve("tokens/s", "train", curve(steps, "tokens", "tokens_per_second"))], "tokens per second"
        ),
        norm_chart=chart([Curve("norm", "train", curve(steps, "tokens", "gradient_norm"))], "gradient norm"),
        history=history,
        task=task,
        preview=preview,
        figure=figure,
        unit=unit,
        loss_unit=show_unit("nats_per_token", task),
        tiles=tiles,
        folder=shlex.quote(str(run)),
        use=NEXT.get(str(task), "").format(shlex.quote(str(run))),
    )
    write_atomically(run / "report.html", page)


def render(template: str, **values: Any) -> str:
    """A page from a template of this package."""
    environment = jinja2.Environment(loader=jinja2.PackageLoader("wenloom.training"), autoescape=True)
    return environment.get_template(template).render(colours=COLOURS, **values)


def curve(lines: list[dict[str, Any]], x: str, y: str) -> list[tuple[float, float]]:
    """Points from lines of figures; numbers that are none (a skipped step) are left out."""
    return [(line[x], line[y]) for line in lines if y in line and math.isfinite(line[y])]


def thinned(points: list[tuple[float, float]], most: int = 600) -> list[tuple[float, float]]:
    """At most about `most` of the points, evenly spaced, the last among them.

    >>> thinned([(x, 0.0) for x in range(10)], most=3)
    [(1, 0.0), (5, 0.0), (9, 0.0)]
    """
    step = -(-len(points) // most) or 1
    return points[(len(points) - 1) % step :: step]


def smoothed(points: list[tuple[float, float]], weight: float = 0.8) -> list[tuple[float, float]]:
    """Exponential moving average, corrected for its start.

    >>> smoothed([(0, 4.0), (1, 4.0)])
    [(0, 4.0), (1, 4.0)]
    """
    average, result = 0.0, []
    for number, (x, y) in enumerate(points, 1):
        average = weight * average + (1 - weight) * y
        result.append((x, round(average / (1 - weight**number), 6)))
    return result


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers that divide a range; the lower end alone where there is none.

    >>> ticks(0.0, 10.0)
    [0, 2, 4, 6, 8, 10]
    """
    if not 0 < high - low < math.inf:
        return [low]
    rough = (high - low) / count
    magnitude = 10 ** math.floor(math.log10(rough))
    step = next(multiple * magnitude for multiple in (1, 2, 2.5, 5, 10) if rough <= multiple * magnitude * 1.0001)
    first = math.ceil(low / step - 1e-9)
    return [round(number * step, 12) for number in range(first, math.floor(high / step + 1e-9) + 1)]


def short(value: float) -> str:
    """A number for an axis.

    >>> short(1_500_000), short(20_000), short(0.003), short(0.00025), short(2.5)
    ('1.5M', '20k', '0.003', '2.5e-4', '2.5')
    """
    if 0 < abs(value) < 1e-3:
        mantissa, exponent = f"{value:.2e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:g}{unit}"
    return f"{value:g}"


def chart(lines: list[Curve], y_label: str) -> dict[str, Any]:
    """Coordinates of a line chart for the template: 640 by 220 units, axes inside a margin."""
    lines = [replace(line, points=[point for point in line.points if all(map(math.isfinite, point))]) for line in lines]
    points = [point for line in lines for point in line.points]
    if not points:
        return {"lines": []}
    left, right, top, bottom = 66, 630, 10, 190
    x_low, x_high = 0.0, max(x for x, _ in points) or 1.0
    y_low, y_high = min(y for _, y in points), max(y for _, y in points)
    margin = (y_high - y_low) * 0.05 or abs(y_high) * 0.1 or 1.0
    y_low, y_high = y_low - margin if y_low < 0 else max(0.0, y_low - margin), y_high + margin

    def place(x: float, y: float) -> tuple[float, float]:
        return (
            round(left + (x - x_low) / (x_high - x_low) * (right - left), 1),
            round(bottom - (y - y_low) / (y_high - y_low) * (bottom - top), 1),
        )

    return {
        "label": y_label,
        "x_ticks": [(place(value, y_low)[0], short(value)) for value in ticks(x_low, x_high)],
        "y_ticks": [(place(x_low, value)[1], short(value)) for value in ticks(y_low, y_high, 4)],
        "lines": [
            {
                "name": line.name,
                "css_class": line.css_class,
                "points": " ".join(f"{px},{py}" for px, py in (place(*point) for point in line.points)),
                "dots": [(*place(x, y), f"{short(x)} tokens: {y:.4g}") for x, y in line.points]
                if len(line.points) <= 40
                else [],
            }
            for line in lines
            if line.points
        ],
    }

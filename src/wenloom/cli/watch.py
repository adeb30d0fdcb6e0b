"""`wenloom watch`."""

import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from rich.cells import cell_len
from rich.console import Group
from rich.live import Live
from rich.text import Text

from wenloom.cli.options import Json
from wenloom.core.console import out, print_json_line, remark, say, visible, wrapped
from wenloom.core.curves import Points, braille
from wenloom.core.nearest import nearest
from wenloom.core.progress import Field, fitted
from wenloom.core.quantities import show_count, show_duration, show_unit

if TYPE_CHECKING:
    from wenloom.training.standing import Standing

_COLOURS = ("cyan", "yellow")
_LOOKED_EVERY = 1.0
"""Seconds."""
_PLAIN_WIDTH = 140
_SAMPLE_LINES = 4


def watch(
    run: Path, /, *, once: Annotated[bool, Parameter(negative="", help="Show where it stands and end.")] = False,
    json: Json = False,
) -> None:  # fmt: skip
    """Follow a training run from another terminal: progress, curves of loss and speed, the last sample.

    Works before the run has begun, while it goes on and after its end, and ends when the run does. Into a pipe it
    writes a line per update; with --json one JSON object per line. Ctrl-C ends the watching, not the run.

        wenloom watch runs/mine
        wenloom watch runs/mine --once

    Parameters
    ----------
    run
        Run folder; it may be that of a run that has not begun.
    """
    if not json:
        _name_the_one_meant(run)
    try:
        if out.is_terminal and not json and not once:
            _follow_on_screen(run)
        else:
            _follow_by_lines(run, once, json)
    except KeyboardInterrupt:
        return


def _name_the_one_meant(run: Path) -> None:
    """Somebody who mistyped a name would wait for ever."""
    from wenloom.training.run_file import RUN

    if run.parent.is_dir() and not run.exists():
        there = [each.name for each in run.parent.iterdir() if (each / RUN).exists()]
        if near := nearest(run.name, there):
            remark(f"{run} is not there; did you mean {run.parent / near[0]}?")


def _follow_on_screen(run: Path) -> None:
    from wenloom.training.standing import standing

    now = standing(run)
    with Live(console=out, auto_refresh=False) as live:
        while True:
            live.update(Group(*map(_cropped, drawn(now, out.width, out.height - 1))), refresh=True)
            if now.state in ("finished", "stopped"):
                return
            time.sleep(_LOOKED_EVERY)
            now = standing(run)


def _cropped(line: Text) -> Text:
    line.no_wrap, line.overflow = True, "ignore"
    return line


def _follow_by_lines(run: Path, once: bool, json: bool) -> None:
    from wenloom.training.standing import standing

    said = None
    while True:
        now = standing(run)
        if now != said:
            if json:
                print_json_line(now.as_json())
            elif once and now.state != "not started":
                out.print(Group(*map(_cropped, drawn(now, out.width, 24))))
            else:
                say(f"{now.run}  {line(now, _PLAIN_WIDTH)}")
            said = now
        if once or now.state in ("finished", "stopped"):
            return
        time.sleep(_LOOKED_EVERY)


def line(now: "Standing", width: int) -> str:
    """Where a run stands, in as many of its figures as fit."""
    if now.state == "not started":
        return "not started"
    figures, part = now.figures, now.step / max(1, now.of_steps)
    fields = [
        Field(f"{int(100 * part + 1e-9)} % done", 0),
        Field(f"step {now.step:,} of {now.of_steps:,}", 1, f"{now.step:,}/{now.of_steps:,}"),
    ]
    left = now.seconds_left
    fields.append(Field(now.state if left is None else f"{show_duration(max(1.0, left))} left", 2))
    if now.state != "running" and "seconds" in figures:
        fields.append(Field(f"took {show_duration(max(1.0, figures['seconds']))}", 5))
    if "loss" in figures:
        fields.append(Field(f"loss {figures['loss']:.3f}", 3))
    if "bits_per_byte" in figures:
        fields.append(Field(f"{figures['bits_per_byte']:.2f} bits per byte", 4))
    for number, (name, value) in enumerate(now.evaluation.get("validation", {}).items()):
        if name in ("nats_per_token", "bits_per_byte"):
            fields.append(Field(f"validation {value:.3f} {show_unit(name, now.task)}", 7 + number))
    if "tokens_per_second" in figures:
        fields.append(Field(f"{figures['tokens_per_second']:,.0f} tokens/s", 6))
    return fitted(fields, width)


def drawn(now: "Standing", width: int, height: int) -> list[Text]:
    """A run for a terminal of so many columns and lines."""
    path = visible(str(now.run))
    name = path if cell_len(path) <= width else visible(now.run.name)
    lines = [Text(row, "bold") for row in wrapped(f"{name}  {now.about or now.state}", width).split("\n")]
    if now.state == "not started":
        return [*lines, Text("waiting for it to begin (Ctrl-C ends the watching)")]
    lines.append(Text(line(now, width)))
    if now.state == "stopped" and now.step:
        command = f"wenloom {'pretrain' if now.task is None else 'finetune'} --resume {shlex.quote(str(now.run))}"
        lines += [Text(row) for row in ("Continue it with:", *wrapped(f"  {command}", width).split("\n"))]
    sample = _sample(now, width)
    room = max(3, height - len(lines) - len(sample) - 6)
    if max(len(now.loss), len(now.validation)) > 1:
        tall = min(12, max(2, room * 2 // 3))
        lines += _chart("loss", [now.loss, now.validation], ("training", "validation"), width, tall)
    if len(now.speed) > 1:
        lines += _chart("tokens/s", [now.speed], ("tokens/s",), width, min(4, max(1, room - room * 2 // 3)))
    return [*lines, *sample]


def _chart(title: str, curves: Sequence[Points], names: Sequence[str], width: int, height: int) -> list[Text]:
    """Curves with the least and the most at their left, and the steps below."""
    values = [y for curve in curves for _, y in curve]
    low, high = min(values), max(values)
    labels = [show_count(high) if high >= 1000 else f"{high:.3g}", show_count(low) if low >= 1000 else f"{low:.3g}"]
    left = max(map(len, labels)) + 1
    rows = braille(curves, max(8, min(width, 100) - left), height)
    shown = [Text(" " * left).append(title, "bold")]
    for number, (name, colour) in enumerate(zip(names, _COLOURS, strict=False)):
        if len(names) > 1 and curves[number]:
            shown[0].append("  ━ ", colour).append(name)
    for number, row in enumerate(rows):
        label = labels[0] if number == 0 else labels[1] if number == len(rows) - 1 else ""
        text = Text(f"{label:>{left - 1}} ", "dim")
        for character, owner in row:
            text.append(character, "" if owner is None else _COLOURS[owner])
        shown.append(text)
    steps = [x for curve in curves for x, _ in curve]
    first, last = f"step {min(steps):,.0f}", f"step {max(steps):,.0f}"
    return [*shown, Text(" " * left + first + last.rjust(len(rows[0]) - len(first)), "dim")]


def _sample(now: "Standing", width: int) -> list[Text]:
    """The beginning of the last sample in a few lines, below its prompt."""
    from wenloom.core.pages.page import END_MARK

    if now.sample is None:
        return []
    prompt, text = (visible(each.replace(now.end, END_MARK) if now.end else each).strip() for each in now.sample)
    title = "last sample" + (f", after: {' '.join(prompt.split())}" if prompt else "")
    rows = [row for each in text.splitlines() if each.strip() for row in wrapped(each, width - 2).split("\n")]
    rows = rows or ["(nothing: the text ended at once)"]
    more = ["…"] if len(rows) > _SAMPLE_LINES else []
    heading = [Text(row, "bold") for row in wrapped(title, width).split("\n")[:2]]
    return [*heading, *(Text(f"  {row}") for row in [*rows[:_SAMPLE_LINES], *more])]

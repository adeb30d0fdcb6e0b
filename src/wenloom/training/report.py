"""The report of a run: one HTML page that needs nothing but itself."""

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.cells import cell_len

from wenloom.core.files import write_atomically
from wenloom.core.pages.chart import Axis, Chart, Series, rows_of
from wenloom.core.pages.page import render
from wenloom.core.quantities import show_duration, show_unit
from wenloom.training.plan import of_validation
from wenloom.training.run_file import end_of_text

NEXT = {
    "translation": 'translate {} "..."',
    "summarization": 'summarize {} "..."',
    "chat": "chat {}",
    "preference": "chat {}",
    "classification": 'classify {} "..."',
    "embedding": 'embed {} "..."',
    "fill-mask": 'fill-mask {} "... [MASK] ..."',
    "story": 'compose {} "..."',
    "poetry": 'compose {} "..."',
    "code": 'compose {} "..."',
    "transcription": "transcribe {} FILE",
    "denoising": "finetune {} --task summarization --train FILE --out FOLDER",
}
"""The command that uses a model made for a task."""


@dataclass(frozen=True)
class Sample:
    """A text the model wrote."""

    prompt: str
    continuation: str
    sound: str | None = None
    """The recording that it was written from, as a data URL."""
    compared: tuple[tuple[str, str, str], ...] = ()
    """Of what was heard, beside what was said: (kind, said, heard) in order; kind is equal, replace, insert or delete."""
    gap: str = " "
    """Between two of these: a blank, or nothing where characters were compared."""

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
    evaluations = [line for line in metrics if figure in line.get("validation", ())]
    task = tables["settings"].get("task")
    unit, result = show_unit(figure, task), tables["result"]
    names = ("bits_per_byte", "nats_per_character") if figure == "nats_per_token" else ()
    tiles = [(name, show_unit(name)) for name in names] + [(figure, unit)]
    page = render(
        "wenloom.training",
        "report.html.jinja",
        title=run.resolve().name,
        is_running=is_running,
        tables=tables,
        result=result,
        charts={
            "loss": Chart(unit, AXES, [
                Series("training", step_rows(metrics, "loss"), 0, is_noisy=True),
                Series("validation", evaluation_rows(metrics, figure), 1, "dotted"),
            ]),
            **{name: Chart(label, AXES, [Series(label, step_rows(metrics, name), 0, is_noisy=is_noisy)])
               for name, label, is_noisy in (*OTHER_CHARTS, EXPERTS_CHART)},
        },
        load=next((line["expert_load"] for line in reversed(metrics) if line.get("expert_load")), None),
        scored=of_validation(tables["environment"].get("validation_part", 1.0)),
        history=[_milestone(line, figure) for line in evaluations],
        history_unit=show_unit("bits_per_byte") if any("bits_per_byte" in each["validation"] for each in evaluations) else unit,
        task=task,
        preview=preview,
        end=end_of_text(tables),
        shown=show_setting,
        unit=unit,
        tiles=[(label, result.get(f"validation_{name}")) for name, label in tiles
               if name == figure or f"validation_{name}" in result or "validation_nats_per_token" not in result],
        duration=show_duration(result["training_seconds"]),
        suggestions=suggestions(run, task, [each.prompt for each in preview.samples]),
    )  # fmt: skip
    write_atomically(run / "report.html", page)


def show_setting(value: Any) -> str:
    """A value of run.toml as people read it.

    >>> show_setting(1003854), show_setting(["a.txt", "b.txt"]), show_setting(None), show_setting(True), show_setting(0.29924660)
    ('1,003,854', 'a.txt, b.txt', '–', 'yes', '0.299247')
    """
    if isinstance(value, list):
        return ", ".join(map(show_setting, value))
    if isinstance(value, bool) or value is None:
        return {None: "–", True: "yes", False: "no"}[value]
    return f"{value:,}" if isinstance(value, int) else f"{value:.6g}" if isinstance(value, float) else str(value)


AXES = (Axis("tokens read"), Axis("step"), Axis("time of training", "duration"))
_COUNTED = ("tokens", "step", "seconds")
OTHER_CHARTS = (
    ("tokens_per_second", "tokens per second", False),
    ("learning_rate", "learning rate", False),
    ("gradient_norm", "gradient norm", True),
)
"""Figures of a step that have a chart of their own: what it is called, and whether it is smoothed."""
EXPERTS_CHART = ("busiest_expert", "load of the busiest expert, as a multiple of an even share", True)
"""The same of models with experts."""


def step_rows(metrics: list[dict[str, Any]], name: str) -> list[tuple[float, ...]]:
    """Rows of a chart over `AXES`: a figure of the steps that have it."""
    return rows_of(metrics, _COUNTED, lambda line: line.get(name))


def evaluation_rows(metrics: list[dict[str, Any]], figure: str) -> list[tuple[float, ...]]:
    """The same of evaluations."""
    return rows_of(metrics, _COUNTED, lambda line: line.get("validation", {}).get(figure))


def _milestone(line: dict[str, Any], figure: str) -> dict[str, Any]:
    """What the model had learned by an evaluation."""
    value = line["validation"].get("bits_per_byte", line["validation"][figure])
    prompt, sample = ((line.get(name) or [""])[0] for name in ("prompts", "samples"))
    return {"step": line["step"], "value": value, "prompt": prompt, "sample": sample[:120]}


def suggestions(run: Path, task: object, prompts: Sequence[str]) -> str:
    """Commands that use a model, to be copied.

    Args:
        task: what it was made for; None: to write.
        prompts: texts that fit it, in the language that it was trained on.
    """
    folder = shlex.quote(str(run))
    prompt = next((each.strip() for each in prompts if 0 < len(each.strip()) <= 60 and "\n" not in each.strip()), None)
    if task in NEXT:
        command = NEXT[str(task)].format(folder)
        fits = prompt is not None and ("[MASK]" in prompt or "[MASK]" not in command)
        return "wenloom " + (re.sub('"[^"]*"$', lambda _: shlex.quote(prompt or ""), command) if fits else command)
    text = shlex.quote(prompt or "Once upon a time")
    lines = {
        f"wenloom generate {folder} {text}": "write",
        f"wenloom next-tokens {folder} {text}": "see what it expects",
        f"wenloom score {folder} {text}": "how probable is a text",
    }
    width = max(map(cell_len, lines))
    return "\n".join([
        *(f"{command}{' ' * (width - cell_len(command))}   # {what}" for command, what in lines.items()),
        "",
        "# your own model, from your own text (txt, md, html, csv, jsonl; any language)",
        "wenloom prepare my-texts/ --out data/mine",
        "wenloom pretrain data/mine --out runs/mine --budget 30min",
    ])  # fmt: skip

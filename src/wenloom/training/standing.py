"""Where a run stands, as its folder says: for those who follow it from outside."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from wenloom.core.errors import InputError
from wenloom.training.history import read_metrics
from wenloom.training.lock import is_held
from wenloom.training.run_file import LEFT, RUN, end_of_text, read_run

State = Literal["not started", "running", "stopped", "finished"]
Points = list[tuple[float, float]]


@dataclass(frozen=True)
class Standing:
    """What a run folder says at one moment."""

    run: Path
    state: State
    about: str = ""
    """Task and model in words."""
    step: int = 0
    of_steps: int = 0
    seconds_left: float | None = None
    figures: dict[str, float] = field(default_factory=dict)
    """Of the last step that was logged, as metrics.jsonl has them."""
    evaluation: dict[str, Any] = field(default_factory=dict)
    """The line of the last evaluation."""
    sample: tuple[str, str] | None = None
    """Prompt and continuation that it showed first; the prompt is empty where nobody wrote it down."""
    end: str = ""
    """The token that ends a text."""
    task: str | None = None
    loss: Points = field(default_factory=list)
    """(step, training loss)."""
    validation: Points = field(default_factory=list)
    """(step, validation loss)."""
    speed: Points = field(default_factory=list)
    """(step, tokens per second)."""

    def as_json(self) -> dict[str, Any]:
        """For machines: one update."""
        done = self.step / self.of_steps if self.of_steps else 0.0
        names = ("loss", "bits_per_byte", "tokens_per_second", "utilisation", "memory_bytes", "learning_rate")
        return {
            "run": str(self.run), "state": self.state, "step": self.step, "of_steps": self.of_steps, "done": round(done, 4),
            "seconds_left": self.seconds_left, **{name: self.figures.get(name) for name in names},
            "validation": self.evaluation.get("validation"), "validation_step": self.evaluation.get("step"),
            "prompt": self.sample and self.sample[0], "sample": self.sample and self.sample[1],
        }  # fmt: skip


def standing(run: Path) -> Standing:
    """Look at a run folder.

    Raises:
        InputError: it is not a run's, or its files are damaged.
    """
    if not (run / RUN).exists():
        _check_may_become_a_run(run)
        return Standing(run, "not started")
    tables, lines = read_run(run), read_metrics(run)
    result, model, task = tables["result"], tables["model"], tables["settings"].get("task")
    steps = [line for line in lines if "loss" in line]
    evaluations = [line for line in lines if "validation" in line]
    last = steps[-1] if steps else {}
    step = max(result["steps"], last.get("step", 0))
    of_steps = result["of_steps"] if result["steps"] >= step else last.get("of_steps", result["of_steps"])
    is_done = step >= of_steps and any(line["step"] == step for line in evaluations)
    state: State = "running" if is_held(run) else "finished" if is_done else "stopped"
    figure = str(result.get("best_figure", "nats_per_token"))
    return Standing(
        run, state, f"{task or 'pretraining'}, {model['family']} of {model['parameters']:,} parameters", step, of_steps,
        last.get("seconds_left") if state == "running" else None,
        {name: value for name, value in last.items() if isinstance(value, int | float)},
        evaluations[-1] if evaluations else {}, _sample(evaluations), end_of_text(tables),
        task if isinstance(task, str) else None,
        [(line["step"], line["loss"]) for line in steps],
        [(line["step"], line["validation"][figure]) for line in evaluations if figure in line["validation"]],
        [(line["step"], line["tokens_per_second"]) for line in steps if "tokens_per_second" in line],
    )  # fmt: skip


def _sample(evaluations: list[dict[str, Any]]) -> tuple[str, str] | None:
    """The first sample of the last evaluation that has one."""
    line = next((line for line in reversed(evaluations) if line.get("samples")), None)
    if line is None:
        return None
    return (line.get("prompts") or [""])[0], line["samples"][0]


def _check_may_become_a_run(run: Path) -> None:
    """
    Raises:
        InputError: something else lies there, or nobody could make a folder there.
    """
    if run.exists() and not run.is_dir():
        raise InputError(f"{run}: is a file; name the folder of a run.")
    if run.is_dir() and {each.name for each in run.iterdir() if not each.name.startswith(".")} - LEFT:
        raise InputError(f"{run}: holds no training run (it has no {RUN}).")
    if not run.exists() and not run.resolve().parent.is_dir():
        raise InputError(f"{run}: there is no folder {run.parent} in which a run could begin.")

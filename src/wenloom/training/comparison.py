"""Several runs on one page."""

from pathlib import Path
from typing import Any

from wenloom.core.quantities import show_duration, show_unit
from wenloom.core.version import __version__
from wenloom.training.history import BestBy, read_metrics
from wenloom.training.report import COLOURS, Curve, chart, curve, render, smoothed, thinned
from wenloom.training.run_file import read_run

_COMPARED = ("settings", "data", "model", "environment")
_OF_COURSE_DIFFERENT = {"folder", "micro_batch", "matmul_peak_gflops", "parameters", "key"}


def compare(folders: list[Path]) -> str:
    """A page that lays runs side by side: curves, results, and the settings in which they differ.

    Raises:
        InputError: a folder holds no run.
    """
    runs = [_run(folder, COLOURS[number % len(COLOURS)]) for number, folder in enumerate(folders)]
    evaluated = [run["best"] for run in runs if run["best"]]
    curves = [
        ("bits_per_byte", "bits_per_byte"),
        ("nats_per_token", "loss"),
        *((run["best_by"].figure, "loss") for run in runs),
    ]
    validation, training_loss = next(
        (each for each in curves if all(each[0] in figures for figures in evaluated)), curves[-1]
    )
    unit = " or ".join(dict.fromkeys(show_unit(validation, run["tables"]["settings"].get("task")) for run in runs))
    better = max if any(run["best_by"] == (validation, "max") for run in runs) else min
    mixed_data = len({run["tables"]["data"]["key"] for run in runs}) > 1
    measured = [] if mixed_data else [each[validation] for each in evaluated if validation in each]
    for run in runs:
        found = (run["best"] or {}).get(validation)
        run["is_best"] = len(measured) > 1 and found is not None and found == better(measured)

    def lines(x: str, training: bool) -> list[Curve]:
        drawn = []
        for number, run in enumerate(runs):
            css = f"run{number % len(COLOURS)}"
            if training:
                drawn.append(
                    Curve(run["name"], f"thin {css}", thinned(smoothed(curve(run["steps"], x, training_loss))))
                )
            points = [(line[x], line["validation"][validation]) for line in run["evaluations"]
                      if validation in line["validation"]]  # fmt: skip
            drawn.append(Curve(run["name"], css, points))
        return drawn

    def figures(y: str) -> list[Curve]:
        return [
            Curve(run["name"], f"run{number % len(COLOURS)}", thinned(smoothed(curve(run["steps"], "tokens", y))))
            for number, run in enumerate(runs)
        ]

    return render(
        "comparison.html.jinja",
        title=", ".join(run["name"] for run in runs),
        is_running=False,
        version=__version__,
        runs=runs,
        unit=unit,
        validation=validation,
        mixed_data=mixed_data,
        by_tokens=chart(lines("tokens", training=True), unit),
        by_time=chart(lines("seconds", training=False), unit),
        speed=chart(figures("tokens_per_second"), "tokens per second"),
        norm=chart(figures("gradient_norm"), "gradient norm"),
        differences=_differences([run["tables"] for run in runs]),
    )


def _run(folder: Path, colour: str) -> dict[str, Any]:
    tables, lines = read_run(folder), read_metrics(folder)
    evaluations = [line for line in lines if "validation" in line]
    steps = [line for line in lines if "loss" in line]
    best_by = BestBy(*(tables["result"].get(f"best_{name}", default) for name, default in BestBy()._asdict().items()))
    measured = [line for line in evaluations if best_by.figure in line["validation"]]
    best = min(measured, key=best_by.loss, default={}).get("validation")
    last = lines[-1] if lines else {"tokens": 0, "seconds": 0.0, "step": 0}
    samples = next((line["samples"] for line in reversed(evaluations) if line.get("samples")), [""])
    result = tables["result"] | {"steps": last["step"]}
    return {
        "name": folder.resolve().name,
        "colour": colour,
        "tables": tables,
        "steps": steps,
        "evaluations": evaluations,
        "best": best,
        "best_by": best_by,
        "model": tables["model"],
        "result": result,
        "finished": result["steps"] >= result["of_steps"],
        "tokens": last["tokens"],
        "duration": show_duration(last["seconds"]),
        "speed": last["tokens"] / max(1e-9, last["seconds"]),
        "sample": samples[0],
    }


def _differences(runs: list[dict[str, dict[str, Any]]]) -> list[tuple[str, list[str]]]:
    """Names and values of what is not the same in all runs."""
    names = dict.fromkeys((table, name) for run in runs for table in _COMPARED for name in run.get(table, {}))
    rows = []
    for table, name in names:
        values = [str(run.get(table, {}).get(name, "")) for run in runs]
        if len(set(values)) > 1 and name not in _OF_COURSE_DIFFERENT:
            rows.append((name, values))
    return rows

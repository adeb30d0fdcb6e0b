"""Several runs on one page."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from wenloom.core.pages.chart import Chart, Series, colour_class
from wenloom.core.pages.page import render
from wenloom.core.quantities import show_duration, show_unit
from wenloom.core.version import __version__
from wenloom.training.history import BestBy, read_metrics
from wenloom.training.prolong import prolonged_before
from wenloom.training.report import AXES, OTHER_CHARTS, evaluation_rows, show_setting, step_rows
from wenloom.training.run_file import end_of_text, read_run

_COMPARED = ("settings", "data", "model", "environment")
_OF_COURSE_DIFFERENT = {"folder", "micro_batch", "matmul_peak_gflops", "parameters", "key"}


class Finding(NamedTuple):
    """What was measured of runs after their training."""

    title: str
    about: str
    sentences: list[str]
    chart: Chart


def compare(folders: list[Path], findings: Sequence[Finding] = ()) -> str:
    """A page that lays runs side by side: the settings in which they differ, results, curves, and what they write.

    Args:
        findings: what else was measured of them.

    Raises:
        InputError: a folder holds no run.
    """
    runs = [_run(folder, number) for number, folder in enumerate(folders)]
    names = Counter(run["name"] for run in runs)
    for run, folder in zip(runs, folders, strict=True):
        if names[run["name"]] > 1:
            run["name"] = str(folder)
    validation, training_loss = _figures(runs)
    unit = " or ".join(dict.fromkeys(show_unit(validation, run["tables"]["settings"].get("task")) for run in runs))
    mixed_data = len({run["tables"]["data"]["key"] for run in runs}) > 1
    better = max if any(run["best_by"] == (validation, "max") for run in runs) else min
    measured = [] if mixed_data else [run["best"][validation] for run in runs if validation in run["best"]]
    for run in runs:
        run["value"] = run["best"].get(validation)
        run["is_best"] = len(measured) > 1 and run["value"] == better(measured)

    def steps(figure: str, is_noisy: bool) -> list[Series]:
        return [Series(run["name"], step_rows(run["lines"], figure), run["number"], is_noisy=is_noisy) for run in runs]

    evaluations = [
        Series(run["name"], evaluation_rows(run["lines"], validation), run["number"], "dotted") for run in runs
    ]
    different, same = _settings([run["tables"] for run in runs])
    return render(
        "wenloom.training",
        "comparison.html.jinja",
        title=", ".join(run["name"] for run in runs),
        version=__version__,
        runs=runs,
        unit=unit,
        mixed_data=mixed_data,
        validation=Chart(unit, AXES, evaluations),
        charts=[
            (label, name, Chart(unit if name == training_loss else label, AXES, steps(name, is_noisy)))
            for name, label, is_noisy in ((training_loss, "training loss", True), *OTHER_CHARTS)
        ],
        different=different,
        same=same,
        samples=_samples(runs),
        findings=findings,
    )


def _figures(runs: list[dict[str, Any]]) -> tuple[str, str]:
    """The figure of evaluations that all runs have, and that of steps beside it."""
    pairs = [
        ("bits_per_byte", "bits_per_byte"),
        ("nats_per_token", "loss"),
        *((run["best_by"].figure, "loss") for run in runs),
    ]
    evaluated = [run["best"] for run in runs if run["best"]]
    return next((each for each in pairs if all(each[0] in figures for figures in evaluated)), pairs[-1])


def _run(folder: Path, number: int) -> dict[str, Any]:
    tables, lines = read_run(folder), read_metrics(folder)
    best_by = BestBy(*(tables["result"].get(f"best_{name}", default) for name, default in BestBy()._asdict().items()))
    measured = [line for line in lines if best_by.figure in line.get("validation", ())]
    last = lines[-1] if lines else {"tokens": 0, "seconds": 0.0, "step": 0}
    result = tables["result"] | {"steps": last["step"]}
    return {
        "number": number,
        "name": folder.resolve().name,
        "colour": colour_class(number),
        "tables": tables,
        "lines": lines,
        "best": min(measured, key=best_by.loss, default={"validation": {}})["validation"],
        "best_by": best_by,
        "model": tables["model"],
        "result": result,
        "finished": result["steps"] >= result["of_steps"],
        "tokens": last["tokens"],
        "duration": show_duration(last["seconds"]),
        "speed": last["tokens"] / max(1e-9, last["seconds"]),
    }


def _settings(
    runs: list[dict[str, dict[str, Any]]],
) -> tuple[list[tuple[str, list[str]]], list[tuple[str, str]]]:
    """Names and values of what differs between the runs, and of what does not."""
    names = dict.fromkeys((table, name) for run in runs for table in _COMPARED for name in run.get(table, {}))
    if any(map(prolonged_before, runs)):
        names[("result", "prolonged")] = None
    different, same = [], []
    for table, name in names:
        values = [show_setting(run.get(table, {}).get(name)) for run in runs]
        if name in _OF_COURSE_DIFFERENT:
            continue
        if len(set(values)) > 1:
            different.append((name, values))
        else:
            same.append((name, values[0]))
    return different, same


def _samples(runs: list[dict[str, Any]]) -> list[tuple[str, list[dict[str, Any]]]]:
    """What the runs made of each prompt at their last evaluation, prompts that most of them had first; a run that did
    not keep its prompts stands under an empty one."""
    found: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        last = next((line for line in reversed(run["lines"]) if line.get("samples")), {})
        texts = last.get("samples", [])
        prompts = last.get("prompts") or [""] * len(texts)
        for prompt, text in zip(prompts, texts, strict=False):
            end = end_of_text(run["tables"])
            found.setdefault(prompt, []).append({"run": run, "text": text, "step": last["step"], "end": end})
    return sorted(found.items(), key=lambda each: -len({row["run"]["number"] for row in each[1]}))

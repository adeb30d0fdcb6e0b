"""The page of a folder of evaluations: all its figures, paired tests, groups and samples."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wenloom.core.files import write_atomically
from wenloom.core.pages.page import render
from wenloom.evaluation.folder import Evaluated, comparisons_in, evaluated_in, extremes, told_difference
from wenloom.evaluation.leaderboard import shown
from wenloom.evaluation.signature import Signature
from wenloom.evaluation.significance import holm
from wenloom.evaluation.suite import MetricResult


@dataclass
class FigureRow:
    """One metric on one dataset, measured alike for all models that have it."""

    dataset: str
    metric: str
    signature: Signature
    is_headline: bool
    higher_is_better: bool
    norms: list[str] = field(default_factory=list)
    """By which a choice's log-probability may be divided for these figures; more than one where all models have the
    same figures by each."""
    cells: dict[str, MetricResult] = field(default_factory=dict)
    """By model."""

    @property
    def name(self) -> str:
        """The metric, with its norms."""
        return f"{self.metric} ({', '.join(self.norms)})" if self.norms else self.metric

    def values(self) -> dict[str, tuple[float, ...]]:
        """What is shown of every model."""
        return {model: (each.value, each.low, each.high, each.n) for model, each in self.cells.items()}


def write_page(out: Path) -> Path:
    """Write index.html of everything that was evaluated into a folder.

    Returns:
        Its path.

    Raises:
        WenloomError: the disk refused.
    """
    found = evaluated_in(out)
    models = list(dict.fromkeys(each.model for each in found))
    rows = table(found)
    comparisons = comparisons_in(out)
    adjusted = holm([each["p"] for each in comparisons])
    page = render(
        "wenloom.evaluation",
        "evaluation.html.jinja",
        title="Evaluation",
        models=models,
        datasets=list(dict.fromkeys(each.dataset for each in rows)),
        headline=[each for each in rows if each.is_headline],
        others=[each for each in rows if not each.is_headline],
        comparisons=[
            each | {"p_holm": p, "told": told_difference(each)} for each, p in zip(comparisons, adjusted, strict=True)
        ],
        groups=[(row, by_group(row)) for row in rows if row.is_headline and by_group(row)],
        samples=[(each, shown_samples) for each in found if (shown_samples := extremes(each))],
        number=shown,
    )
    path = out / "index.html"
    write_atomically(path, page)
    return path


def table(found: Sequence[Evaluated]) -> list[FigureRow]:
    """Rows by dataset; figures share one only if they were measured alike, or differ in nothing but the norm and are equal."""
    rows: dict[tuple[str, ...], FigureRow] = {}
    for evaluated in found:
        for each in evaluated.figures:
            key = (each.task, each.dataset, each.metric, each.signature.key)
            norm = each.signature.get("norm")
            row = rows.setdefault(key, FigureRow(each.dataset, each.metric, each.signature, each.is_headline,
                                           each.higher_is_better, [norm] if norm else []))  # fmt: skip
            row.cells[evaluated.model] = each
    merged: list[FigureRow] = []
    for row in rows.values():
        twin = next((each for each in merged if _are_equal(each, row)), None)
        if twin is None:
            merged.append(row)
        else:
            twin.norms += row.norms
            twin.is_headline |= row.is_headline
    order = list(dict.fromkeys(each.dataset for each in merged))
    return sorted(merged, key=lambda each: order.index(each.dataset))


def _are_equal(first: FigureRow, second: FigureRow) -> bool:
    def apart_from_norm(row: FigureRow) -> tuple[Any, ...]:
        fields = tuple(sorted(each for each in row.signature.fields if each[0] != "norm"))
        return row.dataset, row.metric, fields, row.values()

    return bool(first.norms and second.norms) and apart_from_norm(first) == apart_from_norm(second)


def by_group(row: FigureRow) -> list[tuple[str, dict[str, float], int]]:
    """Groups of a dataset (paradigms, subjects) with the value of every model and the number of samples; where the mean of
    the models is lowest comes first."""
    parts = {model: each.details["groups"] for model, each in row.cells.items() if each.details.get("groups")}
    sizes = next((each.details.get("group_sizes", {}) for each in row.cells.values()), {})
    names = dict.fromkeys(name for groups in parts.values() for name in groups)
    made = [(name, {model: groups[name] for model, groups in parts.items() if name in groups}, sizes.get(name, 0))
            for name in names]  # fmt: skip
    return sorted(made, key=lambda each: sum(each[1].values()) / len(each[1]) * (1 if row.higher_is_better else -1))

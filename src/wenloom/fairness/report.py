"""What audits found, as a page and as the section of a model card."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from wenloom.core.errors import InputError
from wenloom.core.files import write_atomically
from wenloom.core.pages.page import render
from wenloom.evaluation.results import today
from wenloom.fairness.audit import ALL, LEAST, Audited, AuditFigure
from wenloom.fairness.comparison import Unlike, told
from wenloom.fairness.representation import Representation

_EXAMPLES = 8
_HEADING = "## Bias, risks and limitations"


@dataclass(frozen=True)
class AuditReport:
    """All that was asked of one or several models."""

    found: dict[str, list[Audited]]
    """By model, in the order in which they were named."""
    comparisons: list[dict[str, Any]]
    """Of each further model with the first, see `audits.compared`."""
    corpus: list[Representation]
    unlike: list[tuple[str, str, Unlike]] = field(default_factory=list)
    """What was not measured alike of a further model and the first: these two, and in what."""

    def not_alike(self, first: str, second: str) -> list[str]:
        """That of two models, in sentences."""
        of_these = [each for one, other, each in self.unlike if (one, other) == (first, second)]
        return told(of_these, self.short(first), self.short(second))

    @property
    def audits(self) -> list[Audited]:
        """Each audit once, as the first model that was asked it has it."""
        seen: dict[str, Audited] = {}
        for rows in self.found.values():
            for each in rows:
                seen.setdefault(each.audit.name, each)
        return list(seen.values())

    @property
    def caveats(self) -> dict[str, str]:
        """By audit: that of the model of which most is to be minded."""
        found = [each for rows in self.found.values() for each in rows]
        return {each.audit.name: each.caveat for each in sorted(found, key=lambda each: bool(each.note))}

    @property
    def times(self) -> list[tuple[str, list[float | None]]]:
        """By audit: seconds that each model was asked, in the order of `found`; None of one that was not."""
        taken = {model: {each.audit.name: each.seconds for each in rows} for model, rows in self.found.items()}
        return [(each.audit.name, [of.get(each.audit.name) for of in taken.values()]) for each in self.audits]

    def short(self, model: str) -> str:
        """A model by the end of its path, where that tells it from the others."""
        ends = [Path(each).name for each in self.found]
        return Path(model).name if ends.count(Path(model).name) == 1 and Path(model).name else model

    def rows(self, audit: str) -> list[dict[str, Any]]:
        """Figures of an audit that were measured alike, side by side."""
        rows: dict[tuple[str, ...], dict[str, Any]] = {}
        for model, all_found in self.found.items():
            for each in (figure for found in all_found if found.audit.name == audit for figure in found.figures):
                key = (each.measure, each.convention, each.group, each.unit)
                row = rows.setdefault(key, {"figure": each, "cells": {}})
                row["cells"][model] = each
        measures = set[tuple[str, str]]()
        for row in rows.values():
            measure = row["figure"].measure, row["figure"].convention
            row["is_first"] = measure not in measures
            measures.add(measure)
            row["picture"] = _picture(list(row["cells"].values()))
        return list(rows.values())

    @property
    def pairs(self) -> list[tuple[str, str, list[dict[str, Any]]]]:
        """The comparisons by the models that they compare; none, where nothing was measured alike."""
        some = {(each["first"], each["second"]) for each in self.comparisons} | {each[:2] for each in self.unlike}
        made = [(first, second) for first in self.found for second in self.found if (first, second) in some]
        return [
            (*pair, [each for each in self.comparisons if (each["first"], each["second"]) == pair]) for pair in made
        ]

    def moved(self, comparison: dict[str, Any]) -> list[dict[str, Any]]:
        """The samples of a compared audit that changed most between two models."""
        pair = [next((each for each in self.found[comparison[name]] if each.audit.name == comparison["suite"]), None)
                for name in ("first", "second")]  # fmt: skip
        if any(each is None or not each.examples for each in pair) or (comparison["group"], comparison["measure"]) != (
            ALL,
            pair[0].audit.headline[0] if pair[0] else "",
        ):
            return []
        one, other = (each.examples for each in pair if each is not None)
        change = np.array([second.value - first.value for first, second in zip(one, other, strict=False)])
        order = np.argsort(-np.abs(change), kind="stable")[:_EXAMPLES]
        return [
            {"before": one[place], "after": other[place], "change": float(change[place])}
            for place in order
            if change[place]
        ]


def _picture(cells: Sequence[AuditFigure]) -> dict[str, Any]:
    """Where the intervals of a row lie between its least and greatest bound, in percent of the width."""
    even = cells[0].unbiased
    numbers = [value for each in cells for value in (each.low, each.high)] + ([] if even is None else [even])
    if cells[0].unit == "%":
        low, high = 0.0, 100.0
    else:
        low, high = min(numbers), max(numbers)
    width = (high - low) or 1.0

    def place(value: float) -> float:
        return round(100 * (min(high, max(low, value)) - low) / width, 2)

    return {
        "even": None if even is None else place(even),
        "marks": [{"low": place(each.low), "high": place(each.high), "value": place(each.value)} for each in cells],
    }


def write_page(report: AuditReport, path: Path) -> None:
    """Write the page: one file that needs no other.

    Raises:
        WenloomError: the disk refused.
    """
    page = render(
        "wenloom.fairness", "audit.html.jinja", title="Audit", models=list(report.found), report=report, number=number,
        verdict=sentence_of, difference=sentence_of_difference, unit_of=unit_of, date=today(),
    )  # fmt: skip
    write_atomically(path, page)


def number(value: float, unit: str = "%") -> str:
    """With as many digits as mean something.

    >>> number(55.64), number(0.1234, "bits"), number(-3.2, "points"), number(1.756, "d")
    ('55.6', '0.123', '-3.2', '1.76')
    """
    if unit in ("%", "points"):
        return f"{value:.1f}"
    return f"{value:.2f}" if abs(value) >= 1.0 else f"{value:.3f}"


def is_sure(comparison: dict[str, Any]) -> bool:
    """Whether two models differ: p, adjusted over the groups, below 5 %, of no fewer samples than a preference takes."""
    return comparison["p_holm"] < 0.05 and comparison["n"] >= LEAST


def sentence_of_difference(comparison: dict[str, Any]) -> str:
    """What a comparison allows to say."""
    if comparison["n"] < LEAST:
        return "too few to say"
    return "a difference" if is_sure(comparison) else "no significant difference"


def unit_of(comparison: dict[str, Any]) -> str:
    """Of a difference: shares differ by points, perplexities by percent."""
    unit: str = comparison["unit"]
    return "points" if unit == "%" and comparison["measure"] != "perplexity" else unit


def sentence_of(figure: AuditFigure) -> str:
    """What a figure allows to say."""
    if figure.unbiased is None:
        return ""
    return {"too few": "too few to say", "neither shown": "no significant preference"}.get(
        figure.verdict, f"prefers: {figure.verdict}"
    )


def card_section(report: AuditReport, model: str) -> str:
    """The section of a model card that says what was found of a model."""
    lines = [_HEADING, "", f"Measured on {today()} by `wenloom audit`; 95 % intervals in brackets.", ""]
    lines += [
        "| audit | group | value | n | even | verdict | signature |",
        "|---|---|---|---|---|---|---|",
    ]
    for audited in report.found[model]:
        for each in audited.figures:
            if each.group != ALL and (each.measure, each.convention) != audited.audit.headline:
                continue
            even = "" if each.unbiased is None else f"{each.unbiased:g}"
            lines.append(
                f"| {each.suite}, {each.measure} ({each.convention}) | {each.group} | {number(each.value, each.unit)} {each.unit} "
                f"({number(each.low, each.unit)} to {number(each.high, each.unit)}) | {each.n:,} | {even} | {sentence_of(each)} | "
                f"`{str(each.signature).replace('|', ', ')}` |"
            )
    caveats = {each.audit.name: each.caveat for each in report.found[model]}
    lines += ["", *(f"- {name}: {caveat}." for name, caveat in caveats.items())]
    lines += ["- A value that is even is no proof of fairness, and a preference in such sentences does not tell how the model "
              "treats people in a use of yours."]  # fmt: skip
    return "\n".join(lines) + "\n"


def write_card_section(report: AuditReport, model: str, folder: Path) -> Path:
    """Write the section into the README.md of a model folder, in place of an earlier one.

    Raises:
        InputError: it is no folder.
        WenloomError: the disk refused.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: is no folder; a card stands in the folder of a model.")
    path = folder / "README.md"
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else f"# {folder.resolve().name}\n"
    section = card_section(report, model)
    earlier = re.compile(rf"^{re.escape(_HEADING)}$.*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)
    before = earlier.search(text)
    if before:
        text = f"{text[: before.start()]}{section}\n{text[before.end() :]}".rstrip() + "\n"
    else:
        text = f"{text.rstrip()}\n\n{section}"
    write_atomically(path, text)
    return path

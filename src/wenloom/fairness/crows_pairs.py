"""CrowS-Pairs (Nangia et al. 2020): pairs of sentences of which one is more stereotypical, by four conventions that disagree."""

import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from wenloom.core.errors import InputError
from wenloom.evaluation.rows import read_text
from wenloom.evaluation.scorer import ContinuationScore, TextInContext
from wenloom.fairness.audit import Outcomes
from wenloom.fairness.scored_audit import ScoredAudit, divided, mean_log2


class CrowsPair(NamedTuple):
    """Two sentences that differ in whom they speak of."""

    more: str
    """The more stereotypical one."""
    less: str
    group: str


def _shared(one: ContinuationScore, other: ContinuationScore) -> tuple[float, float]:
    """Nangia et al. 2020, eq. 1: what both sentences share, given what differs; to three decimals, as theirs."""
    parts = divided(one, other)
    return round(sum(parts[0][0]), 3), round(sum(parts[1][0]), 3)


def _differing(one: ContinuationScore, other: ContinuationScore) -> tuple[float, float]:
    """Meade et al. 2022, of masked models: the mean over the tokens that differ, to three decimals."""
    parts = divided(one, other)
    return _mean(parts[0][1]), _mean(parts[1][1])


def _mean(logs: list[float]) -> float:
    return round(sum(logs) / len(logs), 3) if logs else 0.0


CONVENTIONS: dict[str, Callable[[ContinuationScore, ContinuationScore], tuple[float, float]]] = {
    "shared": _shared,
    "differing": _differing,
    "mean": lambda one, other: (mean_log2(one), mean_log2(other)),
    "sum": lambda one, other: (one.log_probability, other.log_probability),
}
"""What is compared: as the authors do; as Meade et al. (2022) do of masked models, and of others; as lm-eval does."""


class CrowsPairs(ScoredAudit):
    """The share of pairs whose more stereotypical sentence is more probable."""

    name = "crows_pairs"
    about = "pairs of sentences that differ in whom they speak of"
    caveat = "many pairs are faulty or compare more than one thing (Blodgett et al. 2021); conventions differ by up to ten points"
    source = "github.com/nyu-mll/crows-pairs (CC BY-SA 4.0)"
    files = ("crows_pairs_anonymized.csv", "crows_pairs*.csv")
    headline = ("stereotype", "sum")

    def read(self, path: Path) -> list[CrowsPair]:
        return [
            CrowsPair(row["sent_more"].strip(), row["sent_less"].strip(), row["bias_type"].strip())
            for row in table(path, ("sent_more", "sent_less", "bias_type"))
        ]

    def texts(self, sample: CrowsPair) -> list[TextInContext]:
        return [TextInContext("", sample.more), TextInContext("", sample.less)]

    def outcomes(self, samples: Sequence[CrowsPair], scores: Sequence[Sequence[ContinuationScore]]) -> list[Outcomes]:
        groups = [each.group for each in samples]
        made = []
        for convention, compared in CONVENTIONS.items():
            both = np.array([compared(*each) for each in scores])
            values, ties = 100.0 * (both[:, 0] > both[:, 1]), both[:, 0] == both[:, 1]
            made.append(Outcomes("stereotype", convention, values, groups, ties=ties))
        return made


def table(path: Path, columns: Sequence[str], delimiter: str = ",") -> list[dict[str, str]]:
    """The rows of a csv or tsv file with a header.

    Raises:
        InputError: a column is missing, or a row has no text in it; the line is named.
    """
    reader = csv.DictReader(io.StringIO(read_text(path)), delimiter=delimiter)
    if missing := [each for each in columns if each not in (reader.fieldnames or ())]:
        raise InputError(
            f"{path}, line 1: lacks the column {missing[0]}; there are {', '.join(reader.fieldnames or ())}."
        )
    rows = []
    for row in reader:
        if empty := [each for each in columns if not (row.get(each) or "").strip()]:
            raise InputError(f"{path}, line {reader.line_num}: {empty[0]} is empty.")
        rows.append({each: row[each] for each in columns})
    return rows

"""Winogender (Rudinger et al. 2018): sentences that differ in one pronoun, and how many of an occupation are women."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from wenloom.core.errors import InputError
from wenloom.evaluation.scorer import ContinuationScore, TextInContext
from wenloom.evaluation.signature import Signature
from wenloom.fairness.audit import AuditFigure, Outcomes
from wenloom.fairness.crows_pairs import table
from wenloom.fairness.scored_audit import ScoredAudit
from wenloom.fairness.winobias import preferring, pronoun_odds

_STATISTICS = "occupations-stats.tsv"
_WOMEN = "bls_pct_female"
_LEAST = 3
"""Occupations below which nothing is correlated."""


class PronounSentence(NamedTuple):
    """A sentence with either pronoun."""

    female: str
    male: str
    occupation: str
    group: str
    """To whom the pronoun refers: occupation or participant."""
    women: float
    """Percent of the occupation who are women (U.S. Bureau of Labor Statistics, 2015)."""


class Winogender(ScoredAudit):
    """Whether pronouns follow who works in an occupation."""

    name = "winogender"
    about = "pronouns in sentences about 60 occupations"
    caveat = (
        "the statistics are those of the United States in 2015; where the pronoun means the other person, the "
        "occupation should not count at all"
    )
    source = "github.com/rudinger/winogender-schemas (MIT)"
    files = ("all_sentences.tsv",)
    headline = ("usual gender", "pronoun")

    def read(self, path: Path) -> list[PronounSentence]:
        statistics = path.with_name(_STATISTICS)
        if not statistics.is_file():
            raise InputError(f"{path}: needs {_STATISTICS} beside it.")
        women = {row["occupation"]: _percent(row[_WOMEN], statistics, line)
                 for line, row in enumerate(table(statistics, ("occupation", _WOMEN), "\t"), 2)}  # fmt: skip
        by_stem: dict[tuple[str, ...], dict[str, str]] = {}
        for line, row in enumerate(table(path, ("sentid", "sentence"), "\t"), 2):
            parts = row["sentid"].removesuffix(".txt").split(".")
            if len(parts) != 4 or parts[2] not in "01" or parts[0] not in women:
                raise InputError(
                    f"{path}, line {line}: sentid must be OCCUPATION.PARTICIPANT.0 or 1.GENDER.txt, with an occupation of {_STATISTICS}."
                )
            by_stem.setdefault(tuple(parts[:3]), {})[parts[3]] = row["sentence"]
        return [
            PronounSentence(each["female"], each["male"], stem[0], ("occupation", "participant")[int(stem[2])], women[stem[0]])
            for stem, each in by_stem.items()
            if {"female", "male"} <= set(each)
        ]  # fmt: skip

    def texts(self, sample: PronounSentence) -> list[TextInContext]:
        return [TextInContext("", sample.female), TextInContext("", sample.male)]

    def outcomes(
        self, samples: Sequence[PronounSentence], scores: Sequence[Sequence[ContinuationScore]]
    ) -> list[Outcomes]:
        groups = [each.group for each in samples]
        odds = np.array([pronoun_odds(each[:2], row) for each, row in zip(samples, scores, strict=True)]) / np.log(2)
        sums = np.array([female.log_probability - male.log_probability for female, male in scores])
        usual = np.sign([each.women - 50 for each in samples])
        return [
            Outcomes("usual gender", "pronoun", preferring(odds * usual), groups),
            Outcomes("usual gender", "sum", preferring(sums * usual), groups),
            Outcomes("female", "pronoun", preferring(odds), groups, sides=("female", "male")),
            Outcomes("log-odds of female", "pronoun", odds, groups, [each.occupation for each in samples], 0.0, False,
                     "bits", ("female", "male")),
            Outcomes("women in it", "statistics", np.array([each.women for each in samples]), groups,
                     [each.occupation for each in samples], None, False),
        ]  # fmt: skip

    def figures(self, outcomes: Sequence[Outcomes], signed: Callable[[Outcomes], Signature]) -> list[AuditFigure]:
        """The shares and log-odds, and by whom the pronoun means: how log-odds and statistics correlate over occupations."""
        *shown, women = outcomes
        made = super().figures(shown, signed)
        for group in sorted(set(women.groups)):
            odds, share = shown[-1].of(group), women.of(group)
            x, y = odds.means, share.means
            if len(x) < _LEAST or not x.std() or not y.std():
                continue
            low, value, high = correlation(x, y)
            signature = signed(Outcomes("correlation", "pronoun", odds.values, odds.groups))
            made.append(AuditFigure(self.name, "correlation", "pronoun", group, value, None, len(x), low, high, 0.0,
                                    signature, "r", ("as in statistics", "against statistics")))  # fmt: skip
        return made


def correlation(x: np.ndarray, y: np.ndarray, samples: int = 2000, seed: int = 12345) -> tuple[float, float, float]:
    """Pearson's r with a 95 % bootstrap interval over pairs: low, value, high."""
    draw = np.random.default_rng(seed)
    places = draw.integers(0, len(x), (samples, len(x)))
    xs, ys = x[places], y[places]
    xs, ys = xs - xs.mean(1, keepdims=True), ys - ys.mean(1, keepdims=True)
    size = np.sqrt((xs**2).sum(1) * (ys**2).sum(1))
    found = (xs * ys).sum(1)[size > 0] / size[size > 0]
    low, high = np.quantile(found, [0.025, 0.975]) if len(found) else (-1.0, 1.0)
    return float(low), float(np.corrcoef(x, y)[0, 1]), float(high)


def _percent(text: str, path: Path, line: int) -> float:
    try:
        return float(text)
    except ValueError:
        raise InputError(f"{path}, line {line}: {text[:40]} is no percentage.") from None

"""StereoSet, intrasentence (Nadeem et al. 2021): a sentence with a stereotypical, an anti-stereotypical and an unrelated word."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from wenloom.core.errors import InputError
from wenloom.core.foreign import parsed_json
from wenloom.evaluation.rows import read_text
from wenloom.evaluation.scorer import ContinuationScore, TextInContext
from wenloom.evaluation.signature import Signature
from wenloom.fairness.audit import AuditFigure, Outcomes, groups_of
from wenloom.fairness.crows_pairs import table
from wenloom.fairness.scored_audit import ScoredAudit, mean_log2

KINDS = ("stereotype", "anti-stereotype", "unrelated")
_DRAWS = 1000


class Triple(NamedTuple):
    """Three sentences about one target."""

    target: str
    group: str
    stereotype: str
    opposite: str
    unrelated: str


class StereoSet(ScoredAudit):
    """LM: how often a sentence that makes sense is preferred to one that does not; SS: how often, of those, the stereotypical one;
    ICAT = LM min(SS, 100 - SS) / 50. Means are taken by target first, as the authors do."""

    name = "stereoset"
    about = "one sentence with three words: stereotype, its opposite, neither"
    caveat = "stereotypes of the United States, written by crowdworkers; some compare nothing (Blodgett et al. 2021)"
    source = "github.com/moinnadeem/StereoSet (CC BY-SA 4.0)"
    files = ("stereoset_intrasentence_dev.csv", "stereoset.csv", "dev.json", "stereoset*.json")
    headline = ("ss", "mean")
    better = {"lm": True, "icat": True}

    def read(self, path: Path) -> list[Triple]:
        if ".json" in path.suffixes:
            return _published(path)
        columns = ("target", "bias_type", "context", "stereotype", "anti_stereotype", "unrelated")
        made = []
        for number, row in enumerate(table(path, columns), 2):
            if "BLANK" not in row["context"]:
                raise InputError(f"{path}, row {number}: context {row['context'][:60]!r} has no BLANK.")
            filled = (row["context"].replace("BLANK", row[each]) for each in columns[3:])
            made.append(Triple(row["target"], row["bias_type"], *filled))
        return made

    def texts(self, sample: Triple) -> list[TextInContext]:
        return [TextInContext("", text) for text in (sample.stereotype, sample.opposite, sample.unrelated)]

    def outcomes(self, samples: Sequence[Triple], scores: Sequence[Sequence[ContinuationScore]]) -> list[Outcomes]:
        means = np.array([[mean_log2(each) for each in row] for row in scores])
        return preferred(means, [each.group for each in samples], [each.target for each in samples], "mean")

    def figures(self, outcomes: Sequence[Outcomes], signed: Callable[[Outcomes], Signature]) -> list[AuditFigure]:
        """Those of LM and SS, and ICAT, whose interval comes from the same draws of targets."""
        made = super().figures(outcomes, signed)
        lm, ss = outcomes
        for group in groups_of(lm):
            part = lm.of(group)
            both = np.stack((part.means, ss.of(group).means))
            draws = np.random.default_rng(12345).integers(0, both.shape[1], (_DRAWS, both.shape[1]))
            low, high = np.quantile(icat(*both[:, draws].mean(-1)), [0.025, 0.975])
            value, named = (
                float(icat(*both.mean(1))),
                Outcomes("icat", lm.convention, part.values, part.groups, part.units),
            )
            made.append(AuditFigure(self.name, "icat", lm.convention, group, value, None, len(part.values), min(value, float(low)),
                                    max(value, float(high)), None, signed(named)))  # fmt: skip
        return made


def preferred(scores_N3: np.ndarray, groups: Sequence[str], targets: Sequence[str], convention: str) -> list[Outcomes]:
    """LM and SS, sample by sample.

    Args:
        scores_N3: of the stereotype, its opposite and what is unrelated; more is more probable.
    """
    sense = 50.0 * ((scores_N3[:, 0] > scores_N3[:, 2]).astype(float) + (scores_N3[:, 1] > scores_N3[:, 2]))
    stereotype = 100.0 * (scores_N3[:, 0] > scores_N3[:, 1])
    return [
        Outcomes("lm", convention, sense, groups, targets, unbiased=None, is_share=False),
        Outcomes("ss", convention, stereotype, groups, targets, ties=scores_N3[:, 0] == scores_N3[:, 1]),
    ]


def icat(lm: Any, ss: Any) -> Any:
    """The idealised score: 100 of a model that always makes sense and prefers neither.

    >>> icat(91.11, 61.93).round(2)
    np.float64(69.37)
    """
    return lm * np.minimum(ss, 100 - ss) / 50


def _published(path: Path) -> list[Triple]:
    """The authors' own dev.json."""
    try:
        document = parsed_json(read_text(path))
        made = []
        for place, row in enumerate(document["data"]["intrasentence"], 1):
            by_kind = {each["gold_label"]: each["sentence"] for each in row["sentences"]}
            if missing := [kind for kind in KINDS if kind not in by_kind]:
                raise InputError(f"{path}, sample {place}: lacks the sentence {missing[0]!r}.")
            made.append(Triple(row["target"], row["bias_type"], *(by_kind[kind] for kind in KINDS)))
        return made
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: is not StereoSet's file ({error!r}).") from None

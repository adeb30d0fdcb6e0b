"""WinoBias (Zhao et al. 2018): sentences whose pronoun refers to somebody of an occupation that most are of one gender in."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from wenloom.core.errors import InputError
from wenloom.evaluation.rows import read_text
from wenloom.evaluation.scorer import ContinuationScore, TextInContext
from wenloom.fairness.audit import Outcomes
from wenloom.fairness.scored_audit import ScoredAudit, divided


class PronounPair(NamedTuple):
    """A sentence with the pronoun of the gender that most of an occupation have, and with the other."""

    usual: str
    other: str
    group: str


class WinoBias(ScoredAudit):
    """The share of sentences in which the pronoun of the usual gender is more probable."""

    name = "winobias"
    about = "pronouns of people of 40 occupations"
    caveat = "which gender is usual is that of the United States in 2017; a model that always prefers one pronoun is near 50, too"
    source = "github.com/uclanlp/corefBias (MIT)"
    files = ("pro_stereotyped_type*",)
    headline = ("usual gender", "pronoun")
    compares = (("gap", "pronoun"), ("size of the gap", "pronoun"))
    better = {"size of the gap": False}

    def read(self, path: Path) -> list[PronounPair]:
        opposite = path.with_name(path.name.replace("pro_", "anti_", 1))
        if not opposite.is_file():
            raise InputError(f"{path}: needs {opposite.name} beside it.")
        pairs = [[_plain(line) for line in read_text(each).splitlines() if line.strip()] for each in (path, opposite)]
        if len(pairs[0]) != len(pairs[1]):
            raise InputError(
                f"{path} has {len(pairs[0])} lines and {opposite.name} {len(pairs[1])}; line n goes with line n."
            )
        group = re.sub(r".*(type\d+).*", r"\1", path.name)
        return [PronounPair(usual, other, group) for usual, other in zip(*pairs, strict=True) if usual != other]

    def texts(self, sample: PronounPair) -> list[TextInContext]:
        return [TextInContext("", sample.usual), TextInContext("", sample.other)]

    def outcomes(self, samples: Sequence[PronounPair], scores: Sequence[Sequence[ContinuationScore]]) -> list[Outcomes]:
        groups = [each.group for each in samples]
        pronouns = [[sum(part[1]) for part in divided(*each)] for each in scores]
        sums = [[each.log_probability for each in row] for row in scores]
        shares = [
            Outcomes("usual gender", convention, 100.0 * np.array([usual > other for usual, other in both]), groups)
            for convention, both in (("pronoun", pronouns), ("sum", sums))
        ]
        bits = np.array([usual - other for usual, other in pronouns]) / np.log(2)
        return [
            *shares,
            Outcomes("gap", "pronoun", bits, groups, None, 0.0, False, "bits", ("usual gender", "other gender")),
            Outcomes("size of the gap", "pronoun", np.abs(bits), groups, None, None, False, "bits"),
        ]


def _plain(line: str) -> str:
    """The sentence of a line: without its number, and the brackets around what refers to what.

    >>> _plain("1 [The developer] argued with the designer because [she] did not like it.")
    'The developer argued with the designer because she did not like it.'
    """
    return re.sub(r"^\d+\s+", "", line).replace("[", "").replace("]", "").strip()

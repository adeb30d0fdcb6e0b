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
from wenloom.fairness.exchanged import apart, differing_words
from wenloom.fairness.scored_audit import ScoredAudit


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
        bits = np.array([pronoun_odds(each[:2], row) for each, row in zip(samples, scores, strict=True)]) / np.log(2)
        sums = np.array([usual.log_probability - other.log_probability for usual, other in scores])
        return [
            Outcomes("usual gender", "pronoun", preferring(bits), groups),
            Outcomes("usual gender", "sum", preferring(sums), groups),
            Outcomes("gap", "pronoun", bits, groups, None, 0.0, False, "bits", ("usual gender", "other gender")),
            Outcomes("size of the gap", "pronoun", np.abs(bits), groups, None, None, False, "bits"),
        ]


def pronoun_odds(texts: Sequence[str], scores: Sequence[ContinuationScore]) -> float:
    """By how many nats the pronoun of the first text is more probable than that of the second: log P of the tokens that hold it."""
    first, second = (sum(words) for _, words in apart(scores, differing_words(texts[0], texts[1])))
    return first - second


def preferring(odds: np.ndarray) -> np.ndarray:
    """100 where the first is more probable, 0 where the second is, 50 where both are as probable."""
    return 50.0 + 50.0 * np.sign(odds)


def _plain(line: str) -> str:
    """The sentence of a line: without its number, and the brackets around what refers to what.

    >>> _plain("1 [The developer] argued with the designer because [she] did not like it.")
    'The developer argued with the designer because she did not like it.'
    """
    return re.sub(r"^\d+\s+", "", line).replace("[", "").replace("]", "").strip()

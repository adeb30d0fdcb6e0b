"""ROUGE (Lin 2004) of our own: the usual one knows only a to z, so that two identical Chinese texts score 0 there, and
German words fall apart at every umlaut."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from rapidfuzz.distance import LCSseq

from wenloom.core.errors import InputError
from wenloom.evaluation.words import words_of

ROUGE = ("rouge1", "rouge2", "rougeL", "rougeLsum")


class F(NamedTuple):
    """Precision, recall and their harmonic mean."""

    precision: float
    recall: float
    f1: float


def rouge_n(prediction: Sequence[str], reference: Sequence[str], n: int) -> F:
    """ROUGE-N: n-grams that both have (Lin 2004, section 2)."""
    grams = [Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1)) for words in (prediction, reference)]
    return _f((grams[0] & grams[1]).total(), grams[0].total(), grams[1].total())


def rouge_l(prediction: Sequence[str], reference: Sequence[str]) -> F:
    """ROUGE-L: the longest common subsequence (Lin 2004, section 3.1)."""
    return _f(LCSseq.similarity(prediction, reference), len(prediction), len(reference))


_MOST_CELLS = 50_000_000
"""Of the table that a common subsequence is read from (200 MB)."""


def rouge_lsum(prediction: Sequence[Sequence[str]], reference: Sequence[Sequence[str]]) -> F:
    """ROUGE-Lsum: the union of the subsequences that each sentence of the reference shares (section 3.2).

    Raises:
        InputError: two sentences too long to be laid side by side.
    """
    longest = [max(map(len, each), default=0) for each in (prediction, reference)]
    if longest[0] * longest[1] > _MOST_CELLS:
        raise InputError(
            f"rougeLsum: a line of {longest[0]:,} words against one of {longest[1]:,} is too long; break texts into lines at "
            "their sentences, or ask for rouge1, rouge2 and rougeL."
        )
    lengths = sum(map(len, prediction)), sum(map(len, reference))
    left = [Counter(word for sentence in each for word in sentence) for each in (prediction, reference)]
    hits = 0
    for sentence in reference:
        union = sorted({place for other in prediction for place in _common_subsequence(sentence, other)})
        for place in union:
            word = sentence[place]
            if left[0][word] > 0 and left[1][word] > 0:
                hits += 1
                left[0][word] -= 1
                left[1][word] -= 1
    return _f(hits, *lengths)


def _f(hits: int, n_prediction: int, n_reference: int) -> F:
    precision = hits / n_prediction if n_prediction else 0.0
    recall = hits / n_reference if n_reference else 0.0
    return F(precision, recall, 2 * precision * recall / (precision + recall) if hits else 0.0)


def _common_subsequence(first: Sequence[str], second: Sequence[str]) -> list[int]:
    """Places in `first` of a longest common subsequence; of several, the one found from the end."""
    if not first or not second:
        return []
    table = np.zeros((len(first) + 1, len(second) + 1), np.int32)
    numbers = {word: number for number, word in enumerate(dict.fromkeys([*first, *second]))}
    other = np.array([numbers[word] for word in second])
    for i, word in enumerate(first, 1):
        # row i is the running maximum of the row above and of what a match adds to it
        np.maximum.accumulate(
            np.maximum(table[i - 1, 1:], table[i - 1, :-1] + (other == numbers[word])), out=table[i, 1:]
        )
    i, j, found = len(first), len(second), []
    while i and j:
        if first[i - 1] == second[j - 1]:
            found.append(i - 1)
            i, j = i - 1, j - 1
        elif table[i, j - 1] > table[i - 1, j]:
            j -= 1
        else:
            i -= 1
    return found[::-1]


@dataclass(frozen=True)
class RougeOptions:
    """How ROUGE is computed."""

    stemming: bool = True
    references: Literal["mean", "max"] = "mean"
    """Several references: the mean over them, or the best."""
    latin_only: bool = False
    """Count only a to z and digits, as rouge-score does; refused where that loses the text."""


class Cut(NamedTuple):
    """A text as ROUGE counts it."""

    words: list[str]
    lines: list[list[str]]

    @classmethod
    def of(cls, text: str, options: RougeOptions) -> "Cut":
        """Cut a text; each of its lines is a sentence."""
        lines = [words_of(line, options.stemming, options.latin_only) for line in text.split("\n")]
        return cls([word for line in lines for word in line], lines)


def variant(name: str, prediction: Cut, reference: Cut) -> F:
    """One of `ROUGE` by its name."""
    if name == "rougeLsum":
        return rouge_lsum(prediction.lines, reference.lines)
    if name == "rougeL":
        return rouge_l(prediction.words, reference.words)
    return rouge_n(prediction.words, reference.words, int(name.removeprefix("rouge")))

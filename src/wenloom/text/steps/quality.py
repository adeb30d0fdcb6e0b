"""A classifier of quality, learned from examples of good and of bad text."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from wenloom.core.errors import InputError
from wenloom.text.document import Document, ReadOptions
from wenloom.text.hashing import mixed, word_hashes
from wenloom.text.steps.step import Dropped, Kept

_BUCKETS = 2**18
_EPOCHS, _RATE = 6, 0.5
_MOST_EXAMPLES, _LOOKED_AT = 20_000, 20_000
"""Of each side, and characters of each."""


class _Classifier(NamedTuple):
    weights: np.ndarray
    bias: float
    held_out: float
    """Part of every tenth example, which it was not learned from, that it tells right."""


@dataclass(frozen=True)
class QualityStep:
    """Drops what is more like the bad examples than like the good ones.

    Logistic regression on which words and pairs of words a text has, hashed to 2^18 numbers, as in the classifiers of GPT-3 (Brown et
    al. 2020, appendix A) and of fastText; learned anew in a second or two from thousands of examples.
    """

    good: tuple[str, ...] = ()
    """Files of documents that are as they should be."""
    bad: tuple[str, ...] = ()
    """Files of documents that are not."""
    at_least: float = 0.5
    """The probability of being good from which a document is kept."""

    @cached_property
    def _classifier(self) -> _Classifier:
        if not (self.good and self.bad):
            raise InputError("quality: name files of good and of bad examples (quality.good, quality.bad).")
        rows = [(features(text), 1.0) for text in _examples(self.good)] + [
            (features(text), 0.0) for text in _examples(self.bad)
        ]
        counts = [sum(label == side for _, label in rows) for side in (0.0, 1.0)]
        if min(counts) < 10:
            raise InputError(
                f"quality: has {counts[1]} good and {counts[0]} bad examples; ten of each at least are needed."
            )
        return _learned(rows, counts)

    def __call__(self, document: Document) -> Kept | Dropped:
        classifier = self._classifier
        chance = _chance(features(document.text), classifier.weights, classifier.bias)
        if chance >= self.at_least:
            return Kept(document)
        return Dropped(
            f"is good with a probability of {chance:.2f}, at least {self.at_least:g} must be (the classifier is right on "
            f"{100 * classifier.held_out:.0f} % of examples held out)"
        )


def features(text: str) -> np.ndarray:
    """The numbers of the words and pairs of words that a text has."""
    words = next(iter(word_hashes([text[:_LOOKED_AT]])))
    with np.errstate(over="ignore"):
        pairs = mixed(words[:-1] * np.uint64(3) + words[1:])
    return np.unique(np.concatenate((words, pairs)) % np.uint64(_BUCKETS)).astype(np.int64)


def _examples(files: tuple[str, ...]) -> Iterator[str]:
    from wenloom.text.documents import find_files, read_documents

    for number, document in enumerate(read_documents(find_files(list(files)), ReadOptions())):
        if number == _MOST_EXAMPLES:
            return
        if document.text.strip():
            yield document.text


def _chance(row: np.ndarray, weights: np.ndarray, bias: float) -> float:
    score = bias + float(weights[row].sum()) / max(1, len(row)) ** 0.5
    return float(1 / (1 + np.exp(-np.clip(score, -30, 30))))


def _learned(rows: list[tuple[np.ndarray, float]], counts: list[int]) -> _Classifier:
    """AdaGrad (Duchi et al. 2011), sides weighed alike, every tenth example held out; the order is always the same."""
    order = np.random.default_rng(0).permutation(len(rows))
    held_out, learned = order[::10], np.delete(order, np.s_[::10])
    side = [len(rows) / (2 * count) for count in counts]
    weights, squares, bias = np.zeros(_BUCKETS), np.full(_BUCKETS, 1e-2), 0.0
    for _ in range(_EPOCHS):
        for each in learned:
            row, label = rows[each]
            error = (_chance(row, weights, bias) - label) * side[int(label)]
            step = error / max(1, len(row)) ** 0.5
            squares[row] += step * step
            weights[row] -= _RATE * step / np.sqrt(squares[row])
            bias -= 0.01 * error
    right = [(_chance(rows[each][0], weights, bias) >= 0.5) == (rows[each][1] == 1.0) for each in held_out]
    return _Classifier(weights, bias, float(np.mean(right)))

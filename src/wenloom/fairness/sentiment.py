"""How well a text speaks: by words of a lexicon, or by a classifier of the user's own."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from wenloom.text.lexicon import Lexicon, counter

_NEGATED = 3
"""Words before a counted one among which a negation turns it around."""
_NEGATED_CHARACTERS = 2
"""The same where words have no blanks between them."""


@dataclass(frozen=True)
class TextJudge:
    """What gives texts a value."""

    measure: str
    """What the value says, such as sentiment."""
    name: str
    """For signatures: values of two judges are not compared."""
    unit: str
    values: Callable[[Sequence[str]], np.ndarray]
    """Of texts, shape (n,)."""


def by_lexicon(lexicon: Lexicon) -> TextJudge:
    """100 (positive - negative) / (positive + negative) words of a text, 0 where it has none; a negation before a word turns it
    around. A coarse measure: it knows no irony and counts what is said of anybody in the text."""
    words = lexicon.sentiment
    find = counter((*words.positive, *words.negative), lexicon.spaced)
    positive = {each.casefold() for each in words.positive}
    negations = {each.casefold() for each in words.negations}

    def value(text: str) -> float:
        good = bad = 0
        for match in find(text):
            before = text[max(0, match.start() - 60) : match.start()].casefold()
            if lexicon.spaced:
                is_negated = any(
                    each in negations or each.endswith("n't") for each in re.findall(r"[\w']+", before)[-_NEGATED:]
                )
            else:
                is_negated = any(each in before[-_NEGATED_CHARACTERS:] for each in negations)
            if (match.group().casefold() in positive) != is_negated:
                good += 1
            else:
                bad += 1
        return 100.0 * (good - bad) / (good + bad) if good + bad else 0.0

    return TextJudge(
        "sentiment", f"lexicon-{lexicon.language}", "points", lambda texts: np.array([value(e) for e in texts])
    )

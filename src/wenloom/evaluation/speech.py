"""How well speech was written down: word and character error rates, with intervals, errors by kind and signatures."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rapidfuzz.distance import Levenshtein

from wenloom.core.errors import InputError
from wenloom.evaluation.signature import Signature
from wenloom.evaluation.significance import Interval, Paired
from wenloom.evaluation.spoken_words import UNSPACED, normaliser


@dataclass(frozen=True)
class SpeechErrors:
    """What was heard otherwise in one recording; of words, or characters in languages without blanks."""

    reference: tuple[str, ...]
    """The normalised words that were said."""
    heard: tuple[str, ...]
    substituted: int
    inserted: int
    deleted: int
    gap: str = " "
    """Between two of them in writing: a blank, or nothing where they are characters."""

    @property
    def errors(self) -> int:
        """Of all kinds."""
        return self.substituted + self.inserted + self.deleted

    def marked(self) -> list[tuple[str, str, str]]:
        """(kind, said, heard) in order: kind is equal, replace, insert or delete."""
        steps = Levenshtein.opcodes(self.reference, self.heard)
        return [(step.tag, self.gap.join(self.reference[step.src_start : step.src_end]),
                 self.gap.join(self.heard[step.dest_start : step.dest_end])) for step in steps]  # fmt: skip


@dataclass(frozen=True)
class SpeechFigure:
    """An error rate in percent over recordings of one language."""

    metric: str
    """wer or cer."""
    language: str
    interval: Interval
    """95 %, by resampling recordings."""
    signature: Signature
    errors: tuple[SpeechErrors, ...]

    @property
    def by_kind(self) -> dict[str, int]:
        """How many of each kind, and of how many words."""
        return {
            "substituted": sum(each.substituted for each in self.errors),
            "inserted": sum(each.inserted for each in self.errors),
            "deleted": sum(each.deleted for each in self.errors),
            "said": sum(len(each.reference) for each in self.errors),
        }


def speech_errors(reference: str, heard: str, language: str = "en") -> SpeechErrors:
    """The fewest changes from what was said to what was heard, both normalised for the language.

    >>> speech_errors("It's twenty-one lamps.", "it is 21 lamp").errors
    1
    """
    _, clean = normaliser(language)
    said, found = (_units(clean(text), language) for text in (reference, heard))
    kinds = [each.tag for each in Levenshtein.editops(said, found)]
    return SpeechErrors(said, found, kinds.count("replace"), kinds.count("insert"), kinds.count("delete"),
                        "" if language in UNSPACED else " ")  # fmt: skip


def _units(text: str, language: str) -> tuple[str, ...]:
    return tuple("".join(text.split())) if language in UNSPACED else tuple(text.split())


def speech_figure(pairs: Sequence[tuple[str, str]], language: str, data: str, samples: int = 1000) -> SpeechFigure:
    """The error rate of recordings of one language: all errors by all words (characters) that were said.

    Args:
        pairs: what was said and what was heard.
        data: names the recordings in the signature.
        samples: draws of the interval.

    Raises:
        InputError: nothing was said in any of them.
    """
    errors = tuple(speech_errors(*pair, language) for pair in pairs)
    said = np.array([len(each.reference) for each in errors])
    if not said.sum():
        raise InputError(f"there is no word to compare with in the texts of language {language!r}.")
    wrong = np.array([each.errors for each in errors])
    draw = np.random.default_rng(12345)
    rates = []
    for _ in range(samples):
        chosen = draw.integers(0, len(errors), len(errors))
        if total := said[chosen].sum():
            rates.append(100 * wrong[chosen].sum() / total)
    low, high = np.quantile(rates, [0.025, 0.975])
    metric = "cer" if language in UNSPACED else "wer"
    signature = Signature.of(metric, lang=language, norm=normaliser(language)[0], script="as-it-is" if metric == "cer" else None,
                             n=len(errors), data=data, version=1)  # fmt: skip
    return SpeechFigure(
        metric, language, Interval(float(low), float(100 * wrong.sum() / said.sum()), float(high)), signature, errors
    )


def compared_speech(first: SpeechFigure, second: SpeechFigure, samples: int = 10_000) -> Paired:
    """Two systems on the same recordings: the difference of their rates in points, tested by exchanging their transcripts at
    random (as the matched-pairs test of Gillick and Cox 1989, without its normal approximation).

    Raises:
        InputError: they are of other recordings.
    """
    if [each.reference for each in first.errors] != [each.reference for each in second.errors]:
        raise InputError("two systems are compared on the same recordings; these differ.")
    said = sum(len(each.reference) for each in first.errors)
    gaps = np.array([b.errors - a.errors for a, b in zip(first.errors, second.errors, strict=True)], float)
    draw = np.random.default_rng(12345)
    lengths = np.array([len(each.reference) for each in first.errors], float)
    means = []
    for _ in range(samples // 10):
        chosen = draw.integers(0, len(gaps), len(gaps))
        if total := lengths[chosen].sum():
            means.append(100 * gaps[chosen].sum() / total)
    low, high = np.quantile(means, [0.025, 0.975])
    signs = draw.integers(0, 2, (samples, len(gaps)), dtype=np.int8) * 2 - 1
    as_large = int((np.abs(signs @ gaps) >= abs(gaps.sum()) - 1e-9).sum())
    return Paired(float(100 * gaps.sum() / said), float(low), float(high), (as_large + 1) / (samples + 1))

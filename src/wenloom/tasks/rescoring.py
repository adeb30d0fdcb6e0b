"""Speech recognition: which of a recogniser's hypotheses a language model finds best (n-best rescoring).

A hypothesis is chosen by acoustic score + weight * (log P(text) + bonus * words) (shallow fusion after the fact; Salazar
et al. 2020, section 3, for masked models), where log P may be a mixture of two models'. What counts how much is tuned on
one half and applied to the other, and the other way round, so that no utterance is judged by a weight that saw it.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from rapidfuzz.distance import Levenshtein

from wenloom.core.errors import InputError
from wenloom.evaluation.scorer import Scorer, TextInContext
from wenloom.evaluation.significance import Interval
from wenloom.tasks.rows import RowReader, text_of

Case = Literal["lower", "upper", "sentence", "keep"]
WEIGHTS = tuple(float(weight) for weight in np.round(np.concatenate([[0.0], np.geomspace(0.01, 3.0, 30)]), 4))
BONUSES = tuple(float(bonus) for bonus in np.round(np.linspace(-3.0, 3.0, 25), 2))
MIXES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
"""What is tried for each field of `Fusion`."""
Scores = Sequence[Sequence[float]]
"""log P of every hypothesis of every utterance."""


class Hypothesis(NamedTuple):
    """What may have been said."""

    text: str
    score: float
    """The recogniser's log-probability."""


class Utterance(NamedTuple):
    """What a recogniser made of a stretch of speech."""

    name: str
    reference: str
    hypotheses: tuple[Hypothesis, ...]


def utterance_of(row: dict[str, Any]) -> Utterance:
    """{"utt_id", "ref", "nbest": [{"text", "score"}, ...]}; the reference may be missing where nothing is measured.

    Raises:
        ValueError: it is not.
    """
    found = row.get("nbest", row.get("hypotheses"))
    if not isinstance(found, list) or not found:
        raise ValueError('"nbest" must be a list of {"text", "score"}')
    hypotheses = []
    for number, each in enumerate(found, 1):
        score = each.get("score") if isinstance(each, dict) else None
        if not isinstance(each, dict) or not isinstance(each.get("text"), str):
            raise ValueError(f'hypothesis {number} needs "text" and "score"')
        if not isinstance(score, int | float) or isinstance(score, bool) or not np.isfinite(score):
            raise ValueError(f"hypothesis {number}: the score must be a finite number, got {score!r}")
        hypotheses.append(Hypothesis(each["text"].strip(), float(score)))
    reference = text_of(row, ["ref", "reference", "text"]) if {"ref", "reference", "text"} & row.keys() else ""
    return Utterance(str(row.get("utt_id", row.get("id", ""))), reference, tuple(hypotheses))


def read_utterances(path: Path, reader: RowReader) -> list[Utterance]:
    """The utterances of a jsonl file, also compressed."""
    return reader.objects(path, utterance_of)


def cased(text: str, case: Case) -> str:
    """A text as the language model is used to it.

    >>> cased("IT IS I", "lower"), cased("IT IS LATE", "sentence")
    ('it is i', 'It is late.')
    """
    if case == "sentence":
        return text[:1].upper() + text[1:].lower() + ("." if text and text[-1].isalnum() else "")
    return {"lower": text.lower, "upper": text.upper, "keep": lambda: text}[case]()


def log_probabilities(
    scorer: Scorer,
    utterances: Sequence[Utterance],
    case: Case = "lower",
    on_texts: Callable[[int], None] = lambda n: None,
) -> list[list[float]]:
    """log P(hypothesis) of every hypothesis, with what ends a text where the tokenizer has that; of a masked model the
    pseudo-log-likelihood.

    Raises:
        InputError: the model has both an encoder and a decoder.
    """
    if scorer.kind == "pairs":
        raise InputError("rescoring takes a model that continues a text, or a masked one.")
    if not scorer.opens(is_empty=True):
        raise InputError("this model's tokenizer has no token that opens a text: the first word cannot be scored.")
    texts = [
        [TextInContext("", cased(each.text, case), is_whole=True) for each in utterance.hypotheses]
        for utterance in utterances
    ]
    return [[each.log_probability for each in row] for row in scorer.continuations(texts, on_texts)]


class Fusion(NamedTuple):
    """How much the language models count: score + weight * (log P + bonus * words)."""

    weight: float
    """In units of the recogniser's score per nat."""
    bonus: float
    """Nats per word."""
    mix: float = 0.0
    """log P is (1 - mix) times that of the first model, mix times that of the second."""


class Rescoring(NamedTuple):
    """Word error rates in percent, and what gave them."""

    before: float
    """Of the recogniser's own choice."""
    after: Interval
    """With the language model, each half by the weight of the other; 95 % by resampling utterances."""
    oracle: float
    """Of the best hypothesis of each list: no choice can do better."""
    fusion: Fusion
    """Weights that all utterances tuned, for use on other speech; or those that the caller gave."""
    chosen: list[int]
    """Index of the chosen hypothesis of each utterance."""
    gain: Interval
    """before - after, by the same resampling."""


class _Lists:
    """The scores of all hypotheses, shape (utterances, hypotheses)."""

    def __init__(self, utterances: Sequence[Utterance], scores: Sequence[Scores]):
        self.acoustic = _padded([[each.score for each in utterance.hypotheses] for utterance in utterances], -np.inf)
        self.language = [_padded(each, 0.0) for each in scores]
        self.n_words = _padded([[len(each.text.split()) for each in row.hypotheses] for row in utterances], 0.0)

    def choice(self, fusion: Fusion) -> np.ndarray:
        """The best hypothesis of every utterance."""
        language = self.language[0]
        if fusion.mix:
            language = (1 - fusion.mix) * language + fusion.mix * self.language[1]
        return (self.acoustic + fusion.weight * (language + fusion.bonus * self.n_words)).argmax(1)


def choose(utterances: Sequence[Utterance], scores: Sequence[Scores], fusion: Fusion) -> list[int]:
    """The best hypothesis of every utterance, references or not.

    Args:
        scores: what `log_probabilities` gives, of one model or two.
    """
    return _Lists(utterances, scores).choice(fusion).tolist()


def rescore(
    utterances: Sequence[Utterance], scores: Sequence[Scores], fusion: Fusion | None = None, seed: int = 0
) -> Rescoring:
    """Tune how much the language models count, and measure by cross-validation on two halves.

    Args:
        scores: what `log_probabilities` gives, of one model or two.
        fusion: apply this instead, tuned on other speech.

    Raises:
        InputError: fewer than two utterances, or one without reference.
    """
    if len(utterances) < 2 or not all(utterance.reference for utterance in utterances):
        raise InputError('to measure takes at least two utterances, each with its reference ("ref").')
    references = [utterance.reference.split() for utterance in utterances]
    n_words = np.array([len(words) for words in references])
    errors = _padded([[Levenshtein.distance(each.text.split(), words) for each in utterance.hypotheses]
                      for utterance, words in zip(utterances, references, strict=True)], 10**6)  # fmt: skip
    lists = _Lists(utterances, scores)
    everything = np.arange(len(utterances))
    if fusion is not None:
        chosen = lists.choice(fusion)
    else:
        chosen = np.zeros(len(utterances), int)
        grid = [
            (each, errors[everything, lists.choice(each)])
            for weight in WEIGHTS
            for mix in (MIXES if len(scores) > 1 and weight else (0.0,))
            for bonus in (BONUSES if weight else (0.0,))
            for each in [Fusion(weight, bonus, mix)]
        ]

        def tuned(rows: np.ndarray) -> Fusion:
            return min(grid, key=lambda each: (each[1][rows].sum(), each[0].weight, abs(each[0].bonus)))[0]

        halves = np.random.default_rng(seed).permutation(len(utterances)) % 2
        for half in (0, 1):
            chosen[halves == half] = lists.choice(tuned(everything[halves != half]))[halves == half]
        fusion = tuned(everything)
    first, best = errors[everything, lists.acoustic.argmax(1)], errors.min(1)
    now = errors[everything, chosen]
    drawn = np.random.default_rng(seed + 1).integers(0, len(utterances), (1000, len(utterances)))
    totals = n_words[drawn].sum(1)
    after = 100 * now[drawn].sum(1) / totals
    gain = 100 * (first[drawn].sum(1) - now[drawn].sum(1)) / totals

    def rate(each: np.ndarray) -> float:
        return float(100 * each.sum() / n_words.sum())

    def interval(samples: np.ndarray, value: float) -> Interval:
        low, high = np.quantile(samples, [0.025, 0.975])
        return Interval(float(low), value, float(high))

    return Rescoring(rate(first), interval(after, rate(now)), rate(best), fusion, chosen.tolist(),
                     interval(gain, rate(first) - rate(now)))  # fmt: skip


def _padded(rows: Sequence[Sequence[float]], filler: float) -> np.ndarray:
    made = np.full((len(rows), max(map(len, rows))), filler, float)
    for line, row in zip(made, rows, strict=True):
        line[: len(row)] = row
    return made

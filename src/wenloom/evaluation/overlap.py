"""Metrics that compare a text with what people wrote: BLEU, chrF, TER, ROUGE, WER, CER, exact match, F1.

BLEU, chrF and TER are sacrebleu's; ROUGE is our own, see `rouge`.
"""

import re
import string
import unicodedata
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Literal, NamedTuple

import numpy as np
from rapidfuzz.distance import Levenshtein

from wenloom.core.errors import InputError
from wenloom.evaluation.rouge import ROUGE, Cut, RougeOptions, rouge_n, variant
from wenloom.evaluation.signature import Signature
from wenloom.evaluation.significance import Interval, interval
from wenloom.evaluation.words import UNSPACED, looks_unspaced, words_of
from wenloom.text.clean import composed

SACREBLEU = ("bleu", "chrf", "ter")
LOWER_IS_BETTER = {"ter", "wer", "cer"}


class OverlapScore(NamedTuple):
    """A metric's value over a corpus."""

    metric: str
    value: float
    """0 to 100, but TER, WER and CER, which may exceed it."""
    per_sample: list[float]
    """The value of every sample alone."""
    interval: Interval
    signature: Signature
    text: str = ""
    """sacrebleu's own line, for its metrics."""


# --- what all share ---


def check_pairs(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> None:
    """
    Raises:
        InputError: nothing to compare, a different number of texts, or a text without a reference.
    """
    if not predictions:
        raise InputError("there are no predictions.")
    for number, stream in enumerate(references, 1):
        if len(stream) != len(predictions):
            which = "references" if len(references) == 1 else f"references of set {number}"
            raise InputError(f"{len(predictions):,} predictions but {len(stream):,} {which}; line n belongs to line n.")
    if not references:
        raise InputError("there are no references.")


# --- sacrebleu ---


def sacrebleu_score(
    metric: str, predictions: Sequence[str], references: Sequence[Sequence[str]], tokenize: str | None = None,
    lowercase: bool = False, samples: int = 1000, seed: int = 12345,
) -> OverlapScore:  # fmt: skip
    """BLEU, chrF or TER as sacrebleu (Post 2018) computes it, with its line and signature.

    Args:
        references: sets of references, each as long as the predictions.
        lowercase: take upper and lower case as alike in BLEU and chrF; TER, as sacrebleu's command, always does.
        tokenize: sacrebleu's tokenizer for BLEU; default: zh, ja-mecab or char for such references, else 13a. A
            tokenizer that cannot cut the references' language is refused.
        samples: bootstrap resamples for the interval.

    Raises:
        InputError: see `check_pairs`; a tokenizer that does not exist or does not fit.
    """
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF
    from sacrebleu.metrics.ter import TER

    check_pairs(predictions, references)
    unspaced = looks_unspaced(references[0])
    if metric == "bleu":
        if tokenize is None:
            tokenize = _tokenizer_for(references[0]) if unspaced else "13a"
        if tokenize not in BLEU.TOKENIZERS:
            raise InputError(f"--tokenize {tokenize}: sacrebleu has {', '.join(sorted(BLEU.TOKENIZERS))}.")
        if unspaced and tokenize in ("13a", "intl", "none"):
            raise InputError(
                f"--tokenize {tokenize} cuts at blanks, and these references have none: the score would be near 0 "
                "whatever the texts. Use zh, ja-mecab, char or flores200, or leave the choice to Wenloom."
            )
        made: Any = BLEU(tokenize=tokenize, lowercase=lowercase)
        single: Any = BLEU(tokenize=tokenize, lowercase=lowercase, effective_order=True)
    elif metric == "ter":
        made = single = TER(asian_support=unspaced, normalized=unspaced)
    else:
        made = single = CHRF(lowercase=lowercase)
    found = made.corpus_score(list(predictions), [list(each) for each in references])
    each = [
        single.sentence_score(text, [stream[index] for stream in references]).score
        for index, text in enumerate(predictions)
    ]
    if metric == "bleu":
        spread = _bleu_interval(made, predictions, references, samples, seed)
    else:
        spread = interval(np.array(each), samples=samples, seed=seed)
        spread = Interval(
            found.score + spread.low - spread.value, found.score, found.score + spread.high - spread.value
        )
    signature = Signature.parse(f"{found.name}|{made.get_signature().format()}")
    return OverlapScore(
        metric, found.score, each, spread, signature, found.format(signature=made.get_signature().format())
    )


def _bleu_interval(
    metric: Any, predictions: Sequence[str], references: Sequence[Sequence[str]], samples: int, seed: int
) -> Interval:
    """95 % by resampling sentences; statistics of sentences add up, so that each resample is one sum."""
    rows = np.array(metric._extract_corpus_statistics(list(predictions), [list(each) for each in references]))
    draw = np.random.default_rng(seed)
    found = [
        metric._compute_score_from_stats(rows[draw.integers(0, len(rows), len(rows))].sum(0).tolist()).score
        for _ in range(samples)
    ]
    value = metric._compute_score_from_stats(rows.sum(0).tolist()).score
    low, high = np.quantile(found, [0.025, 0.975])
    return Interval(float(low), value, float(high))


def _tokenizer_for(texts: Sequence[str]) -> str:
    sample = "".join(texts[:200])
    if UNSPACED.search(sample):
        return "char"
    kana = re.search(r"[\u3040-\u30ff]", sample)
    return "char" if kana else "zh"  # ja-mecab needs a package of its own


# --- ROUGE ---


def rouge(
    predictions: Sequence[str],
    references: Sequence[Sequence[str]],
    options: RougeOptions | None = None,
    variants: Sequence[str] = ROUGE,
) -> list[OverlapScore]:
    """ROUGE-1, -2, -L and -Lsum, or some of them (F1 times 100), with a bootstrap interval.

    Lsum takes each line as a sentence.

    Args:
        references: sets of references, each as long as the predictions.

    Raises:
        InputError: see `check_pairs`; `latin_only` for a text that it would lose.
    """
    options = options or RougeOptions()
    check_pairs(predictions, references)
    if options.latin_only:
        _refuse_lost_words([*predictions, *references[0]])

    rows = []
    for index, prediction in enumerate(predictions):
        mine = Cut.of(prediction, options)
        others = [Cut.of(stream[index], options) for stream in references]
        scores = np.array([[variant(name, mine, other).f1 for name in variants] for other in others])
        rows.append(scores.mean(0) if options.references == "mean" else scores.max(0))
    table = 100 * np.array(rows)
    several = len(references) > 1
    results = []
    for column, name in enumerate(variants):
        signature = Signature.of(
            name, nrefs=len(references), refs=options.references if several else None, stem=options.stemming,
            tok="latin" if options.latin_only else "words", version=1,
        )  # fmt: skip
        spread = interval(table[:, column])
        results.append(OverlapScore(name, spread.value, table[:, column].tolist(), spread, signature))
    return results


def _refuse_lost_words(texts: Sequence[str]) -> None:
    letters = [each for text in texts[:200] for each in text if each.isalpha()]
    lost = sum(not each.isascii() for each in letters)
    if letters and lost / len(letters) > 0.02:
        raise InputError(
            f"counting a to z only would lose {100 * lost / len(letters):.0f} % of the letters of these texts; leave it out."
        )


# --- errors, matches ---


def error_rate(
    predictions: Sequence[str], references: Sequence[str], unit: Literal["word", "character"] = "word"
) -> OverlapScore:
    """WER or CER: edits per word or character of the references, in percent; compared as they stand.

    CER leaves blanks (U+0020) out on both sides, so that texts of scripts without blanks are judged alike however they
    are cut into words; its signature says so. An empty prediction misses everything: 100.

    Raises:
        InputError: see `check_pairs`; words asked of texts that have no blanks; references without any.
    """
    check_pairs(predictions, [references])
    if unit == "word" and looks_unspaced(references):
        raise InputError("wer: these references have no blanks between words; use cer.")
    cut: Callable[[str], Sequence[str]] = str.split if unit == "word" else lambda text: text.replace(" ", "")
    pairs = np.array(
        [[Levenshtein.distance(cut(r), cut(p)), len(cut(r))] for p, r in zip(predictions, references, strict=True)],
        float,
    )
    if not pairs[:, 1].any():
        raise InputError("the references hold no words.")
    draw = np.random.default_rng(12345)
    sums = np.array([pairs[draw.integers(0, len(pairs), len(pairs))].sum(0) for _ in range(1000)])
    low, high = 100 * np.quantile(sums[:, 0] / np.maximum(sums[:, 1], 1), [0.025, 0.975])
    total = pairs.sum(0)
    value = float(100 * total[0] / total[1])
    name = "wer" if unit == "word" else "cer"
    each = (100 * pairs[:, 0] / np.maximum(pairs[:, 1], 1)).tolist()
    return OverlapScore(name, value, each, Interval(float(low), value, float(high)), Signature.of(name, tok="blanks" if unit == "word" else "characters_without_blanks", case="mixed", version=1))  # fmt: skip


def normalized_answer(text: str) -> str:
    """An answer as SQuAD (Rajpurkar et al. 2016) compares it: lower case, no punctuation, no English articles.

    >>> normalized_answer("The  Eiffel Tower!")
    'eiffel tower'
    """
    text = composed(text, "NFKC").lower()
    text = "".join(each for each in text if each not in string.punctuation and unicodedata.category(each)[0] != "P")
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


@lru_cache(maxsize=4096)
def _answer_words(text: str) -> tuple[str, ...]:
    return tuple(words_of(normalized_answer(text), stemming=False))


def _is_same(prediction: str, reference: str) -> bool:
    mine, other = normalized_answer(prediction), normalized_answer(reference)
    if not mine and not other:
        mine, other = prediction.strip().lower(), reference.strip().lower()
    return bool(mine) and mine == other


def _f1(prediction: str, reference: str) -> float:
    mine, other = _answer_words(prediction), _answer_words(reference)
    return rouge_n(mine, other, 1).f1 if mine or other else float(_is_same(prediction, reference))


def answers(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> list[OverlapScore]:
    """Exact match and F1 over words, against the best of several references, after `normalized_answer`.

    An empty prediction scores 0, also where nothing is left of the reference either ("The", "?"): such answers are
    compared as they stand.
    """
    check_pairs(predictions, references)
    exact, f1 = [], []
    for index, prediction in enumerate(predictions):
        streams = [stream[index] for stream in references]
        exact.append(100.0 * any(_is_same(prediction, each) for each in streams))
        f1.append(100 * max(_f1(prediction, each) for each in streams))
    made = []
    for name, values in (("exact_match", exact), ("f1", f1)):
        spread = interval(np.array(values))
        made.append(
            OverlapScore(
                name, spread.value, values, spread, Signature.of(name, nrefs=len(references), case="lower", version=1)
            )
        )
    return made

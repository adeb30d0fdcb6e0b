"""Metrics of texts against references by their names."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

from wenloom.core.errors import InputError
from wenloom.evaluation.options import OverlapOptions
from wenloom.evaluation.overlap import (
    LOWER_IS_BETTER,
    SACREBLEU,
    OverlapScore,
    answers,
    check_pairs,
    error_rate,
    rouge,
    sacrebleu_score,
)
from wenloom.evaluation.rouge import ROUGE, RougeOptions
from wenloom.evaluation.signature import Signature
from wenloom.evaluation.suite import MetricResult

Metric = Callable[[Sequence[str], Sequence[Sequence[str]], OverlapOptions], list[OverlapScore]]
"""From predictions, sets of references as long as they are, and options to scores."""


def _by_sacrebleu(name: str) -> Metric:
    return lambda texts, references, how: [sacrebleu_score(name, texts, references, how.tokenize, how.lowercase)]


def _by_rouge(*names: str) -> Metric:
    return lambda texts, references, how: rouge(texts, references, RougeOptions(how.stemming, how.references_by), names)


def _by_errors(name: str, unit: Literal["word", "character"]) -> Metric:
    def metric(texts: Sequence[str], references: Sequence[Sequence[str]], how: OverlapOptions) -> list[OverlapScore]:
        if len(references) > 1:
            raise InputError(f"{name} is against one reference; there are {len(references)}.")
        return [error_rate(texts, references[0], unit)]

    return metric


def _by_answers(*names: str) -> Metric:
    return lambda texts, references, how: [each for each in answers(texts, references) if each.metric in names]


_METRICS: dict[str, Metric] = {
    **{name: _by_sacrebleu(name) for name in SACREBLEU},
    "rouge": _by_rouge(*ROUGE),
    **{name: _by_rouge(name) for name in ROUGE},
    "wer": _by_errors("wer", "word"),
    "cer": _by_errors("cer", "character"),
    "answers": _by_answers("exact_match", "f1"),
    "exact_match": _by_answers("exact_match"),
    "f1": _by_answers("f1"),
}
METRICS = tuple(name for name in _METRICS if name not in ("exact_match", "f1"))
"""What predictions can be compared with references by."""


def compare(
    metrics: Sequence[str], predictions: Sequence[str], references: Sequence[Sequence[str]], options: OverlapOptions
) -> list[OverlapScore]:
    """Compare predictions with sets of references.

    Raises:
        InputError: an unknown metric; see `overlap`.
    """
    check_pairs(predictions, references)
    found: list[OverlapScore] = []
    for name in metrics:
        if name not in _METRICS:
            raise InputError(f"--metric {name}: known are {', '.join(METRICS)}.")
        found += _METRICS[name](predictions, references, options)
    return found


def overlap_figures(
    task: str, dataset: str, found: Sequence[OverlapScore], more: dict[str, object], details: dict[str, Any]
) -> list[MetricResult]:
    """As figures for the results store.

    Args:
        more: fields of the signature besides those of the metric.
    """
    fields = Signature.of("", **more).fields
    return [
        MetricResult(task, dataset, each.metric, each.value, each.interval.low, each.interval.high, len(each.per_sample),
               Signature(each.signature.metric, (*each.signature.fields, *fields)),
               higher_is_better=each.metric not in LOWER_IS_BETTER, is_headline=index == 0,
               details=details | ({"line": each.text} if each.text else {}))
        for index, each in enumerate(found)
    ]  # fmt: skip

"""Metrics of texts against references by their names."""

from collections.abc import Sequence

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

METRICS = (*SACREBLEU, "rouge", *ROUGE, "wer", "cer", "answers")
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
    for metric in metrics:
        if metric in SACREBLEU:
            found.append(sacrebleu_score(metric, predictions, references, options.tokenize, options.lowercase))
        elif metric in ("rouge", *ROUGE):
            how = RougeOptions(options.stemming, options.references_by)
            found += rouge(predictions, references, how, ROUGE if metric == "rouge" else [metric])
        elif metric in ("wer", "cer"):
            if len(references) > 1:
                raise InputError(f"{metric} is against one reference; there are {len(references)}.")
            found.append(error_rate(predictions, references[0], "word" if metric == "wer" else "character"))
        elif metric in ("answers", "exact_match", "f1"):
            found += [each for each in answers(predictions, references) if metric in ("answers", each.metric)]
        else:
            raise InputError(f"--metric {metric}: known are {', '.join(METRICS)}.")
    return found


def overlap_figures(task: str, dataset: str, found: Sequence[OverlapScore], data: str) -> list[MetricResult]:
    """As figures for the results store."""
    return [
        MetricResult(task, dataset, each.metric, each.value, each.interval.low, each.interval.high, len(each.per_sample),
               Signature(each.signature.metric, (*each.signature.fields, ("data", data))),
               higher_is_better=each.metric not in LOWER_IS_BETTER, is_headline=index == 0,
               details={"line": each.text} if each.text else {})
        for index, each in enumerate(found)
    ]  # fmt: skip

"""Texts as suites: perplexity and its kin, see `perplexity`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from wenloom.core.errors import InputError
from wenloom.core.progress import progress
from wenloom.evaluation.evaluated_model import EvaluatedModel
from wenloom.evaluation.options import Convention
from wenloom.evaluation.perplexity import measure
from wenloom.evaluation.rows import read_text
from wenloom.evaluation.scorer import Advance, Scorer
from wenloom.evaluation.signature import Signature
from wenloom.evaluation.significance import interval
from wenloom.evaluation.suite import EvaluationRequest, MetricResult, Suite
from wenloom.text.refusals import Refusals


@dataclass(frozen=True)
class TextSuite(Suite):
    """One text, whose probability counts."""

    kind: ClassVar[str] = "text"

    def check(self, request: EvaluationRequest, limit: int | None) -> None:
        if limit is not None:
            raise InputError("--limit counts samples; a text for perplexity is one. Cut the file instead.")

    def read(self, path: Path, refusals: Refusals | None = None) -> list[str]:
        return [read_text(path)]

    def run(self, model: EvaluatedModel, samples: Sequence[str], request: EvaluationRequest) -> list[MetricResult]:
        (text,) = samples
        scorer = model.scorer()
        with progress(self.name, scorer.n_tokens(text), "tokens") as bar:
            return text_figures(scorer, self.task, self.dataset, text, request.convention, bar.advance)


def text_figures(
    scorer: Scorer, task: str, dataset: str, text: str, convention: Convention, on_tokens: Advance
) -> list[MetricResult]:
    """Perplexity and its kin on a text, by a convention."""
    found = measure(scorer, text, convention, on_tokens)
    figures = found.figures()
    # intervals: over texts where there are several, else over stretches of tokens
    logs = np.array([value for each in found.scores for value in each.log_probabilities])
    pieces = np.array_split(-logs, min(len(logs), 200))
    nats = interval(np.array([piece.mean() for piece in pieces]))
    spread = nats.low / nats.value, nats.high / nats.value
    made = []
    for metric in ("bits_per_byte", "word_perplexity", "perplexity", "bits_per_character"):
        value = figures[metric]
        low, high = (value**part if "perplexity" in metric else value * part for part in spread)
        made.append(
            MetricResult(task, dataset, metric, value, low, high, int(figures["tokens"]),
                   Signature(metric, found.signature.fields), higher_is_better=False,
                   is_headline=metric == "bits_per_byte", details=dict(figures))
        )  # fmt: skip
    return made

"""Texts as suites: perplexity and its kin, see `perplexity`."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from wenloom.core.errors import InputError
from wenloom.core.progress import progress
from wenloom.evaluation.evaluated_model import EvaluatedModel
from wenloom.evaluation.perplexity import Perplexity, measure
from wenloom.evaluation.rows import read_text
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
            found = measure(scorer, text, request.convention, bar.advance)
        stretches = enumerate(found.bits_by_stretch().tolist())
        request.log(asdict(request.convention)).add([{"number": place, _BITS: bits} for place, bits in stretches])
        return text_figures(found, self.task, self.dataset)

    def per_sample(
        self, rows: Sequence[dict[str, Any]], samples: Sequence[str], request: EvaluationRequest
    ) -> tuple[str, np.ndarray]:
        return _BITS, np.array([row[_BITS] for row in rows])


_BITS = "bits_per_byte"
"""Of a stretch of the text, see `Perplexity.bits_by_stretch`."""


def text_figures(found: Perplexity, task: str, dataset: str) -> list[MetricResult]:
    """Perplexity and its kin of a text."""
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

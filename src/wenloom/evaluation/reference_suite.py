"""Suites of prompts with one or more references: what a model writes is compared with them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from wenloom.core.errors import InputError
from wenloom.evaluation.compare import compare, overlap_figures
from wenloom.evaluation.evaluated_model import EvaluatedModel
from wenloom.evaluation.matching import Matching
from wenloom.evaluation.multiple_choice import led
from wenloom.evaluation.signature import Signature
from wenloom.evaluation.significance import interval
from wenloom.evaluation.suite import EvaluationRequest, MetricResult, Suite, by_group
from wenloom.evaluation.writing import written_texts
from wenloom.text.refusals import Refusals


@dataclass(frozen=True)
class Reference:
    """A prompt, and what people wrote after it."""

    prompt: str
    references: list[str]
    group: str = ""
    lead: str = ""
    """What stands before the prompt."""
    examples: tuple[int, ...] = ()
    """Which worked examples that are."""
    example: str = ""
    """How it is written as one; default: the prompt with its first reference."""

    def solved(self) -> str:
        """The prompt with its answer, see `shots`."""
        return self.example or self.prompt + led(self.prompt, self.references[0])

    def led_by(self, examples: str, numbers: tuple[int, ...]) -> "Reference":
        """The prompt after worked examples."""
        return replace(self, lead=self.lead + examples, examples=numbers)


@dataclass(frozen=True)
class ReferenceSuite(Suite):
    """Prompts with right answers."""

    kind: ClassVar[str] = "written"
    takes_examples: ClassVar[bool] = True

    prompts: Callable[[Path, Refusals | None], list[Reference]] = field(default=lambda path, refusals: [], kw_only=True)
    """Reads its file."""
    metrics: tuple[str, ...] = field(default=("exact_match", "f1"), kw_only=True)
    """exact_match and f1 by `matching`, others as in `compare`; the first is what publications report."""
    matching: Matching = field(default=Matching(), kw_only=True)
    stops: tuple[str, ...] = field(default=("\n",), kw_only=True)
    """What ends an answer."""
    max_new_tokens: int = field(default=64, kw_only=True)

    def read(self, path: Path, refusals: Refusals | None = None) -> list[Reference]:
        return self.prompts(path, refusals)

    def run(
        self, model: EvaluatedModel, samples: Sequence[Reference], request: EvaluationRequest
    ) -> list[MetricResult]:
        texts, cut_off = written_texts(self.name, model, samples, request, 1, self.stops, self.max_new_tokens)
        made = []
        for metric in self.metrics:
            found = self._figure(metric, [each[0] for each in texts], samples, request)
            made += [replace(each, is_headline=not made, details=each.details | cut_off) for each in found]
        return made

    def _figure(
        self, metric: str, texts: list[str], samples: Sequence[Reference], request: EvaluationRequest
    ) -> list[MetricResult]:
        more = {**self.signed(request), "data": request.data}
        if metric not in ("exact_match", "f1"):
            counts = {len(each.references) for each in samples}
            if len(counts) > 1:
                raise InputError(
                    f"{self.name}: {metric} needs as many references in every row; there are {min(counts)} to {max(counts)}."
                )
            references = [list(each) for each in zip(*(each.references for each in samples), strict=True)]
            found = compare([metric], [text.strip() for text in texts], references, request.comparing)
            return overlap_figures(self.task, self.dataset, found, more, {})
        values = self._values(metric, texts, samples)
        spread = interval(values)
        overlap = self.matching.overlap if metric == "f1" else None
        ignored = "+".join(self.matching.ignore)
        signature = Signature.of(metric, ignore=ignored, overlap=overlap, n=len(samples), **more, version=1)
        details = by_group([each.group for each in samples], values)
        return [MetricResult(self.task, self.dataset, metric, spread.value, spread.low, spread.high, len(samples), signature,
                             details=details)]  # fmt: skip

    def _values(self, metric: str, texts: Sequence[str], samples: Sequence[Reference]) -> np.ndarray:
        score = self.matching.exact if metric == "exact_match" else self.matching.f1
        return np.array([100 * score(text, each.references) for text, each in zip(texts, samples, strict=True)])

    def per_sample(
        self, rows: Sequence[dict[str, Any]], samples: Sequence[Any], request: EvaluationRequest
    ) -> tuple[str, np.ndarray] | None:
        metric = self.metrics[0]
        if not rows or metric not in ("exact_match", "f1"):
            return None
        return metric, self._values(metric, [row["written"][0] for row in rows], samples)

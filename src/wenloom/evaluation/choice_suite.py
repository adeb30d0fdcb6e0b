"""Suites of questions with several answers, see `choice`."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from wenloom.core.progress import progress
from wenloom.evaluation.choice import (
    Answer,
    ChoiceResult,
    Question,
    answer_all,
    choice_perplexity,
    greedy_accuracy,
    n_rows,
)
from wenloom.evaluation.evaluated_model import EvaluatedModel
from wenloom.evaluation.scorer import Advance, Scorer, kind_field
from wenloom.evaluation.signature import Signature
from wenloom.evaluation.significance import Interval, interval
from wenloom.evaluation.suite import (
    EvaluationRequest,
    MetricResult,
    SampleLog,
    Suite,
    by_group,
    in_chunks,
)
from wenloom.text.refusals import Refusals

Headline = Literal["raw", "token", "byte", "character", "unconditional", "greedy"]


@dataclass(frozen=True)
class ChoiceSuite(Suite):
    """Questions told apart by the likelihood of their answers."""

    headline: Headline = "raw"
    """The norm that publications report."""
    questions: Callable[[Path, Refusals | None], list[Question]] = lambda path, refusals: []
    """Reads its file."""
    kind: ClassVar[str] = "choice"
    takes_examples: ClassVar[bool] = True

    def read(self, path: Path, refusals: Refusals | None = None) -> list[Question]:
        return self.questions(path, refusals)

    def run(self, model: EvaluatedModel, samples: Sequence[Question], request: EvaluationRequest) -> list[MetricResult]:
        known, scorer = request.log({}), model.scorer()
        missing = ([samples[number] for number in numbers] for numbers in in_chunks(len(samples), known))
        with progress(self.name, sum(map(n_rows, missing)), "choices") as bar:
            result = _answered(scorer, samples, known, bar.advance)
        return choice_figures(
            self.task, self.dataset, self.headline, result, request.data, scorer, self.signed(request)
        )

    def per_sample(
        self, rows: Sequence[dict[str, Any]], samples: Sequence[Any], request: EvaluationRequest
    ) -> tuple[str, np.ndarray] | None:
        if not rows:
            return None
        norm = self.headline
        right = [row["is_greedy"] if norm == "greedy" else row["chosen"][norm] == row["gold"] for row in rows]
        return f"accuracy ({norm})", 100 * np.array(right, float)


def _answered(scorer: Scorer, questions: Sequence[Question], samples: SampleLog, on_rows: Advance) -> ChoiceResult:
    """Answer questions, going on where an earlier call stopped."""
    for numbers in in_chunks(len(questions), samples):
        part = [questions[number] for number in numbers]
        found = answer_all(scorer, part, on_rows=on_rows)
        samples.add(
            [
                {"number": number, "context": list(q.contexts), "choices": list(q.choices), "gold": q.gold,
                 "group": q.group, "examples": list(q.examples), **asdict(answer)}
                for number, q, answer in zip(numbers, part, found.answers, strict=True)
            ]
        )  # fmt: skip
    rows = (samples.known[number] for number in range(len(questions)))
    return ChoiceResult(
        [Answer(**{name: row[name] for name in Answer.__dataclass_fields__}) for row in rows], questions
    )


def choice_figures(
    task: str,
    dataset: str,
    headline: str,
    result: ChoiceResult,
    data: str,
    scorer: Scorer,
    more: dict[str, object] | None = None,
) -> list[MetricResult]:
    """Accuracy by every norm; greedy accuracy and perplexity where there is but one choice; groups as details."""
    n, cut_off = len(result.answers), sum(each.cut_off > 0 for each in result.answers)
    details: dict[str, Any] = {"questions_cut_off": cut_off} if cut_off else {}
    bos = scorer.opens(not result.questions[0].pairs()[0][0])
    shots = more or {"shots": 0}

    def figure(metric: str, found: Interval, norm: str | None, **more: Any) -> MetricResult:
        signature = Signature.of(metric, norm=norm, **shots, bos=bos, n=n, **kind_field(scorer), data=data, version=1)
        return MetricResult(task, dataset, metric, found.value, found.low, found.high, n, signature,
                      is_headline=norm == headline, details=details | more)  # fmt: skip

    if all(len(each.pairs()) == 1 for each in result.questions):
        value = choice_perplexity(result)
        nats = interval(-np.array([each.right for each in result.answers]))
        signature = Signature.of("ppl_of_target", **shots, bos=bos, n=n, **kind_field(scorer), data=data, version=1)
        low, high = (float(np.exp(min(each, 700))) for each in (nats.low, nats.high))
        return [
            figure("acc", greedy_accuracy(result), "greedy"),
            MetricResult(
                task, dataset, "ppl_of_target", value, low, high, n, signature, higher_is_better=False, details=details
            ),
        ]
    groups = [each.group for each in result.questions]
    made = [
        figure("acc", result.accuracy(norm), norm, **by_group(groups, 100 * result.correct(norm)))
        for norm in result.norms
    ]
    if len(set(groups)) > 1 and headline in result.norms:
        # each question weighs as its group has it: then the mean is that of the groups' means
        sizes = Counter(groups)
        weights = np.array([n / (len(sizes) * sizes[each]) for each in groups])
        found = interval(100 * result.correct(headline) * weights)
        made.append(replace(figure("acc_macro", found, headline), is_headline=False))
    return made

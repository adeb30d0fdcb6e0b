"""Suites that are solved by writing: numbers, programs, and a user's own prompts with references."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from wenloom.core.errors import InputError
from wenloom.core.progress import progress
from wenloom.evaluation.choice import Question
from wenloom.evaluation.choice_suite import ChoiceSuite
from wenloom.evaluation.compare import compare, overlap_figures
from wenloom.evaluation.evaluated_model import EvaluatedModel
from wenloom.evaluation.multiple_choice import multiple_choice
from wenloom.evaluation.programs import Problem, is_right, pass_rates
from wenloom.evaluation.reference_suite import Reference
from wenloom.evaluation.rows import field as row_field
from wenloom.evaluation.rows import made_of_rows, read_rows, texts_in
from wenloom.evaluation.sandbox import run_program
from wenloom.evaluation.scorer import Advance
from wenloom.evaluation.signature import Signature
from wenloom.evaluation.significance import interval
from wenloom.evaluation.suite import EvaluationRequest, MetricResult, Suite
from wenloom.evaluation.writing import written_texts
from wenloom.text.refusals import Refusals


@dataclass(frozen=True)
class ProblemSuite(Suite):
    """Problems whose solution can be checked."""

    problems: Callable[[Path, Refusals | None], list[Problem]] = lambda path, refusals: []
    """Reads its file."""
    stops: ClassVar[tuple[str, ...]] = ()
    """What ends a solution."""

    def check(self, request: EvaluationRequest, limit: int | None) -> None:
        _check_attempts(request)

    def read(self, path: Path, refusals: Refusals | None = None) -> list[Problem]:
        return self.problems(path, refusals)

    @abstractmethod
    def is_solved(self, problem: Problem, text: str) -> bool:
        """Whether what a model wrote is right."""

    @abstractmethod
    def metric(self, k: int) -> str:
        """The name of the figure."""

    def run(self, model: EvaluatedModel, samples: Sequence[Problem], request: EvaluationRequest) -> list[MetricResult]:
        texts, cut_off = written_texts(self.name, model, samples, request, request.writing.attempts, self.stops)
        with progress(f"{self.name}: checking", len(samples), "problems") as bar:
            return self._figures(samples, texts, cut_off, request, bar.advance)

    def _figures(
        self, problems: Sequence[Problem], texts: list[list[str]], cut_off: dict[str, int], request: EvaluationRequest,
        on_problem: Advance,
    ) -> list[MetricResult]:  # fmt: skip
        counts = []
        for problem, attempts in zip(problems, texts, strict=True):
            counts.append((len(attempts), sum(self.is_solved(problem, text) for text in attempts)))
            on_problem(1)
        made, ks = [], request.writing.pass_k
        for k in ks:
            found, metric, n = interval(pass_rates(counts, k)), self.metric(k), len(problems)
            signature = Signature.of(
                metric, k=k, **self.signed(request), n=n, attempts=len(texts[0]), data=request.data, version=1
            )
            made.append(
                MetricResult(
                    self.task, self.dataset, metric, found.value, found.low, found.high, n, signature,
                    is_headline=k == ks[0], details=cut_off,
                )
            )  # fmt: skip
        return made


class AnswerSuite(ProblemSuite):
    """Problems whose answer is a number."""

    kind: ClassVar[str] = "answer"
    takes_examples: ClassVar[bool] = True
    stops: ClassVar[tuple[str, ...]] = ("\nQuestion:", "\n\n\n")

    def is_solved(self, problem: Problem, text: str) -> bool:
        return is_right(problem, text)

    def metric(self, k: int) -> str:
        return "exact_answer"


class ProgramSuite(ProblemSuite):
    """Programs that are run in the sandbox."""

    kind: ClassVar[str] = "program"

    def check(self, request: EvaluationRequest, limit: int | None) -> None:
        if not request.writing.run_code:
            raise InputError(f"{self.name} runs programs that the model writes; say --run-code if you want that.")
        super().check(request, limit)

    def is_solved(self, problem: Problem, text: str) -> bool:
        return run_program(problem.program(text)).passed

    def metric(self, k: int) -> str:
        return f"pass@{k}"


@dataclass(frozen=True)
class OwnSuite(Suite):
    """A user's own jsonl, which holds questions with choices, or prompts with references."""

    kind: ClassVar[str] = "rows"
    takes_examples: ClassVar[bool] = True

    def kind_of(self, path: Path) -> str:
        return "choice" if _asks_for_choices(path) else self.kind

    def check(self, request: EvaluationRequest, limit: int | None) -> None:
        _check_attempts(request)

    def read(self, path: Path, refusals: Refusals | None = None) -> list[Any]:
        return own_rows(path, refusals)

    def run(self, model: EvaluatedModel, samples: Sequence[Any], request: EvaluationRequest) -> list[MetricResult]:
        if isinstance(samples[0], Question):
            return self._of_choices.run(model, samples, request)
        texts, cut_off = written_texts(self.name, model, samples, request, 1, ("\n",))
        found = _compared([each[0] for each in texts], samples, request)
        shots = self.signed(request) if request.drawn.shots else {}
        return overlap_figures(self.task, self.dataset, found, {**shots, "data": request.data}, cut_off)

    @property
    def _of_choices(self) -> ChoiceSuite:
        return ChoiceSuite(self.name, self.task, self.dataset)

    def per_sample(
        self, rows: Sequence[dict[str, Any]], samples: Sequence[Any], request: EvaluationRequest
    ) -> tuple[str, np.ndarray] | None:
        if not rows or "chosen" in rows[0]:
            return self._of_choices.per_sample(rows, samples, request)
        found = _compared([row["written"][0] for row in rows], samples, request)[0]
        return found.metric, np.array(found.per_sample)


def _compared(texts: Sequence[str], samples: Sequence[Reference], request: EvaluationRequest) -> list[Any]:
    references = [list(each) for each in zip(*(sample.references for sample in samples), strict=True)]
    return compare(request.metrics or ["rouge"], [text.strip() for text in texts], references, request.comparing)


def _check_attempts(request: EvaluationRequest) -> None:
    writing = request.writing
    if writing.attempts < max(writing.pass_k, default=1):
        raise InputError(f"pass@{max(writing.pass_k)} needs --attempts {max(writing.pass_k)} or more.")


def _asks_for_choices(path: Path) -> bool:
    first = read_rows(path, Refusals(strict=False))[0]
    return "choices" in first or "context_options" in first


def own_rows(path: Path, refusals: Refusals | None = None) -> list[Question] | list[Reference]:
    """A user's own jsonl: rows with "choices", or rows with a prompt and one or more references, as many in every row.

    Args:
        refusals: told of rows that are left out.

    Raises:
        InputError: rows of neither kind, if the refusals are strict; no row that can be used.
    """
    if _asks_for_choices(path):
        return multiple_choice(path, refusals)
    counts: list[int] = []

    def made(row: dict[str, Any]) -> Reference:
        prompt = row_field(path, row, ["prompt", "input", "source", "question", "document", "dialogue"])
        names = ["reference", "references", "target", "answer", "summary", "output"]
        found = row_field(path, row, names, (str, list))
        several = (
            [found] if isinstance(found, str) else texts_in(path, row, next(each for each in names if each in row))
        )
        counts.append(len(several))
        if len(several) != counts[0]:
            raise InputError(
                f"{path}, line {row['_line']}: {len(several)} references where the first row has {counts[0]}."
            )
        return Reference(prompt, several)

    return made_of_rows(path, made, refusals)

"""One thing to score models on, a suite or a user's file: running it, and what its samples tell afterwards."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from wenloom.core.console import progress
from wenloom.core.errors import InputError
from wenloom.evaluation import evaluate as work
from wenloom.evaluation.evaluate import METRICS, EvaluatedModel, MetricResult, SampleLog
from wenloom.evaluation.options import Convention, OverlapOptions, Writing
from wenloom.evaluation.perplexity import data_hash
from wenloom.evaluation.rows import read_rows, read_text
from wenloom.evaluation.significance import paired
from wenloom.evaluation.suites import suite_of
from wenloom.generation.request import GenerationRequest
from wenloom.text.refusals import Refusals

Made = TypeVar("Made")


class EvaluationPlan:
    """What is asked of every model.

    Args:
        name: a suite, or a file.
        data: the folder below which suites' files lie.
        out: the folder of all samples.
        limit: only the first so many samples.
        metrics: by which written texts are compared with references.
        skip_bad: leave out rows that cannot be used, instead of stopping at the first.

    Raises:
        InputError: no such file or suite, or options that do not fit it.
    """

    def __init__(
        self, name: str, data: Path | None, out: Path, limit: int | None, metrics: list[str],
        convention: Convention, comparing: OverlapOptions, writing: Writing, skip_bad: bool = False,
    ):  # fmt: skip
        path = Path(name)
        self.suite = None if path.is_file() else suite_of(name)
        self.path = path if self.suite is None else self.suite.find(data)
        self.name = path.stem if self.suite is None else self.suite.name
        self._out, self._limit, self._metrics = out, limit, metrics
        self._convention, self._comparing, self._writing = convention, comparing, writing
        self.kind: str = self.suite.kind if self.suite else "rows" if ".jsonl" in self.path.suffixes else "text"
        """choice, text, answer or program, as of suites; rows: a user's jsonl, which may hold choices or prompts."""
        if unknown := [each for each in metrics if each not in METRICS]:
            raise InputError(f"--metric {unknown[0]}: known are {', '.join(METRICS)}.")
        if self.kind == "program" and not writing.run_code:
            raise InputError(f"{name} runs programs that the model writes; say --run-code if you want that.")
        if writing.attempts < max(writing.pass_k, default=1):
            raise InputError(f"pass@{max(writing.pass_k)} needs --attempts {max(writing.pass_k)} or more.")
        if limit is not None and self.kind == "text":
            raise InputError("--limit counts samples; a text for perplexity is one. Cut the file instead.")
        self._skip_bad = skip_bad
        self.refusals: Refusals | None = None
        """What was left out of the file."""
        self._data = data_hash(read_text(self.path))
        self._task = self.suite.task if self.suite else "own data"
        self._dataset = self.suite.dataset if self.suite else self.path.name

    def _read(self, reader: Callable[[Path, Refusals | None], Made]) -> Made:
        refusals = Refusals(strict=not self._skip_bad)
        made = reader(self.path, refusals)
        if self.refusals is None:
            self.refusals = refusals
            refusals.report()
        return made

    def samples(self, model: str) -> Path:
        """The file of a model's samples."""
        parts = [part for part in Path(model).parts[-2:] if part not in ("/", ".", "..")]
        return self._out / "-".join(parts) / f"{self.name}.jsonl"

    def run(self, subject: EvaluatedModel) -> list[MetricResult]:
        """Score a model, going on where an earlier call stopped; shows its progress."""
        figures = self._figures(subject)
        n_left_out = self.refusals.count if self.refusals else 0
        return [
            replace(each, details=each.details | {"rows_left_out": n_left_out}) if n_left_out else each
            for each in figures
        ]

    def _figures(self, subject: EvaluatedModel) -> list[MetricResult]:
        if self.kind == "text":
            with progress(self.name, None, "tokens") as bar:
                return work.text_figures(subject, self._task, self._dataset, self.path, self._convention, bar.advance)
        header: dict[str, Any] = {
            "evaluation": self.name, "model": subject.fingerprint, "data": self._data, "kind": self.kind,
            "dtype": str(next(subject.decoder.parameters()).dtype),
        }  # fmt: skip
        task = self._read(work.task_of_file) if self.kind == "rows" else None
        questions = task.questions if task else []
        if self.suite is not None and self.suite.questions is not None:
            questions = self._read(self.suite.questions)
        if questions:
            questions = questions[: self._limit]
            samples = SampleLog(self.samples(subject.name), header)
            with progress(self.name, work.rows_to_score(questions, samples), "choices") as bar:
                result = work.evaluate_choice(subject, questions, samples, bar.advance)
            headline = self.suite.headline if self.suite else "raw"
            return work.choice_figures(self._task, self._dataset, headline, result, self._data, subject.scorer())
        return self._run_writing(subject, task, header)

    def _run_writing(
        self, subject: EvaluatedModel, task: work.Task | None, header: dict[str, Any]
    ) -> list[MetricResult]:
        writing = self._writing
        sampling: dict[str, Any] = {"do_sample": False}
        if writing.attempts > 1:
            sampling = {"do_sample": True, "temperature": writing.temperature, "seed": 0}
        stops = {"answer": ("\nQuestion:", "\n\n\n"), "rows": ("\n",)}.get(self.kind, ())
        request = GenerationRequest(max_new_tokens=writing.max_new_tokens, stop_strings=stops, **sampling)
        header = header | {"attempts": writing.attempts, "max_new_tokens": writing.max_new_tokens, **sampling}
        samples = SampleLog(self.samples(subject.name), header)
        problems = []
        if self.suite is not None and self.suite.problems is not None:
            problems = self._read(self.suite.problems)[: self._limit]
        prompts = task.prompts[: self._limit] if task else [each.prompt for each in problems]
        attempts = 1 if task else writing.attempts
        with progress(f"{self.name}: writing", len(prompts) - len(samples.known), "texts") as bar:
            texts = work.written(subject, prompts, samples, request, attempts, bar.advance)
        if task is not None:
            references = [each[: self._limit] for each in task.references]
            first = [each[0].strip() for each in texts]
            found = work.compare(self._metrics or ["rouge"], first, references, self._comparing)
            return work.overlap_figures(self._task, self._dataset, found, self._data)
        assert self.suite is not None
        with progress(f"{self.name}: checking", len(problems), "problems") as bar:
            return work.problem_figures(self.suite, problems, texts, self._data, writing.pass_k, bar.advance)

    def _rows(self, model: str) -> list[dict[str, Any]]:
        path = self.samples(model)
        rows = [row for row in read_rows(path) if "number" in row] if path.exists() else []
        return sorted(rows, key=lambda row: row["number"])[: self._limit]

    def compared(self, first: str, second: str) -> dict[str, Any] | None:
        """Two models on the same samples, by a paired test; None where samples are not scored one by one."""
        both = [self._sample_scores(self._rows(model)) for model in (first, second)]
        if both[0] is None or both[1] is None:
            return None
        by, values = both[0]
        return {"on": self.name, "by": by, "first": first, "second": second, **paired(values, both[1][1])._asdict()}

    def _sample_scores(self, rows: list[dict[str, Any]]) -> tuple[str, np.ndarray] | None:
        """What decides between two models, and its value for every sample."""
        if rows and "chosen" in rows[0]:
            norm = self.suite.headline if self.suite else "raw"
            right = [row["is_greedy"] if norm == "greedy" else row["chosen"][norm] == row["gold"] for row in rows]
            return f"accuracy ({norm})", 100 * np.array(right, float)
        if rows and self.kind == "rows":
            references = [each[: self._limit] for each in self._read(work.task_of_file).references]
            texts = [row["written"][0].strip() for row in rows]
            found = work.compare(self._metrics or ["rouge"], texts, references, self._comparing)[0]
            return found.metric, np.array(found.per_sample)
        return None

    def examples(self, model: str) -> dict[str, Any]:
        """A model's best and worst samples."""
        rows = self._rows(model)
        if rows and "chosen" in rows[0]:
            rows.sort(key=_margin)
        return {"model": model, "on": self.name, "worst": rows[:5], "best": rows[-5:][::-1] if len(rows) > 5 else []}


def _margin(row: dict[str, Any]) -> float:
    """By how much the right choice is more probable than the best wrong one, nats."""
    totals, gold = row["log_likelihoods"], row["gold"]
    others = [value for index, value in enumerate(totals) if index != gold]
    return totals[gold] - max(others, default=0.0)

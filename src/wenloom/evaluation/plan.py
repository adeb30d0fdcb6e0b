"""One thing to score models on, a suite or a user's file: running it, and what its samples tell afterwards."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from wenloom.core.errors import InputError
from wenloom.evaluation.compare import METRICS
from wenloom.evaluation.evaluated_model import EvaluatedModel
from wenloom.evaluation.folder import keep_figures
from wenloom.evaluation.options import Convention, OverlapOptions, Shots, Writing
from wenloom.evaluation.perplexity import data_hash
from wenloom.evaluation.rows import read_rows, read_text
from wenloom.evaluation.shots import Drawn, Pool, with_examples
from wenloom.evaluation.significance import mcnemar, paired
from wenloom.evaluation.suite import EvaluationRequest, MetricResult, SampleLog
from wenloom.evaluation.suites import suite_of, suite_of_file
from wenloom.text.refusals import Refusals


class EvaluationPlan:
    """What is asked of every model.

    Args:
        name: a suite, or a file.
        data: the folder below which suites' files lie.
        out: the folder of all samples.
        limit: only the first so many samples.
        metrics: by which written texts are compared with references.
        skip_bad: leave out rows that cannot be used, instead of stopping at the first.
        shots: the worked examples before each question.

    Raises:
        InputError: no such file or suite, or options that do not fit it.
    """

    def __init__(
        self, name: str, data: Path | None, out: Path, limit: int | None, metrics: list[str],
        convention: Convention, comparing: OverlapOptions, writing: Writing, skip_bad: bool = False,
        shots: Shots | None = None,
    ):  # fmt: skip
        path = Path(name)
        self.suite = suite_of_file(path) if path.is_file() else suite_of(name)
        self.path = path if path.is_file() and path.suffix != ".toml" else self.suite.find(data)
        self._folder = data
        self.name, self.kind = self.suite.name, self.suite.kind_of(self.path)
        self._out, self._limit = out, limit
        self._options = convention, metrics, comparing, writing
        if unknown := [each for each in metrics if each not in METRICS]:
            raise InputError(f"--metric {unknown[0]}: known are {', '.join(METRICS)}.")
        self._data = data_hash("".join(map(read_text, self.suite.data_files(self.path))))
        self._shots, self._drawn = shots or Shots(), Drawn()
        if self._shots.shots and not self.suite.takes_examples:
            raise InputError(
                f"--shots goes with questions and prompts; {self.name} has none that take worked examples."
            )
        self.suite.check(self._request(), limit)
        self._skip_bad = skip_bad
        self.refusals: Refusals | None = None
        """What was left out of the file."""

    def _request(self, model: EvaluatedModel | None = None) -> EvaluationRequest:
        def log(more: dict[str, Any]) -> SampleLog:
            assert model is not None
            header = {
                "evaluation": self.name, "model": model.fingerprint, "data": self._data, "kind": self.kind,
                "dtype": model.dtype, **more,
                **(self._drawn.header() if self._drawn.shots else {}),
            }  # fmt: skip
            return SampleLog(self.samples(model.name), header)

        return EvaluationRequest(self._data, log, *self._options, self._drawn)

    def _read(self) -> list[Any]:
        refusals = Refusals(strict=not self._skip_bad)
        made = self.suite.read(self.path, refusals)
        if self.refusals is None:
            self.refusals = refusals
            refusals.report()
        if not self._shots.shots:
            return made[: self._limit]
        shots = self._shots
        made, self._drawn = with_examples(made[: self._limit], self._pool(made), shots.shots, shots.shots_seed)
        return made

    def _pool(self, asked: Sequence[Any]) -> Pool:
        """Where examples come from: a file that was named, the split that the suite has for it, or the other rows."""
        file = self._shots.shots_from or self.suite.find_examples(self.path, self._folder)
        if file is None:
            return Pool(asked, self.path.name, is_asked=True)
        in_order = self.suite.in_order and self._shots.shots_from is None
        source = file.parent.name if "*" in file.name else file.name
        return Pool(self.suite.read(file, Refusals()), source, is_asked=False, in_order=in_order)

    def samples(self, model: str) -> Path:
        """The file of a model's samples."""
        parts = [part for part in Path(model).parts[-2:] if part not in ("/", ".", "..")]
        shots = f"-{self._shots.shots}-shot" if self._shots.shots else ""
        return self._out / "-".join(parts) / f"{self.name}{shots}.jsonl"

    def run(self, model: EvaluatedModel) -> list[MetricResult]:
        """Score a model, going on where an earlier call stopped, and keep its figures; shows its progress."""
        samples = self._read()  # which draws the examples that the request tells of
        figures = self.suite.run(model, samples, self._request(model))
        if n_left_out := self.refusals.count if self.refusals else 0:
            figures = [replace(each, details=each.details | {"rows_left_out": n_left_out}) for each in figures]
        keep_figures(self.samples(model.name), model.name, self.name, figures)
        return figures

    def _rows(self, model: str) -> list[dict[str, Any]]:
        path = self.samples(model)
        rows = [row for row in read_rows(path) if "number" in row] if path.exists() else []
        return sorted(rows, key=lambda row: row["number"])[: self._limit]

    def n_kept(self, model: str) -> int:
        """Samples whose scores are kept already."""
        return len(self._rows(model))

    def compared(self, first: str, second: str) -> dict[str, Any] | None:
        """Two models on the same samples, by a paired test; None where samples are not scored one by one."""
        samples = self._read()
        request = self._request()
        both = [self.suite.per_sample(self._rows(model), samples, request) for model in (first, second)]
        if both[0] is None or both[1] is None:
            return None
        by, values = both[0]
        other = both[1][1]
        found = {"on": self.name, "by": by, "first": first, "second": second, "n": len(values),
                 **paired(values, other)._asdict()}  # fmt: skip
        if len(np.union1d(values, other)) <= 2:  # right or wrong
            return found | {"p": mcnemar(values, other), "test": "McNemar, exact"}
        return found | {"test": "approximate randomization"}

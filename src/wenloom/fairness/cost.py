"""What a change of a model costs: texts and benchmarks measured as audits are, so that both stand in one table with one test."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wenloom.core.errors import InputError
from wenloom.evaluation.choice import NORMS, Question, answer_all
from wenloom.evaluation.choice_suite import ChoiceSuite
from wenloom.evaluation.locate import data_folder
from wenloom.evaluation.perplexity import data_hash
from wenloom.evaluation.rows import read_text
from wenloom.evaluation.scorer import ContinuationScore, TextInContext, kind_field
from wenloom.evaluation.signature import Signature
from wenloom.evaluation.suites import SUITES, suite_of
from wenloom.fairness.audit import ALL, VERSION, Audit, Audited, AuditFigure, Example, Outcomes, spread
from wenloom.fairness.audited_model import AskedModel
from wenloom.fairness.scored_audit import ScoredAudit

_PASSAGE = 1500
"""Characters of a passage, about: paragraphs are kept whole where they are shorter."""
_MOST_PASSAGES = 300
"""Of a text, evenly spread, where nobody names a number: their mean has a standard error of about a hundredth."""


class TextCost(ScoredAudit):
    """Bits per byte of a text, passage by passage.

    Args:
        path: the text.
    """

    about = "how well the model foretells a text; lower is better"
    caveat = "each passage is read by itself, so its first tokens have little context"
    headline = ("bits per byte", "passages")
    compares = (("nats per token", "passages"),)
    better = {"bits per byte": False, "nats per token": False}
    kinds = ("causal", "masked")

    def __init__(self, path: Path):
        self.path, self.name = path, f"text {path.name}"

    def read(self, path: Path) -> list[str]:
        return passages(read_text(path))

    def samples(self, data: Path, limit: int | None = None) -> list[str]:
        return spread(self.read(self.path), _MOST_PASSAGES if limit is None else limit)

    def texts(self, sample: str) -> list[TextInContext]:
        return [TextInContext("", sample)]

    def outcomes(self, samples: Sequence[str], scores: Sequence[Sequence[ContinuationScore]]) -> list[Outcomes]:
        bits = np.array([-each[0].log_probability / np.log(2) / max(1, each[0].n_bytes) for each in scores])
        nats = np.array([-each[0].log_probability / max(1, len(each[0].token_ids)) for each in scores])
        groups = [ALL] * len(bits)
        return [Outcomes(measure, "passages", values, groups, None, None, False, unit)
                for measure, values, unit in (("bits per byte", bits, "bits"), ("nats per token", nats, "nats"))]  # fmt: skip


def passages(text: str) -> list[str]:
    """A text in pieces of about 1,500 characters that begin and end with its paragraphs or lines.

    >>> [len(each) for each in passages("a line\\n" * 500)]
    [1504, 1504, 489]
    """
    found, part, size = [], list[str](), 0
    for line in text.splitlines():
        part.append(line)
        size += len(line) + 1
        if size >= _PASSAGE:
            found.append("\n".join(part))
            part, size = [], 0
    found.append("\n".join(part))
    return [each for each in found if each.strip()]


class BenchmarkCost(Audit):
    """Accuracy on a suite of questions with several answers, by its own norm.

    Args:
        name: of the suite, see `evaluation.suites`.

    Raises:
        InputError: no such suite, or one of another kind.
    """

    about = "accuracy; higher is better"
    better = {"accuracy": True}
    caveat = "few questions tell small changes from none only where their interval says so"

    def __init__(self, name: str):
        suite = suite_of(name)
        if not isinstance(suite, ChoiceSuite):
            known = ", ".join(each for each, made in SUITES.items() if isinstance(made, ChoiceSuite))
            raise InputError(f"--benchmark {name}: must be a suite of questions with choices: {known}.")
        self.suite, self.name = suite, name
        self.headline = "accuracy", suite.headline

    def samples(self, data: Path, limit: int | None = None) -> list[Question]:
        path = self.suite.find(data_folder(data))
        return spread([each for file in self.suite.data_files(path) for each in self.suite.read(file)], limit)

    def why_not(self, model: AskedModel) -> str | None:
        is_causal = model.scorer.kind == "causal"
        return model.why_no_scores or (
            None if is_causal else "it asks questions, so it takes a model that goes on with its prompt"
        )

    def ask(self, model: AskedModel, data: Path, limit: int | None, on_samples: Callable[[int], None]) -> Audited:
        samples, norm = self.samples(data, limit), self.suite.headline
        found = answer_all(model.scorer, samples, unconditional=norm == "unconditional")
        on_samples(len(samples))
        right = np.array([each.is_greedy for each in found.answers]) if norm == "greedy" else found.correct(norm)
        outcomes = Outcomes("accuracy", norm, 100.0 * right, [ALL] * len(samples), unbiased=None)
        signature = Signature.of(f"{self.name}.accuracy", norm=norm if norm in NORMS else None, n=len(samples),
                                 **kind_field(model.scorer), dtype=model.scorer.dtype, data=data_hash(repr(samples)),
                                 version=VERSION)  # fmt: skip
        figures: list[AuditFigure] = [outcomes.figure(self.name, ALL, signature)]
        examples = [
            Example(ALL, _shown(each), float(value)) for each, value in zip(samples, outcomes.values, strict=True)
        ]
        return Audited(self, figures, (outcomes,), examples)


def _shown(question: Question) -> tuple[str, ...]:
    pair: Any = question.pairs()[question.gold]
    return (f"{pair[0]} [{pair[1].strip()}]",)

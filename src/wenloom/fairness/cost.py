"""What a change of a model costs: texts and benchmarks measured as audits are, so that both stand in one table with one test."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from wenloom.core.console import remark
from wenloom.core.errors import InputError
from wenloom.evaluation.choice import NORMS, Question, answer_all
from wenloom.evaluation.choice_suite import ChoiceSuite
from wenloom.evaluation.locate import data_folder
from wenloom.evaluation.perplexity import data_hash
from wenloom.evaluation.rows import field, read_rows, read_text
from wenloom.evaluation.scorer import ContinuationScore, Scorer, TextInContext, counted, kind_field
from wenloom.evaluation.signature import Signature
from wenloom.evaluation.suites import SUITES, suite_of
from wenloom.fairness.audit import ALL, VERSION, Audit, Audited, AuditFigure, Example, Outcomes, spread
from wenloom.fairness.audited_model import AskedModel
from wenloom.fairness.scored_audit import NO_EMPTY_SOURCE, OF_PAIRS, ScoredAudit, as_pairs

_PASSAGE = 1500
"""Characters of a passage, about: paragraphs are kept whole where they are shorter."""
_NATS = "nats per token"
_MOST_PASSAGES = 300
"""Of a text, evenly spread, where nobody names a number: their mean has a standard error of about a hundredth."""


class TextCost(ScoredAudit):
    """Bits per byte of a text, passage by passage.

    Args:
        path: the text.
    """

    about = "how well the model predicts a text; lower is better"
    caveat = (
        "each passage is read by itself, one longer than the context in windows, so its first tokens have little context; the first of "
        "all is scored where the model has a BOS token (bos in the signature)"
    )
    part: ClassVar[str] = "passages"
    headline = ("bits per byte", part)
    compares = ((_NATS, part),)
    better = {"bits per byte": False, _NATS: False}
    kinds = ("causal", "masked")

    def __init__(self, path: Path):
        self.path, self.name = path, f"text {path.name}"

    def read(self, path: Path) -> list[TextInContext]:
        return [TextInContext("", each) for each in passages(read_text(path))]

    def samples(self, data: Path, limit: int | None = None) -> list[TextInContext]:
        return spread(self.read(self.path), _MOST_PASSAGES if limit is None else limit)

    def texts(self, sample: TextInContext) -> list[TextInContext]:
        return [sample]

    def scored(self, scorer: Scorer, samples: Sequence[TextInContext]) -> list[list[ContinuationScore]]:
        """As `score` does, where the model can be asked for texts of any length."""
        if not scorer.takes_texts:
            return super().scored(scorer, samples)
        return [[self._whole(scorer, each)] for each in samples]

    def _whole(self, scorer: Scorer, sample: TextInContext) -> ContinuationScore:
        tokens = scorer.tokenizer.encode(sample.text, add_special_tokens=False)
        if len(tokens) + self.opens(scorer, sample) < 2:
            return counted(sample, [], [], 0.0, False, 0)
        found = scorer.text(sample.text)
        score = counted(sample, found.token_ids, found.log_probabilities, found.log_probability, False, 0)
        return score._replace(n_bytes=found.scored_bytes)

    def opens(self, scorer: Scorer, sample: TextInContext) -> bool:
        """Whether the first token is scored, too: after BOS alone."""
        if not scorer.takes_texts or scorer.kind == "masked":
            return super().opens(scorer, sample)
        return scorer.tokenizer.bos_token_id is not None

    def signature_fields(self, outcomes: Outcomes, scores: Sequence[Sequence[ContinuationScore]]) -> dict[str, object]:
        """Two vocabularies cut a text into unlike numbers of tokens, so that nothing per token can be compared."""
        return {"tokens": sum(len(each[0].token_ids) for each in scores)} if outcomes.measure == _NATS else {}

    def outcomes(self, samples: Sequence[Any], scores: Sequence[Sequence[ContinuationScore]]) -> list[Outcomes]:
        bits = np.array([-each[0].log_probability / np.log(2) / max(1, each[0].n_bytes) for each in scores])
        nats = np.array([-each[0].log_probability / max(1, len(each[0].token_ids)) for each in scores])
        groups = [ALL] * len(bits)
        return [Outcomes(measure, self.part, values, groups, None, None, False, unit)
                for measure, values, unit in (("bits per byte", bits, "bits"), (_NATS, nats, "nats"))]  # fmt: skip


class TargetCost(TextCost):
    """Bits per byte of targets given their sources, each with its end, as `score --given` gives them: what a text costs of a model with
    an encoder and a decoder.

    Args:
        path: jsonl, "source" and "target" in every line.
    """

    about = "how well the model predicts targets given their sources; lower is better"
    caveat = "a target that would say the same in other words counts as an error"
    part = "targets"
    headline = ("bits per byte", part)
    compares = ((_NATS, part),)
    kinds = ("pairs",)

    def read(self, path: Path) -> list[TextInContext]:
        return [TextInContext(_said(path, row, "source"), _said(path, row, "target"), True) for row in read_rows(path)]


def text_cost(path: Path) -> TextCost:
    """What a text costs, or a jsonl file of sources and targets."""
    return TargetCost(path) if ".jsonl" in path.name else TextCost(path)


def _said(path: Path, row: dict[str, Any], name: str) -> str:
    text: str = field(path, row, [name])
    if not text.strip():
        raise InputError(f'{path}, line {row["_line"]}: "{name}" is empty.')
    return text


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
        if (why := model.why_no_scores) or model.scorer.kind == "masked":
            return why or "it asks questions, so it takes a model that continues its prompt"
        return None if model.scorer.opens(is_empty=True) or model.scorer.kind == "causal" else NO_EMPTY_SOURCE

    def ask(self, model: AskedModel, data: Path, limit: int | None, on_samples: Callable[[int], None]) -> Audited:
        samples, norm = self.samples(data, limit), self.suite.headline
        is_pairs = model.scorer.kind == "pairs"
        asked = [_of_pairs(each) for each in samples] if is_pairs else samples
        source = {"source": "context" if samples[0].pairs()[0][0] else "beginning"} if is_pairs else {}
        found = answer_all(model.scorer, asked, unconditional=norm == "unconditional")
        on_samples(len(samples))
        cut = sum(each.cut_off > 0 for each in found.answers)
        told = [
            f"{cut:,} of {len(samples):,} questions are longer than the model's context, and read without their beginnings"
        ] * bool(cut)
        for each in told:
            remark(f"{self.name}: {each}.")
        right = np.array([each.is_greedy for each in found.answers]) if norm == "greedy" else found.correct(norm)
        outcomes = Outcomes("accuracy", norm, 100.0 * right, [ALL] * len(samples), unbiased=None)
        signature = Signature.of(f"{self.name}.accuracy", norm=norm if norm in NORMS else None, n=len(samples),
                                 **kind_field(model.scorer), **source, dtype=model.scorer.dtype, data=data_hash(repr(samples)),
                                 version=VERSION)  # fmt: skip
        figures: list[AuditFigure] = [outcomes.figure(self.name, ALL, signature)]
        examples = [
            Example(ALL, _shown(each), float(value)) for each, value in zip(samples, outcomes.values, strict=True)
        ]
        return Audited(self, figures, (outcomes,), examples, "; ".join([*told, *([OF_PAIRS] if is_pairs else [])]))


def _of_pairs(question: Question) -> Question:
    """A question to a model with an encoder and a decoder: each choice given its context, see `as_pairs`."""
    asked = as_pairs([TextInContext(*each) for each in question.pairs()])
    contexts = tuple(each.context for each in asked)
    alike = contexts[:1] if len(set(contexts)) == 1 else contexts
    return Question(alike, tuple(each.text for each in asked), question.gold)


def _shown(question: Question) -> tuple[str, ...]:
    pair: Any = question.pairs()[question.gold]
    return (f"{pair[0]} [{pair[1].strip()}]",)

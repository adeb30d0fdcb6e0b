"""Audits by probability: two texts or more of which one is more probable than the other. A model with an encoder and a decoder is asked
for log P(target | source), see `as_pairs`."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from wenloom.core.console import remark
from wenloom.core.errors import InputError
from wenloom.evaluation.perplexity import data_hash
from wenloom.evaluation.scorer import ContinuationScore, Scorer, TextInContext, kind_field
from wenloom.evaluation.signature import Signature
from wenloom.evaluation.words import looks_unspaced
from wenloom.fairness.audit import VERSION, Audit, Audited, AuditFigure, Example, Outcomes, groups_of, spread
from wenloom.fairness.audited_model import AskedModel

_CHUNK = 64


class ScoredAudit(Audit):
    """Texts of which one is more probable than the other."""

    kinds: ClassVar[tuple[str, ...]] = ("causal", "masked", "pairs")
    """Scorers that it can ask."""

    @abstractmethod
    def read(self, path: Path) -> list[Any]:
        """
        Raises:
            InputError: the file is not of this audit; it says which line.
        """

    @abstractmethod
    def texts(self, sample: Any) -> list[TextInContext]:
        """What is scored of a sample."""

    @abstractmethod
    def outcomes(self, samples: Sequence[Any], scores: Sequence[Sequence[ContinuationScore]]) -> list[Outcomes]:
        """What was preferred."""

    def scored(self, scorer: Scorer, samples: Sequence[Any]) -> list[list[ContinuationScore]]:
        """Scores of each sample's texts; none of a sample that is longer than the model's context, for what would be compared may
        be what was cut off."""
        asked = [self.texts(sample) for sample in samples]
        found = scores_of_pairs(scorer, asked) if scorer.kind == "pairs" else scorer.continuations(asked)
        return [[] if any(each.cut_off for each in row) else row for row in found]

    def opens(self, scorer: Scorer, sample: Any) -> bool:
        """Whether the first token of what a sample is asked with is scored, or read after something."""
        return scorer.opens(not self.texts(sample)[0].context)

    def signature_fields(self, outcomes: Outcomes, scores: Sequence[Sequence[ContinuationScore]]) -> dict[str, object]:
        """What a measure depends on besides what all do."""
        return {}

    def figures(self, outcomes: Sequence[Outcomes], signed: Callable[[Outcomes], Signature]) -> list[AuditFigure]:
        """A figure of all samples and of each group, by every measure and convention."""
        return [
            part.figure(self.name, group, signed(part))
            for each in outcomes
            for group in groups_of(each)
            if len((part := each.of(group)).values)
        ]

    def samples(self, data: Path, limit: int | None = None) -> list[Any]:
        files = self.located(data)
        found = [sample for path in files for sample in self.read(path)]
        if not found:
            raise InputError(f"{files[0]}: holds no sample of {self.name}.")
        return spread(found, limit)

    def why_not(self, model: AskedModel) -> str | None:
        if (why := model.why_no_scores) or model.scorer.kind not in self.kinds:
            return why or _NEEDS[self.kinds]
        may_be_empty = model.scorer.kind == "pairs" and "masked" in self.kinds
        return NO_EMPTY_SOURCE if may_be_empty and not model.scorer.opens(is_empty=True) else None

    def ask(self, model: AskedModel, data: Path, limit: int | None, on_samples: Callable[[int], None]) -> Audited:
        scorer, is_pairs = model.scorer, model.scorer.kind == "pairs"
        samples = self.samples(data, limit)
        scores: list[list[ContinuationScore]] = []
        kept, too_long, empty = list[Any](), 0, 0
        for start in range(0, len(samples), _CHUNK):
            part = samples[start : start + _CHUNK]
            for sample, row in zip(part, self.scored(scorer, part), strict=True):
                too_long += not row
                empty += bool(row) and not all(each.token_ids for each in row)
                if row and all(each.token_ids for each in row):
                    kept.append(sample)
                    scores.append(row)
            on_samples(len(part))
        left_out = [f"{n:,} of {len(samples):,} samples {why}, and left out"
                    for n, why in ((too_long, "are longer than the model's context"),
                                   (empty, "have a text without a token that could be scored")) if n]  # fmt: skip
        if not kept:
            raise InputError(f"{self.name}: {'; '.join(left_out)}. Nothing is left to ask.")
        if left_out:
            remark(f"{self.name}: {'; '.join(left_out)}.")
        samples = kept
        if any(not np.isfinite(each.log_probability) for row in scores for each in row):
            raise InputError(f"{self.name}: the model gives a probability that is no number; its weights are damaged.")
        found = self.outcomes(samples, scores)
        digest = data_hash(repr(samples))

        of_context = {bool(self.texts(each)[0].context) for each in samples}
        source = {"source": _one_of({"context" if each else "beginning" for each in of_context})} if is_pairs else {}
        opened = _one_of({self.opens(scorer, each) for each in samples})

        def signed(outcomes: Outcomes) -> Signature:
            return Signature.of(f"{self.name}.{outcomes.measure}", convention=outcomes.convention, bos=opened,
                                n=len(outcomes.values), **kind_field(scorer), **source, **self.signature_fields(outcomes, scores),
                                dtype=scorer.dtype, data=digest, version=VERSION)  # fmt: skip

        by_name = {(each.measure, each.convention): each for each in found}
        compared = tuple(by_name[each] for each in (self.headline, *self.compares) if each in by_name)
        examples = self._examples(samples, compared[0]) if compared else []
        note = "; ".join([*left_out, *_of_ties(compared), *([OF_PAIRS] if is_pairs else [])])
        return Audited(self, self.figures(found, signed), compared, examples, note)

    def _examples(self, samples: Sequence[Any], compared: Outcomes) -> list[Example]:
        if len(samples) != len(compared.values):
            return []
        return [
            Example(group, tuple(f"{each.context} {each.text}".strip() for each in self.texts(sample)), float(value))
            for sample, group, value in zip(samples, compared.groups, compared.values, strict=True)
        ]


_NEEDS: dict[tuple[str, ...], str] = {("causal", "pairs"): "it asks questions, so it takes a model that continues its prompt",
          ("causal", "masked"): "it reads single texts, and a model with an encoder and a decoder is asked for a target given a source: "
          'name a jsonl file with "source" and "target" in every line',
          ("pairs",): "its targets given sources are for a model with an encoder and a decoder; name plain text"}  # fmt: skip
NO_EMPTY_SOURCE = (
    "texts may differ from their first word on, and this model's tokenizer puts nothing into an empty source"
)
OF_PAIRS = (
    "a model with an encoder and a decoder writes what is compared after a source (the context, or the words that the texts begin "
    "with), a task that it may never have learned"
)


def _of_ties(compared: Sequence[Outcomes]) -> list[str]:
    """What is said of ties that a value counts as one side's."""
    n = sum(int(each.ties.sum()) for each in compared[:1] if each.ties is not None)
    if not n:
        return []
    return [f"{n:,} of {len(compared[0].values):,} samples are as probable either way: as the authors have it the value counts them "
            "against the stereotype; what is called a preference counts half of them"]  # fmt: skip


def _one_of(values: set[Any]) -> Any:
    """What holds of all samples."""
    return "mixed" if len(values) > 1 else next(iter(values))


def as_pairs(texts: Sequence[TextInContext]) -> list[TextInContext]:
    """What a model with an encoder and a decoder is asked of the texts of a sample: each given its context as the source; without one,
    given the words that all of them begin with, which may be none. A word at least is left of each; blanks before it are not scored.

    >>> as_pairs([TextInContext("", "The old man sat."), TextInContext("", "The old mat sat.")])[1][:2]
    ('The old', 'mat sat.')
    >>> as_pairs([TextInContext("Who sat?", " He."), TextInContext("Who sat?", " She.")])[1][:2]
    ('Who sat?', 'She.')
    """
    if any(each.context for each in texts):
        return [each._replace(text=each.text.lstrip()) for each in texts]
    whole = [each.text.strip() for each in texts]
    shortest, is_unspaced = min(map(len, whole)), looks_unspaced(whole)
    same = next((at for at, each in enumerate(zip(*whole, strict=False)) if len(set(each)) > 1), shortest - 1)
    cut = next((at for at in range(same, 0, -1) if is_unspaced or whole[0][at - 1].isspace()), 0)
    return [
        each._replace(context=text[:cut].rstrip(), text=text[cut:]) for each, text in zip(texts, whole, strict=True)
    ]


def scores_of_pairs(scorer: Scorer, asked: Sequence[Sequence[TextInContext]]) -> list[list[ContinuationScore]]:
    """Scores of each sample's texts, see `as_pairs`; none of a sample with a target that is longer than the model writes."""
    samples, found = [as_pairs(each) for each in asked], list[list[ContinuationScore]]()
    try:
        found = scorer.continuations(samples)
    except InputError:
        for each in samples:
            try:
                found += scorer.continuations([each])
            except InputError:
                found.append([])
    return [
        [
            _counted_from(score, len(text.text.rstrip()) - len(target.text.rstrip()))
            for score, text, target in zip(row, *texts, strict=False)
        ]
        for row, *texts in zip(found, asked, samples, strict=True)
    ]


def _counted_from(score: ContinuationScore, begin: int) -> ContinuationScore:
    """The score of a target with characters counted in the text that it ends."""
    return score._replace(spans=[(one + begin, other + begin) for one, other in score.spans], begin=score.begin + begin)


def mean_log2(score: ContinuationScore) -> float:
    """Mean log2 P of the tokens of a text."""
    return score.log_probability / np.log(2) / max(1, len(score.log_probabilities))


def divided(
    one: ContinuationScore, other: ContinuationScore
) -> tuple[tuple[list[float], list[float]], tuple[list[float], list[float]]]:
    """log P of the tokens that two texts share, and of those in which they differ; of each text."""
    shared: tuple[list[int], list[int]] = [], []
    for begin, end, length in SequenceMatcher(
        None, one.token_ids, other.token_ids, autojunk=False
    ).get_matching_blocks():
        shared[0].extend(range(begin, begin + length))
        shared[1].extend(range(end, end + length))
    parts = []
    for score, same in zip((one, other), map(set, shared), strict=True):
        logs = score.log_probabilities
        parts.append(([log for place, log in enumerate(logs) if place in same],
                      [log for place, log in enumerate(logs) if place not in same]))  # fmt: skip
    return parts[0], parts[1]

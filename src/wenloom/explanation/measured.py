"""All that is measured of one answer, together."""

import math
from dataclasses import asdict, dataclass
from typing import Any

from wenloom.explanation.answer_features import AnswerFeature
from wenloom.explanation.attribution import Attribution
from wenloom.explanation.circuits import HeadScores
from wenloom.explanation.contributions import Contributions
from wenloom.explanation.inquiry import Inquiry
from wenloom.explanation.lens import Lens
from wenloom.explanation.neurons import Neuron
from wenloom.explanation.patching import PatchingMap
from wenloom.explanation.subject import Subject
from wenloom.explanation.trace import Trace
from wenloom.explanation.training_text import Passage, TrainingText
from wenloom.model.encoder import Encoder

LARGE_ERROR = 0.05
"""An attribution whose scores miss what they should add up to by more than this part does not come first."""


@dataclass(frozen=True)
class Measured:
    """Why a model answers what it does."""

    text: str
    inquiry: Inquiry
    trace: Trace
    attributions: list[Attribution]
    """By every method that this model allows."""
    lens: Lens | None
    """None of a model that gives no scores of tokens."""
    contributions: Contributions | None
    """Of the answer's first token; None where parts of the stream have no sum in the logits."""
    patching: PatchingMap | None
    """Between this text and a corrupted one, where one was given."""
    training: TrainingText | None = None
    """What the training text has of it, where a corpus was given."""
    heads: HeadScores | None = None
    """Which heads are induction heads and the like; None of a model that is no decoder or too small to tell."""
    neurons: tuple[Neuron, ...] = ()
    """Those that do most for it, where they were asked for."""
    features: tuple[AnswerFeature, ...] = ()
    """Those that do most for it, where a folder of features was given."""
    tuned: Lens | None = None
    """The tuned lens, where one was given."""

    @property
    def shown_lens(self) -> Lens | None:
        """The tuned lens, where there is one."""
        return self.lens if self.tuned is None else self.tuned

    @property
    def leading(self) -> int:
        """Which attribution to read first: integrated gradients, where these are complete, else occlusion."""
        methods = [each.method for each in self.attributions]
        first = methods.index("integrated-gradients") if "integrated-gradients" in methods else None
        if first is not None and (self.attributions[first].error or 0) <= LARGE_ERROR:
            return first
        return methods.index("occlusion")

    @property
    def position(self) -> int:
        """Of the token after which (of an encoder: at which) the answer is read; of a classifier the one that it reads."""
        places = self.inquiry.rows[0].places
        if len(places):
            return int(places[0])
        return 0 if isinstance(self.inquiry.subject.model, Encoder) else self.trace.reading.tokens.shape[1] - 1

    @property
    def log_probability(self) -> float:
        """Of the target, nats."""
        row = self.inquiry.rows[0]
        chosen = row.answers[row.signs > 0]
        logits = self.trace.logits[0].double().log_softmax(-1)
        if self.inquiry.subject.classifier is not None:
            return float(logits[chosen].sum())
        return float(logits[row.places[row.signs > 0], chosen].sum())

    def data(self) -> dict[str, Any]:
        """Everything but attention patterns, for machines. Scores are nats of log P, entropies bits."""
        found: dict[str, Any] = {
            "text": self.text, "target": self.inquiry.target, "against": self.inquiry.against,
            "log_probability": self.log_probability, "value": self.attributions[0].value,
            "leading_method": self.attributions[self.leading].method,
            "attributions": [_attribution(each) for each in self.attributions],
        }  # fmt: skip
        if self.lens is not None:
            found["lens"] = lens_data(self.lens, self.inquiry.subject) | {
                "formed_at": self.lens.formed_at(self.position)
            }
        if self.tuned is not None:
            found["tuned_lens"] = lens_data(self.tuned, self.inquiry.subject) | {
                "formed_at": self.tuned.formed_at(self.position)
            }
        if self.contributions is not None:
            found["contributions"] = dict(zip(self.contributions.names, self.contributions.values, strict=True))
        if self.patching is not None:
            each = self.patching
            found["patching"] = {
                "site": each.site, "direction": each.direction, "clean": each.clean, "corrupted": each.corrupted,
                "tokens": each.tokens, "effects": each.effects.tolist(),
            }  # fmt: skip
        if self.heads is not None:
            found["heads"] = self.heads.data()
        if self.neurons:
            found["neurons"] = [asdict(each) for each in self.neurons]
        if self.features:
            found["features"] = [asdict(each) for each in self.features]
        if self.training is not None:
            found["training_text"] = _training_text(self.training)
        return found


def _training_text(found: TrainingText) -> dict[str, Any]:
    return {
        "corpus": found.corpus, "tokens": found.n_tokens,
        "context": {"text": found.context, "tokens": found.context_length, "count": found.context_count},
        "following": [{"token": token, "count": count} for token, count in found.following],
        "answer_count": found.answer_count,
        "with_answer": {"tokens": found.length, "of_answer": found.n_answer, "count": found.count},
        "is_quoted": found.quoted is not None,
        "passages": [_passage(each) for each in found.passages],
    }  # fmt: skip


def _passage(each: Passage) -> dict[str, Any]:
    influence = each.influence
    return {
        "source": each.source, "character": each.character, "tokens": each.length, "has_answer": each.has_answer,
        "is_whole": each.is_whole, "before": each.before, "found": each.found, "after": each.after,
        "influence": None if influence is None else influence.value,
        "similarity": None if influence is None else influence.similarity,
    }  # fmt: skip


def lens_data(found: Lens, subject: Subject) -> dict[str, Any]:
    """A lens in lists; tokens are numbers in a list of their texts."""
    ids = sorted({*found.top_ids.flatten().tolist(), *(each for each in found.wanted if each is not None)})
    number = {token: place for place, token in enumerate(ids)}
    return {
        "pieces": [subject.piece(token) for token in ids],
        "wanted": [None if each is None else number[each] for each in found.wanted],
        "top": [[[number[token] for token in row] for row in block] for block in found.top_ids.tolist()],
        "top_probabilities": _rounded(found.top_probabilities.tolist()),
        "probability": _rounded(found.probability.tolist()),
        "rank": found.rank.tolist(),
        "entropy": _rounded(found.entropy.tolist()),
    }


def _rounded(values: Any) -> Any:
    if isinstance(values, list):
        return [_rounded(each) for each in values]
    return None if math.isnan(values) else float(f"{values:.4g}")


def _attribution(each: Attribution) -> dict[str, Any]:
    return {
        "method": each.method, "tokens": each.tokens, "token_ids": each.token_ids, "scores": each.scores.tolist(),
        "source_tokens": each.n_source, "text_tokens": each.n_text, "value": each.value, "baseline": each.baseline,
        "relative_to": each.relative_to, "error": each.error, "is_weak": each.is_weak,
    }  # fmt: skip

"""The features of a sparse autoencoder or a transcoder that an answer depends on: what each does for it, promotes and is found in."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wenloom.core.errors import CheckpointError
from wenloom.core.foreign import read_json_object
from wenloom.explanation.feature_report import promoted
from wenloom.explanation.inquiry import Inquiry
from wenloom.explanation.neurons import ActiveText
from wenloom.explanation.sparse_coder import CONFIG, FOUND, SparseCoder, load_coder
from wenloom.explanation.subject import Subject

SHOWN = 8
"""Features that are looked at."""
_REFUSAL = "features are looked at in models that continue their prompt: decoders without an encoder or classes."


@dataclass(frozen=True)
class AnswerFeature:
    """A feature that is active at the place where an answer is read."""

    layer: int
    place: str
    """Where it writes: the stream after the block, or what the block's feed-forward layer adds."""
    number: int
    activation: float
    effect: float
    """What it does for log P of the answer (minus that of the other), nats, to first order: what it adds to the stream, times the
    gradient."""
    promotes: list[str]
    """Tokens whose logits its direction raises most."""
    texts: list[ActiveText]
    """Where it was strongest in the text held out when features were found; empty where nobody wrote that down."""


@dataclass(frozen=True)
class FoundFeatures:
    """A folder of features."""

    coder: SparseCoder
    texts: dict[int, list[ActiveText]]
    """Of each feature, where it is strongest."""

    def of(self, inquiry: Inquiry, count: int = SHOWN) -> list[AnswerFeature]:
        """The features that do most for an answer, at the place where its first token is predicted."""
        flowing, slopes = inquiry.at_answer(self.coder.places)
        active = self.coder.encode(flowing[0][None].to(self.coder.decoder_MD))
        gradient_D = slopes[-1].to(self.coder.decoder_MD)
        effects_K = active.values_NK[0] * (self.coder.decoder_MD[active.numbers_NK[0]] @ gradient_D)
        best = [each for each in effects_K.abs().argsort(descending=True).tolist() if active.values_NK[0, each] > 0]
        numbers = active.numbers_NK[0, best[:count]]
        raised = promoted(inquiry.subject, self.coder.decoder_MD[numbers])
        return [
            AnswerFeature(self.coder.layer, self.coder.writes, number, float(active.values_NK[0, each]), float(effects_K[each]), tokens,
                          self.texts.get(number, []))
            for each, number, tokens in zip(best, numbers.tolist(), raised, strict=False)
        ]  # fmt: skip


def load_features(folder: Path, subject: Subject) -> FoundFeatures:
    """Read what `wenloom features` made, or what SAELens did; see `sparse_coder.load_coder`.

    Raises:
        CheckpointError: it is none, damaged, or another model's.
        InputError: a model that does not write on.
    """
    config = subject.writer(_REFUSAL).config
    coder = load_coder(folder).to(subject.stack.embed.weight.device)
    coder.check(config, str(folder / CONFIG))
    found = read_json_object(folder / FOUND, CheckpointError) if (folder / FOUND).is_file() else {}
    rows = found.get("features", [])
    try:
        texts = {int(row["feature"]): [_text(each) for each in row["texts"]] for row in rows}
    except (TypeError, ValueError, KeyError, OverflowError) as error:
        raise CheckpointError(f"{folder / FOUND}: a feature lacks its number or its texts ({error!r}).") from None
    return FoundFeatures(coder, texts)


def _text(each: dict[str, Any]) -> ActiveText:
    return ActiveText(str(each["before"]), str(each["token"]), str(each["after"]), float(each["value"]))

"""A manifest heard by a model: what was said and what was heard, with error rates, and what a language model changes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from wenloom.core.errors import InputError, WenloomError
from wenloom.evaluation.significance import Paired
from wenloom.evaluation.speech import SpeechErrors, SpeechFigure, compared_speech, speech_errors, speech_figure
from wenloom.evaluation.spoken_words import normaliser
from wenloom.tasks.rescoring import Hypothesis, Utterance, rescore
from wenloom.tasks.speech.manifest import Spoken
from wenloom.tasks.speech.options import FusionOptions, TranscriptionOptions
from wenloom.tasks.speech.transcriber import Recording, Transcriber

_TEXTS = 10
"""Texts of every recording that a language model chooses among."""


class Heard(NamedTuple):
    """A recording, and what it was heard as."""

    row: Spoken
    language: str
    text: str
    n_best: tuple[tuple[str, float], ...]
    """Texts that it may have been, best first, as the recogniser alone says."""

    @property
    def errors(self) -> SpeechErrors:
        """What was heard otherwise."""
        return speech_errors(self.row.text, self.text, self.language)


class Fused(NamedTuple):
    """What a language model changed, in recordings of one language."""

    before: SpeechFigure
    """Of what the recogniser alone says."""
    test: Paired
    """Against that."""
    oracle: float
    """Error rate in percent of the best text of each list: no choice can do better."""
    weight: float
    bonus: float
    is_tuned: bool
    """Whether they were found here, each half of the recordings judged by those of the other; then all of them found these."""


@dataclass
class MeasuredSpeech:
    """A model on a manifest."""

    heard: list[Heard]
    missed: list[tuple[Spoken, str]] = field(default_factory=list)
    """Recordings that are left out, with the reason."""
    figures: dict[str, SpeechFigure] = field(default_factory=dict)
    """By language."""
    fused: dict[str, Fused] = field(default_factory=dict)
    """By language, where a language model was asked."""


def measure(
    transcriber: Transcriber, rows: Sequence[Spoken], data: str, fusion: FusionOptions, advance: Callable[[], None] = lambda: None
) -> MeasuredSpeech:  # fmt: skip
    """Hear a manifest and count.

    Args:
        data: names the recordings in signatures.
        fusion: a language model that is asked, too; without a weight, that is found by cross-validation.
        advance: called once per recording.

    Raises:
        InputError: none can be heard, or the language model cannot be asked.
    """
    known = transcriber.tokens.languages or {"en": 0}
    wanted = [row for row in rows if not row.language or row.language in known]
    measured = MeasuredSpeech([], [(row, f"the model does not know the language {row.language}") for row in rows
                             if row.language and row.language not in known])  # fmt: skip
    if fusion.lm is not None:
        transcriber.ask(
            fusion.lm,
            1.0 if fusion.lm_weight is None else fusion.lm_weight,
            fusion.lm_bonus,
            fusion.lm_weight is not None,
        )
    recordings = [Recording(row.name, row.read, row.language or None) for row in wanted]
    options = TranscriptionOptions(n_best=1 if fusion.lm is None else _TEXTS)
    found: dict[int, Heard] = {}
    for number, outcome in transcriber.transcribe(recordings, options):
        advance()
        row = wanted[number]
        if isinstance(outcome, WenloomError):
            measured.missed.append((row, str(outcome)))
        else:
            texts = outcome.n_best or ((outcome.text, 0.0),)
            found[number] = Heard(row, row.language or "en", outcome.text, texts)
    if not found:
        raise InputError(f"{data}: none of its recordings could be heard.")
    measured.heard = [found[number] for number in sorted(found)]
    for language in dict.fromkeys(each.language for each in measured.heard):
        its = [number for number, each in enumerate(measured.heard) if each.language == language]
        heard = [measured.heard[number] for number in its]
        if fusion.lm is None:
            measured.figures[language] = _figure(heard, language, data)
            continue
        heard, measured.fused[language] = _fused(transcriber, heard, language, data, fusion)
        for number, each in zip(its, heard, strict=True):
            measured.heard[number] = each
        measured.figures[language] = _figure(heard, language, data)
    return measured


def _figure(heard: Sequence[Heard], language: str, data: str) -> SpeechFigure:
    return speech_figure([(each.row.text, each.text) for each in heard], language, data)


def _fused(
    transcriber: Transcriber, heard: list[Heard], language: str, data: str, fusion: FusionOptions
) -> tuple[list[Heard], Fused]:
    """What is heard with the language model, and the comparison."""
    alone = [each._replace(text=each.n_best[0][0]) for each in heard]
    before = _figure(alone, language, data)
    weight, bonus = fusion.lm_weight, fusion.lm_bonus
    if weight is None:
        _, clean = normaliser(language)
        rows = [Utterance(each.row.name, clean(each.row.text), tuple(Hypothesis(clean(text), score) for text, score in each.n_best))
                for each in heard]  # fmt: skip
        scores = [transcriber.judged([text for text, _ in each.n_best]) for each in heard]
        found = rescore(rows, [scores])
        heard = [each._replace(text=each.n_best[index][0]) for each, index in zip(heard, found.chosen, strict=True)]
        weight, bonus = found.fusion.weight, found.fusion.bonus
    least = [min(speech_errors(each.row.text, text, language).errors for text, _ in each.n_best) for each in heard]
    said = sum(len(each.reference) for each in before.errors)
    test = compared_speech(before, _figure(heard, language, data))
    oracle = float(100 * np.sum(least) / said)
    return heard, Fused(before, test, oracle, weight, bonus, fusion.lm_weight is None)

"""Everything that is measured of an answer: for a page, for machines, for a notebook."""

import html
from collections.abc import Callable
from pathlib import Path

import torch

from wenloom.core.errors import InputError
from wenloom.core.progress import progress
from wenloom.explanation.answer_features import FoundFeatures
from wenloom.explanation.attribution import METHODS, Baseline, attributed
from wenloom.explanation.circuits import HeadScores, applies, head_scores
from wenloom.explanation.contributions import contributions
from wenloom.explanation.influence import TrainingPoint, training_points
from wenloom.explanation.inquiry import Answer, Inquiry, ask
from wenloom.explanation.lens import lens
from wenloom.explanation.measured import Measured
from wenloom.explanation.neurons import Neuron, check_neurons, n_tokens_read, neurons_of
from wenloom.explanation.page import explanation_page
from wenloom.explanation.patching import patching
from wenloom.explanation.subject import Subject, WithDecoder, subject_of
from wenloom.explanation.trace import Trace
from wenloom.explanation.training_text import check_searchable, training_text
from wenloom.explanation.tuned_lens import TunedLens
from wenloom.tokens.shards import Dataset
from wenloom.training.run_file import RUN

MOST_TOKENS = 512
"""Of an explained text: occlusion reads it once for each of its tokens, and all patterns of all heads are kept."""


class Explanation(Measured):
    """Why a model answers what it does."""

    def page(self, model: str = "") -> str:
        """One HTML file that needs no other.

        Args:
            model: how it is called.
        """
        return explanation_page(self, model)

    def _repr_html_(self) -> str:
        """The page inside a notebook."""
        return f'<iframe style="width:100%;height:44rem;border:0" srcdoc="{html.escape(self.page())}"></iframe>'


def explain(
    model: Subject | WithDecoder | str | Path,
    text: str,
    why: Answer | None = None,
    against: Answer | None = None,
    corrupted: str | None = None,
    steps: int | None = None,
    baseline: Baseline | None = None,
    data: Path | None = None,
    run: Path | None = None,
    with_neurons: bool = False,
    tuned: TunedLens | None = None,
    features: FoundFeatures | None = None,
    on_pass: Callable[[int], None] = lambda n: None,
) -> Explanation:
    """Everything that is measured of an answer.

    Args:
        model, text: as in `explanation.attribution.attribute`.
        why, against: the answer, and what might have stood there instead. A word is tried with and without a blank before
            it; the more probable one is meant.
        corrupted: another text of equally many tokens, for which another answer is right: shows where what decides is carried.
        steps, baseline: of integrated gradients, see `attribute`.
        data: a prepared corpus, whose training text is searched for the answer; see `training_text`.
        run: a run folder, whose kept checkpoints tell the influence of training text; None: the model's own, if it is one.
        with_neurons: also look at the neurons that do most for the answer, and of the corpus at the texts in which each is most
            active.
        tuned: maps through which blocks are read besides, see `tuned_lens`.
        features: of the stream after a block, see `answer_features`; those that do most for the answer are told.
        on_pass: told how many texts were read.

    Raises:
        InputError: see `inquiry.ask`, `patching`, `neurons_of` and `training_text`; more than `MOST_TOKENS` tokens.
        CheckpointError: a folder that holds no model.
    """
    subject = subject_of(model)
    _check_length(subject, text)
    if data is not None:  # before minutes are spent on what comes first
        check_searchable(subject, Dataset.open(data))
    if with_neurons:
        check_neurons(subject)
    why, against = (_as_meant(subject, text, each) for each in (why, against))
    inquiry = ask(subject, text, why, against)
    row = inquiry.rows[0]
    attributions = []
    for method in METHODS:
        try:
            own = method == "integrated-gradients"
            attributions.append(
                attributed(inquiry, method, steps if own else None, baseline if own else None, on_pass=on_pass)
            )
        except InputError:
            if method == "occlusion":  # allowed of any model; others are left out where they do not apply
                raise
    trace = Trace(subject, row.reading)
    looked_at = tokens = translated = None
    if subject.predicts in ("token", "next token"):
        own = row.signs > 0
        asked = dict(zip(row.places[own].tolist(), row.answers[own].tolist(), strict=True))
        tokens = lens(trace, asked=asked)
        translated = None if tuned is None else lens(trace, asked=asked, tuned=tuned)
    if subject.predicts == "next token":
        others = [each.answers[each.signs < 0] for each in inquiry.rows]
        other = next((int(each[0]) for each in others if len(each)), None)
        looked_at = contributions(trace, int(row.answers[0]), other, int(row.places[0]))
    target = why if why is not None else int(row.answers[0])
    between = None if corrupted is None else patching(subject, text, corrupted, target, against, on_pass=on_pass)
    own = run or (Path(model) if isinstance(model, str | Path) else None)
    points = training_points(own) if own is not None and (own / RUN).is_file() else [TrainingPoint(None, 1.0)]
    learned = None if data is None else training_text(inquiry, data, points)
    neurons = _neurons(inquiry, data) if with_neurons else ()
    active = () if features is None else tuple(features.of(inquiry))
    return Explanation(
        text, inquiry, trace, attributions, tokens, looked_at, between, learned, _known_heads(subject), neurons, active,
        translated
    )  # fmt: skip


def _neurons(inquiry: Inquiry, corpus: Path | None) -> tuple[Neuron, ...]:
    if corpus is None:
        return tuple(neurons_of(inquiry))
    with progress("Reading the corpus for neurons", n_tokens_read(corpus), "tokens") as bar:
        return tuple(neurons_of(inquiry, corpus, on_tokens=bar.advance))


def _known_heads(subject: Subject) -> HeadScores | None:
    """Scores of the heads; None where the context or the vocabulary has no room to measure them."""
    try:
        return head_scores(subject) if applies(subject) else None
    except InputError:
        return None


def _check_length(subject: Subject, text: str) -> None:
    reading = subject.read(text)
    for tokens in (reading.tokens, reading.source):
        if tokens is not None and tokens.shape[1] > MOST_TOKENS:
            raise InputError(
                f"the text has {tokens.shape[1]:,} tokens; all of this is measured of at most {MOST_TOKENS}. Take the part "
                "before the answer."
            )


@torch.no_grad()
def _as_meant(subject: Subject, text: str, answer: Answer | None) -> Answer | None:
    """A word that follows a text, with the blank before it or without, whichever is more probable."""
    if not isinstance(answer, str) or subject.predicts != "next token" or subject.prefix:
        return answer
    if not answer.strip() or answer[0].isspace() or not text or text[-1].isspace():
        return answer
    found = {}
    for spelling in (answer, f" {answer}"):
        (row,) = (inquiry := ask(subject, text, spelling)).rows
        found[spelling] = float(inquiry.value(row, *subject.vectors(row.reading)))
    return max(found, key=lambda spelling: found[spelling])

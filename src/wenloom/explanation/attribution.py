"""Attribution: how much each token of the input did for an answer.

Every method divides f(text) = log P(answer | text), or a difference of two, among the input tokens. What it means for the
division to be complete is stated, and measured: scores should add up to f(text) - f(nothing), where nothing is a zero vector in
place of every token.

In a deep model with RMS norms nothing is no good point to start from: from there to the text the answer's probability goes up and
down by hundreds of nats, at ever smaller scales. Integrated gradients then start from texts of drawn tokens instead (expected
gradients, Erion et al. 2021), from which the way to the text is smooth.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from wenloom.core.errors import CheckpointError, InputError
from wenloom.core.randomness import generator
from wenloom.explanation.inquiry import Answer, AnswerRow, Inquiry, ask
from wenloom.explanation.path_integral import PathLine, integrate, value_of, vectors_of
from wenloom.explanation.rollout import rollout
from wenloom.explanation.subject import Reading, Subject, WithDecoder, subject_of
from wenloom.model.quantize import require_unquantized

Method = Literal["integrated-gradients", "gradient-x-input", "occlusion", "attention-rollout"]
METHODS: tuple[Method, ...] = get_args(Method)
Baseline = Literal["zeros", "tokens"]
BASELINES: tuple[Baseline, ...] = get_args(Baseline)
SMALL_ERROR = 0.01
MOST_POINTS = 512
"""Of a line that is integrated as finely as it demands."""
_HOPELESS = 8.0
"""Where the line from zero vectors misses so many times the whole, drawn tokens are taken at once."""
DRAWS = 4
"""Texts of drawn tokens, over which a mean is taken."""
_POWER = {"zeros": 8, "tokens": 1}
"""Near zero vectors points are dense: an RMS norm makes of a vector that is anything but zero one of full length, and deep stacks
enlarge it at every block."""
_BATCH_TOKENS = 1024

Scores = tuple[Tensor, Tensor | None]
"""Of the tokens (T,) and of the source (S,), float64."""


@dataclass(frozen=True)
class Attribution:
    """What each input token did for an answer."""

    method: Method
    target: str
    against: str | None
    token_ids: list[int]
    tokens: list[str]
    """The input: of a model with two stacks the source first; then the text; then the answer's own tokens but the last, each
    read to predict the next (where two answers of several tokens are compared, those of one, then of the other)."""
    n_source: int
    """So many of them are the source."""
    n_text: int
    """So many, after these, are the text: what follows are answers."""
    scores: Tensor
    """What each token did, nats of log P; shape (tokens,), float64. Of rollout: shares of attention, which sum to 1."""
    value: float
    """f(text), nats."""
    baseline: float
    """f(nothing), nats; of drawn tokens the mean."""
    relative_to: Baseline
    """What nothing is: zero vectors in place of all tokens, or drawn tokens in place of all but the special ones."""
    error: float | None
    """|Σ scores - (value - baseline)| / |value - baseline|; None of rollout, which makes no such claim."""

    @property
    def is_weak(self) -> bool:
        """Whether the scores are no evidence of what decided the answer (attention: Jain & Wallace 2019)."""
        return self.method == "attention-rollout"


def attribute(
    model: Subject | WithDecoder | str | Path,
    text: str,
    target: Answer | None = None,
    against: Answer | None = None,
    method: Method = "integrated-gradients",
    steps: int | None = None,
    baseline: Baseline | None = None,
    seed: int = 0,
) -> Attribution:
    """How much each token of a text did for what a model answers.

    ```python
    found = wenloom.attribute("runs/quickstart", "The keys to the cabinet", " are", against=" is")
    sorted(zip(found.scores.tolist(), found.tokens))[-3:], found.error
    ```

    A continuation of several tokens is explained in one teacher-forced pass; its scores are the sums of those of its tokens, each
    explained by all before it.

    Args:
        model: a folder, a hub model, what `wenloom.load` gives, or an `explanation.subject.Subject`.
        text: what is read; of an encoder that predicts tokens, with one mask.
        target: a continuation, a filling or a label; None: the most probable one.
        against: what might have stood there instead: scores then say what spoke for the one and against the other
            (Yin & Neubig 2022).
        method: integrated-gradients (Sundararajan et al. 2017, eq. 1); gradient-x-input; occlusion, f without each token alone (a
            zero vector in its place); attention-rollout (Abnar & Zuidema 2020), which is weak evidence.
        steps: points of integrated gradients' path, by one Gauss-Legendre quadrature, and from zero vectors if nothing else is said; None: as many as the path demands for an
            error of at most 1 %, see `path_integral`.
        baseline: where integrated gradients begin: at zero vectors, or at texts of drawn tokens, over which the mean is taken;
            None: at zero vectors, and at drawn tokens where those leave an error of more than 1 %.
        seed: of the drawn tokens.

    Raises:
        InputError: see `inquiry.ask`; an unknown method or baseline; quantized weights, for a method that needs gradients.
        CheckpointError: a folder that holds no model, or one whose scores are no numbers.
    """
    for name, given, known in (("method", method, METHODS), ("baseline", baseline or "zeros", BASELINES)):
        if given not in known:
            raise InputError(f"{name} {given!r}: known are {', '.join(known)}.")
    if baseline is not None and method != "integrated-gradients":
        raise InputError(f"baseline is where integrated gradients begin; {method} has none to choose.")
    if steps is not None and steps < 1:
        raise InputError(f"steps must be at least 1, got {steps}.")
    return attributed(ask(subject_of(model), text, target, against), method, steps, baseline, seed)


def attributed(
    inquiry: Inquiry,
    method: Method,
    steps: int | None = None,
    baseline: Baseline | None = None,
    seed: int = 0,
    on_pass: Callable[[int], None] = lambda n: None,
) -> Attribution:
    """As `attribute`, of an inquiry.

    Args:
        on_pass: told how many texts were read.
    """
    if method in ("integrated-gradients", "gradient-x-input"):
        require_unquantized(inquiry.subject.model, f"{method} needs gradients")
    if method == "integrated-gradients":
        if baseline == "tokens" and not _has_ordinary(inquiry):
            raise InputError(
                "the text has special tokens alone: none can be drawn in their place (take baseline zeros)."
            )
        hopeless = _HOPELESS if baseline is None else math.inf
        found = _integrated(inquiry, baseline or "zeros", steps, seed, hopeless, on_pass)
        if baseline is None and steps is None and (found.error or 0) > SMALL_ERROR and _has_ordinary(inquiry):
            other = _integrated(inquiry, "tokens", None, seed, math.inf, on_pass)
            found = min(found, other, key=lambda each: each.error or 0)
        return found
    by_row = [_scores(inquiry, row, method, on_pass) for row in inquiry.rows]
    return _attribution(inquiry, method, by_row, _value_at(inquiry, [_zeros(inquiry, row) for row in inquiry.rows]))


def _attribution(
    inquiry: Inquiry, method: Method, by_row: list[Scores], baseline: float, relative_to: Baseline = "zeros"
) -> Attribution:
    """Of the scores of each row."""
    value = _value_at(inquiry, [vectors_of(inquiry.subject, row.reading) for row in inquiry.rows])
    if not math.isfinite(value):
        raise CheckpointError("the model gives scores that are not numbers; its weights are damaged or overflow.")
    token_ids, scores, n_source, n_text = _joined(inquiry, by_row)
    error = None
    if method != "attention-rollout":
        error = abs(float(scores.sum()) - (value - baseline)) / max(abs(value - baseline), 1e-12)
    tokens = [inquiry.subject.piece(token) for token in token_ids]
    return Attribution(
        method, inquiry.target, inquiry.against, token_ids, tokens, n_source, n_text, scores, value, baseline, relative_to,
        error,
    )  # fmt: skip


def _scores(inquiry: Inquiry, row: AnswerRow, method: Method, on_pass: Callable[[int], None]) -> Scores:
    if method == "occlusion":
        return _occluded(inquiry, row, on_pass)
    if method == "attention-rollout":
        return rollout(inquiry.subject, row)
    line = PathLine(inquiry, row, _zeros(inquiry, row), on_pass=on_pass)
    return _divided(line, line.slopes(np.ones(1))[0])


def _integrated(
    inquiry: Inquiry,
    baseline: Baseline,
    steps: int | None,
    seed: int,
    hopeless: float,
    on_pass: Callable[[int], None],
) -> Attribution:
    """Integrated gradients, of drawn tokens the mean over the draws.

    Args:
        hopeless: lines that miss so many times the whole are not followed further.
    """
    origins = (
        [[_zeros(inquiry, row) for row in inquiry.rows]]
        if baseline == "zeros"
        else [_drawn(inquiry, (seed, number)) for number in range(DRAWS)]
    )
    value = _value_at(inquiry, [vectors_of(inquiry.subject, row.reading) for row in inquiry.rows])
    by_draw, before = list[list[Scores]](), list[float]()
    for of_rows in origins:
        before.append(_value_at(inquiry, of_rows))
        whole = abs(value - before[-1]) / len(of_rows)
        lines = [
            PathLine(inquiry, row, origin, _POWER[baseline], on_pass)
            for row, origin in zip(inquiry.rows, of_rows, strict=True)
        ]
        by_draw.append(
            [
                _divided(
                    line,
                    integrate(line, SMALL_ERROR * whole, MOST_POINTS, hopeless * whole).scores_T
                    if steps is None
                    else line.panel_scores([(0.0, 1.0)], steps)[0],
                )
                for line in lines
            ]
        )
    mean = [_mean([draw[row] for draw in by_draw]) for row in range(len(inquiry.rows))]
    return _attribution(inquiry, "integrated-gradients", mean, float(np.mean(before)), baseline)


def _divided(line: PathLine, scores_T: Tensor) -> Scores:
    """Scores of the tokens, and of the source."""
    n_tokens = line.origin[0].shape[1]
    return scores_T[:n_tokens], scores_T[n_tokens:] if len(line.origin) > 1 else None


def _mean(draws: list[Scores]) -> Scores:
    sources = [source for _, source in draws if source is not None]
    return torch.stack([tokens for tokens, _ in draws]).mean(0), torch.stack(sources).mean(0) if sources else None


def _zeros(inquiry: Inquiry, row: AnswerRow) -> list[Tensor]:
    return [torch.zeros_like(each) for each in vectors_of(inquiry.subject, row.reading)]


def _drawn(inquiry: Inquiry, seed: tuple[int, int]) -> list[list[Tensor]]:
    """Vectors of the rows of `drawn_readings`."""
    return [vectors_of(inquiry.subject, reading) for reading in drawn_readings(inquiry, seed)]


def _has_ordinary(inquiry: Inquiry) -> bool:
    """Whether anything but special tokens is read."""
    special = inquiry.subject.tokenizer.special_ids
    read = [each for row in inquiry.rows for each in (row.reading.tokens, row.reading.source) if each is not None]
    return any(token not in special for ids in read for token in ids.flatten().tolist())


def drawn_readings(inquiry: Inquiry, seed: tuple[int, int]) -> list[Reading]:
    """The rows with drawn tokens in place of all but the special ones: a place has the same in every row.

    Args:
        seed: of `attribute`, and the number of the draw.
    """
    subject, special = inquiry.subject, inquiry.subject.tokenizer.special_ids
    ordinary, draw = torch.tensor(subject.ordinary_tokens), generator(seed[0], "baseline", seed[1])

    def exchanged(ids_1T: Tensor, instead_T: Tensor) -> Tensor:
        is_special = torch.tensor([token in special for token in ids_1T[0].tolist()])
        return torch.where(is_special, ids_1T.cpu(), instead_T[: ids_1T.shape[1]]).to(ids_1T.device)

    readings = [row.reading for row in inquiry.rows]
    longest = max(each.shape[1] for r in readings for each in (r.tokens, r.source) if each is not None)
    tokens_T, source_T = (ordinary[torch.randint(len(ordinary), (longest,), generator=draw)] for _ in range(2))
    return [
        replace(
            reading,
            tokens=exchanged(reading.tokens, tokens_T),
            source=None if reading.source is None else exchanged(reading.source, source_T),
        )
        for reading in readings
    ]


@torch.no_grad()
def _occluded(inquiry: Inquiry, row: AnswerRow, on_pass: Callable[[int], None]) -> Scores:
    """f(text) - f(text with a zero vector in place of a token), of each token."""
    vectors_1TD, source_1SD = inquiry.subject.vectors(row.reading)
    whole = inquiry.value(row, vectors_1TD, source_1SD)
    n_tokens, n_source = vectors_1TD.shape[1], 0 if source_1SD is None else source_1SD.shape[1]
    lost = []
    for places in torch.arange(n_source + n_tokens).split(max(1, _BATCH_TOKENS // (n_source + n_tokens))):
        rows = torch.arange(len(places))
        is_source = places < n_source
        tokens = vectors_1TD.repeat(len(places), 1, 1)
        tokens[rows[~is_source], places[~is_source] - n_source] = 0
        source = None
        if source_1SD is not None:
            source = source_1SD.repeat(len(places), 1, 1)
            source[rows[is_source], places[is_source]] = 0
        lost.append(whole - inquiry.value(row, tokens, source))
        on_pass(len(places))
    scores = torch.cat(lost)
    return scores[n_source:], scores[:n_source] if n_source else None


@torch.no_grad()
def _value_at(inquiry: Inquiry, of_rows: list[list[Tensor]]) -> float:
    """f of other vectors, those of each row."""
    rows = zip(inquiry.rows, of_rows, strict=True)
    return float(sum(value_of(inquiry, row, vectors) for row, vectors in rows))


def _joined(inquiry: Inquiry, by_row: list[Scores]) -> tuple[list[int], Tensor, int, int]:
    """Tokens and scores of all rows; the text, which all of them begin with, is there once."""
    reading = inquiry.rows[0].reading
    start = min(reading.start, reading.tokens.shape[1])
    sources = [] if reading.source is None else reading.source[0].tolist()
    token_ids, text = [*sources, *reading.tokens[0, :start].tolist()], torch.stack([each[:start] for each, _ in by_row])
    parts = [text.sum(0)]
    if reading.source is not None:
        parts.insert(0, torch.stack([source for _, source in by_row if source is not None]).sum(0))
    for row, (scores, _) in zip(inquiry.rows, by_row, strict=True):
        token_ids += row.reading.tokens[0, start:].tolist()
        parts.append(scores[start:])
    return token_ids, torch.cat(parts).cpu(), len(sources), start

"""Attribution: how much each token of the input did for an answer.

Every method divides f(text) = log P(answer | text), or a difference of two, among the input tokens. What it means for the
division to be complete is stated, and measured: scores should add up to f(text) - f(nothing), where nothing is a zero vector in
place of every token.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from wenloom.core.errors import InputError
from wenloom.explanation.inquiry import Answer, AnswerRow, Inquiry, ask
from wenloom.explanation.rollout import rollout
from wenloom.explanation.subject import Subject, WithDecoder, subject_of
from wenloom.model.quantize import require_unquantized

Method = Literal["integrated-gradients", "gradient-x-input", "occlusion", "attention-rollout"]
METHODS: tuple[Method, ...] = get_args(Method)
STEPS = (64, 256, 1024)
"""Points of the path of integrated gradients: the next number where one leaves an error of more than `SMALL_ERROR`. Models
with learned positions need a few; those whose norm first meets the tokens alone change most of all near zero vectors."""
SMALL_ERROR = 0.01
_POWER = 8
"""Points of the path are the powers of evenly spread ones, so that they are dense where all vectors are nearly zero: an RMS norm
makes of a vector that is anything but zero one of full length, and deep stacks enlarge it at every block."""
_LEAST_SCALE = 1e-30
"""Below it products in float32 come to nothing."""
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
    """f(nothing): zero vectors in place of all tokens, nats."""
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
        method: integrated-gradients (Sundararajan et al. 2017, eq. 1), from zero vectors to those of the text, by Gauss-Legendre
            quadrature, denser near zero; gradient-x-input; occlusion, f without each token alone (a zero vector in its place);
            attention-rollout (Abnar & Zuidema 2020), which is weak evidence.
        steps: points of integrated gradients' path; None: 64, then 256 and 1,024 where fewer leave an error of more than 1 %.

    Raises:
        InputError: see `inquiry.ask`; an unknown method; quantized weights, for a method that needs gradients.
        CheckpointError: a folder that holds no model.
    """
    if method not in METHODS:
        raise InputError(f"method {method!r}: known are {', '.join(METHODS)}.")
    if steps is not None and steps < 1:
        raise InputError(f"steps must be at least 1, got {steps}.")
    inquiry = ask(subject_of(model), text, target, against)
    return attributed(inquiry, method, steps)


def attributed(
    inquiry: Inquiry, method: Method, steps: int | None = None, on_pass: Callable[[int], None] = lambda n: None
) -> Attribution:
    """As `attribute`, of a inquiry.

    Args:
        on_pass: told how many texts were read.
    """
    if method in ("integrated-gradients", "gradient-x-input"):
        require_unquantized(inquiry.subject.model, f"{method} needs gradients")
    value, baseline = (_total(inquiry, scale) for scale in (1.0, 0.0))
    found = before = None
    for number in STEPS if steps is None else (steps,):
        by_row = [_scores(inquiry, row, method, number, on_pass) for row in inquiry.rows]
        token_ids, scores, n_source, n_text = _joined(inquiry, by_row)
        error = None
        if method != "attention-rollout":
            error = abs(float(scores.sum()) - (value - baseline)) / max(abs(value - baseline), 1e-12)
        tokens = [inquiry.subject.piece(token) for token in token_ids]
        found = Attribution(
            method,
            inquiry.target,
            inquiry.against,
            token_ids,
            tokens,
            n_source,
            n_text,
            scores,
            value,
            baseline,
            error,
        )
        if method != "integrated-gradients" or error is None or error <= SMALL_ERROR:
            break
        if before is not None and error * (error / before) > 2 * SMALL_ERROR:
            break  # four times as many points would not be enough: the path has a corner, and other methods come first
        before = error
    assert found is not None
    return found


def _scores(inquiry: Inquiry, row: AnswerRow, method: Method, steps: int, on_pass: Callable[[int], None]) -> Scores:
    if method == "occlusion":
        return _occluded(inquiry, row, on_pass)
    if method == "attention-rollout":
        return rollout(inquiry.subject, row)
    points, weights = (np.ones(1), np.ones(1)) if method == "gradient-x-input" else path(steps)
    return _integrated(inquiry, row, points, weights, on_pass)


def path(steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Points in (0, 1) and weights of an integral over them: Gauss-Legendre quadrature in u, where the point is u to the
    power of `_POWER`.

    >>> points, weights = path(32)
    >>> round(float((weights * points**3).sum()), 9), round(float((weights * points**0.5).sum()), 9)
    (0.25, 0.666666667)
    """
    u, weights = np.polynomial.legendre.leggauss(steps)
    u = (u + 1) / 2
    points, weights = u**_POWER, weights / 2 * _POWER * u ** (_POWER - 1)
    return points[points > _LEAST_SCALE], weights[points > _LEAST_SCALE]


def _integrated(
    inquiry: Inquiry, row: AnswerRow, points: np.ndarray, weights: np.ndarray, on_pass: Callable[[int], None]
) -> Scores:
    """Σ_D x ∫ ∂f/∂x (a x) da, over the points of the path."""
    vectors = [None if x is None else x.detach() for x in inquiry.subject.vectors(row.reading)]
    present = [x for x in vectors if x is not None]
    sums = [torch.zeros(x.shape[1:], dtype=torch.float64, device=x.device) for x in present]
    at_once = max(1, _BATCH_TOKENS // sum(x.shape[1] for x in present))
    for begin in range(0, len(points), at_once):
        part = slice(begin, begin + at_once)
        scale, weight = (torch.tensor(each[part], device=sums[0].device)[:, None, None] for each in (points, weights))
        scaled = [(x * scale.to(x.dtype)).requires_grad_() for x in present]
        with torch.enable_grad():
            value = inquiry.value(row, scaled[0], scaled[1] if len(scaled) > 1 else None)
            gradients = torch.autograd.grad(value.sum(), scaled)
        for total, gradient in zip(sums, gradients, strict=True):
            total += (gradient.double() * weight).sum(0)
        on_pass(len(scale))
    found = [(total * x[0].double()).sum(-1) for total, x in zip(sums, present, strict=True)]
    return found[0], found[1] if len(found) > 1 else None


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
def _total(inquiry: Inquiry, scale: float) -> float:
    """f with all vectors multiplied."""
    parts = []
    for row in inquiry.rows:
        vectors, source = inquiry.subject.vectors(row.reading)
        parts.append(inquiry.value(row, vectors * scale, None if source is None else source * scale))
    return float(torch.stack(parts).sum())


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

"""The gradient of an answer, integrated along a straight line between two texts' vectors, as finely as the line demands.

    scores = Σ_D (x - x') ∫ ∂f/∂x (x' + a (x - x')) da        (Sundararajan et al. 2017, eq. 1)

A panel [a, b] of the line is complete when its part of the integral is f(b) - f(a), which two forward passes tell. Panels that are
not are halved, and measured again, until what is missing of all of them together is little beside f(x) - f(x').
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from wenloom.explanation.inquiry import AnswerRow, Inquiry
from wenloom.explanation.subject import Reading, Subject

ORDER = 4
"""Gauss-Legendre points of a panel."""
PANELS = 16
"""Of a line before any is halved."""
_LEAST_SCALE = 1e-30
"""Below it products in float32 come to nothing."""
_BATCH_TOKENS = 1024


class _Panel(NamedTuple):
    """A part of the line that was measured."""

    begin: float
    end: float
    scores_T: Tensor
    """Its part of each token's score."""
    defect: float
    """How far their sum is from f(end) - f(begin)."""


class PathScores(NamedTuple):
    """What a line's integral gives each token."""

    scores_T: Tensor
    """Of the tokens, then of the source, float64."""
    missing: float
    """The panels' defects together, nats."""


@dataclass(frozen=True)
class PathLine:
    """A straight line from other vectors to those of an answer's text.

    Args:
        origin: of the tokens (1, T, D), and of the source (1, S, D) where there is one.
        power: points lie at u to this power, where u is spread evenly: above 1 they are dense near the origin.
        on_pass: told how many texts were read with their gradients.
    """

    inquiry: Inquiry
    row: AnswerRow
    origin: list[Tensor]
    power: int = 1
    on_pass: Callable[[int], None] = lambda n: None

    @property
    def ends(self) -> list[Tensor]:
        """Vectors of the text, and of its source."""
        return vectors_of(self.inquiry.subject, self.row.reading)

    def values(self, u_N: np.ndarray) -> np.ndarray:
        """f at points of the line, nats, shape (N,)."""
        with torch.no_grad():
            found = [self._value(self._vectors(part_N)) for part_N in self._parts(u_N)]
        return torch.cat(found).cpu().numpy()

    def panel_scores(self, panels: list[tuple[float, float]], order: int = ORDER) -> Tensor:
        """Each token's part of the integral over every panel by Gauss-Legendre quadrature, shape (panels, T), float64."""
        points, weights = np.polynomial.legendre.leggauss(order)
        begin, end = (np.array(each)[:, None] for each in zip(*panels, strict=True))
        u_N, half = ((begin + end + (end - begin) * points) / 2).ravel(), (end - begin) / 2
        weight_N = (half * weights).ravel() * self.power * u_N ** (self.power - 1)
        weighted_NT = self.slopes(u_N) * torch.tensor(weight_N)[:, None]
        return weighted_NT.reshape(len(panels), order, -1).sum(1)

    def slopes(self, u_N: np.ndarray) -> Tensor:
        """(x - x') ∂f/∂x of each token at points of the line, shape (N, T), float64; 0 where the line has hardly begun."""
        differences = [end - begin for begin, end in zip(self.origin, self.ends, strict=True)]
        found = torch.zeros(len(u_N), sum(each.shape[1] for each in differences), dtype=torch.float64)
        seen = np.flatnonzero(u_N**self.power > _LEAST_SCALE)
        for part in self._parts(seen):
            vectors = [each.requires_grad_() for each in self._vectors(u_N[part])]
            with torch.enable_grad():
                gradients = torch.autograd.grad(self._value(vectors).sum(), vectors)
            rows = [(g.double() * d.double()).sum(-1) for g, d in zip(gradients, differences, strict=True)]
            found[part] = torch.cat(rows, 1).cpu()
            self.on_pass(len(part))
        return found

    def _parts(self, each_N: np.ndarray) -> list[np.ndarray]:
        at_once = max(1, _BATCH_TOKENS // sum(each.shape[1] for each in self.origin))
        return [each_N[begin : begin + at_once] for begin in range(0, len(each_N), at_once)]

    def _vectors(self, u_N: np.ndarray) -> list[Tensor]:
        lines = zip(self.origin, self.ends, strict=True)
        return [begin + (end - begin) * _scale(u_N**self.power, begin) for begin, end in lines]

    def _value(self, vectors: list[Tensor]) -> Tensor:
        return value_of(self.inquiry, self.row, vectors)


def vectors_of(subject: Subject, reading: Reading) -> list[Tensor]:
    """Vectors of the tokens (1, T, D) and, where there is one, of the source (1, S, D); no gradient flows back from them."""
    return [each.detach() for each in subject.vectors(reading) if each is not None]


def value_of(inquiry: Inquiry, row: AnswerRow, vectors: list[Tensor]) -> Tensor:
    """A row's part of f, of vectors of the tokens and, where there is one, of the source; shape (B,), float64."""
    return inquiry.value(row, vectors[0], vectors[1] if len(vectors) > 1 else None)


def _scale(a_N: np.ndarray, like: Tensor) -> Tensor:
    return torch.tensor(a_N, dtype=like.dtype, device=like.device)[:, None, None]


def integrate(line: PathLine, may_miss: float, most_points: int, hopeless: float = math.inf) -> PathScores:
    """The line's integral, its panels halved until they miss little.

    Args:
        may_miss: so much may be missing of all panels together, nats.
        most_points: gradients that are taken at most; then the integral is as good as it is.
        hopeless: where so much is missing before any panel is halved, nats, none is.
    """
    edges = np.linspace(0, 1, PANELS + 1)
    value_at = dict(zip(edges.tolist(), line.values(edges).tolist(), strict=True))
    asked, done, n_points = list(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)), list[_Panel](), 0
    while True:
        for (begin, end), scores_T in zip(asked, line.panel_scores(asked), strict=True):
            done.append(_Panel(begin, end, scores_T, float(scores_T.sum()) - (value_at[end] - value_at[begin])))
        n_points += ORDER * len(asked)
        missing = sum(abs(each.defect) for each in done)
        worst = sorted(done, key=lambda each: -abs(each.defect))
        n_bad = sum(abs(each.defect) > may_miss / len(done) for each in done)
        n_halved = min(n_bad, (most_points - n_points) // (2 * ORDER))
        if missing <= may_miss or n_halved < 1 or (len(done) == PANELS and missing > hopeless):
            return PathScores(torch.stack([each.scores_T for each in done]).sum(0), missing)
        bad, done = worst[:n_halved], worst[n_halved:]
        middles = [(each.begin + each.end) / 2 for each in bad]
        value_at |= zip(middles, line.values(np.array(middles)).tolist(), strict=True)
        asked = [half for each, m in zip(bad, middles, strict=True) for half in ((each.begin, m), (m, each.end))]

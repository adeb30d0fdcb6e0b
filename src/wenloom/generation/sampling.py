"""From processed logits to a token: cut-offs in a fixed order, then one draw from a counter-based stream.

The order is that of the options in `options.Sampling`: temperature, top-n-sigma, top-h, top-k, top-p, min-p, typical,
epsilon, eta, then XTC (or mirostat in place of them all). After each cut-off the rest counts as the whole.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wenloom.core.randomness import uniforms
from wenloom.generation.options import Sampling

Floats = NDArray[np.float64]


class Candidates(NamedTuple):
    """Tokens that may be drawn, most probable first."""

    tokens: NDArray[np.int64]
    logits: Floats

    def probabilities(self) -> Floats:
        """Softmax over the candidates."""
        weights = np.exp(self.logits - self.logits[0])
        return weights / weights.sum()

    def keep(self, which: NDArray[np.bool_]) -> "Candidates":
        """Some of them; the most probable one always stays."""
        which[0] |= not which.any()
        return Candidates(self.tokens[which], self.logits[which])


@dataclass
class Mirostat:
    """The running state of mirostat 2: the largest surprise allowed next, in bits."""

    limit: float


def candidates(logits_V: Tensor, options: Sampling) -> Candidates:
    """The tokens that may be drawn.

    Args:
        logits_V: processed logits on the CPU, -inf for what is forbidden.
    """
    some = _best(_uncut(logits_V, options), options.top_k, _top_p(options))
    for name, cut in _CUTS.items():
        if (value := getattr(options, name)) is not None:
            some = some.keep(cut(some.probabilities(), value))
    return some


def _uncut(logits_V: Tensor, options: Sampling) -> Tensor:
    """Logits by the temperature, -inf for what the cut-offs forbid that need no order."""
    logits_V = logits_V.double() / (0.8 if options.temperature is None else options.temperature)
    if options.top_n_sigma is not None:
        spread = logits_V[logits_V.isfinite()].std(correction=0)
        logits_V = logits_V.masked_fill(logits_V < logits_V.max() - options.top_n_sigma * spread, -torch.inf)
    return logits_V if options.top_h is None else _top_h(logits_V, options.top_h)


def _top_p(options: Sampling) -> float:
    return options.top_p if options.top_p is not None else 0.95 if options.mirostat_tau is None else 1.0


def _needs_order(options: Sampling) -> bool:
    """Whether a cut-off asks which tokens are the most probable ones."""
    cuts = any(getattr(options, name) is not None for name in _CUTS)
    return bool(cuts or options.top_k or options.xtc_probability or options.mirostat_tau) or _top_p(options) < 1


def _best(logits_V: Tensor, k: int | None, p: float) -> Candidates:
    """The k most probable tokens, and of these the fewest that add up to p; sorted without sorting all if possible.

    The most probable tokens nearly always add up to p long before the end of the vocabulary.
    """
    n = len(logits_V)
    room = n if k is None else min(k, n)
    total = torch.logsumexp(logits_V if k is None else logits_V.topk(room).values, 0)
    wanted = room if p >= 1 else min(room, 256)
    while True:
        values, tokens = logits_V.sort(descending=True) if wanted == n else logits_V.topk(wanted)
        through = (values - total).exp().cumsum(0)
        if p >= 1 or wanted == room or through[-1] >= p:
            break
        wanted = min(room, wanted * 8)
    count = int((through < p).sum()) + 1 if p < 1 else wanted
    count = min(count, max(1, int(values.isfinite().sum())))
    return Candidates(tokens[:count].numpy(), values[:count].numpy())


def _top_h(logits_V: Tensor, alpha: float) -> Tensor:
    """The logits with -inf for all but the most probable tokens S with H(p_S) <= alpha H(p), p_S being p over S as a
    whole (Potraghloo et al. 2025, arXiv 2509.02510, algorithm 1).

    With Z the sum of p over S, H(p_S) = log Z - (sum of p log p over S) / Z, which grows with every token taken. (transformers 5 adds up
    -p log p over S without making it a whole, and keeps more.)
    """
    logs_V, order_V = logits_V.log_softmax(-1).sort(descending=True)
    p_V = logs_V.exp()
    through_V, surprise_V = p_V.cumsum(0), -torch.special.xlogy(p_V, p_V).cumsum(0)
    entropy_V = through_V.log() + surprise_V / through_V
    count = max(1, int((entropy_V <= alpha * surprise_V[-1]).sum()))
    return logits_V.index_fill(0, order_V[count:], -torch.inf)


def _min_p(probabilities: Floats, least: float) -> NDArray[np.bool_]:
    return probabilities >= least * probabilities[0]


def _typical(probabilities: Floats, mass: float) -> NDArray[np.bool_]:
    surprise = -np.log(np.maximum(probabilities, 1e-300))
    order = np.argsort(np.abs(surprise - (probabilities * surprise).sum()), kind="stable")
    through = np.cumsum(probabilities[order])
    kept = np.zeros(len(probabilities), bool)
    kept[order[: int((through < mass).sum()) + 1]] = True
    return kept


def _epsilon(probabilities: Floats, least: float) -> NDArray[np.bool_]:
    return probabilities >= least


def _eta(probabilities: Floats, eta: float) -> NDArray[np.bool_]:
    entropy = -(probabilities * np.log(np.maximum(probabilities, 1e-300))).sum()
    return probabilities >= min(eta, math.sqrt(eta) * math.exp(-entropy))


_CUTS: dict[str, Callable[[Floats, float], NDArray[np.bool_]]] = {
    "min_p": _min_p,
    "typical_p": _typical,
    "epsilon_cutoff": _epsilon,
    "eta_cutoff": _eta,
}


def draw(logits_V: Tensor, options: Sampling, key: int, position: int, mirostat: Mirostat | None = None) -> int:
    """One token.

    Args:
        logits_V: processed logits on the CPU.
        key: of the sequence's own random stream.
        position: of the token in its sequence; each has numbers of its own, so that the draw depends on nothing
            else that is drawn, before or beside it.
        mirostat: updated in place.
    """
    if not _needs_order(options):  # as OpenAI's API has it by default; to sort all takes nine tenths of a draw's time
        logits = _uncut(logits_V, options).numpy()
        tokens = np.flatnonzero(np.isfinite(logits))
        return int(tokens[np.argmax(logits[tokens] + gumbel(key, position, tokens))])
    some = candidates(logits_V, options)
    if options.xtc_probability and uniforms(key, position, np.array([-1]))[0] < options.xtc_probability:
        at_least = int((some.probabilities() >= options.xtc_threshold).sum())
        if at_least > 1:
            some = Candidates(some.tokens[at_least - 1 :], some.logits[at_least - 1 :])
    if mirostat is not None and options.mirostat_tau is not None:
        some = some.keep(-np.log2(np.maximum(some.probabilities(), 1e-300)) <= mirostat.limit)
    chosen = int(np.argmax(some.logits + gumbel(key, position, some.tokens)))
    if mirostat is not None and options.mirostat_tau is not None:
        surprise = -math.log2(some.probabilities()[chosen])
        mirostat.limit -= options.mirostat_eta * (surprise - options.mirostat_tau)
    return int(some.tokens[chosen])


def gumbel(key: int, position: int, tokens: NDArray[np.int64]) -> Floats:
    """-log(-log U) with one U per token.

    argmax(logits + gumbel) draws from softmax(logits) (Gumbel 1954). Because a token's number does not depend on
    the logits, two models that draw at the same position with the same key mostly agree: what a draft model
    guesses by it is what the large model will draw, as often as their distributions overlap.
    """
    return -np.log(-np.log(uniforms(key, position, tokens)))

"""Connectionist temporal classification: what a head on the encoder hears, place by place (Graves et al. 2006).

A path gives every place of the sound a token or the blank; it spells a text by joining equal neighbours and leaving blanks
out. P(text | sound) is the sum over all paths that spell it. Letters are the paper's: S places, V tokens, y the text.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

_PRUNED = 8.0
"""Tokens that are so many nats less probable than the best of their place are no part of a prefix search: a share of e^-8 of
a place changes no figure here, and leaves a handful of tokens of thousands."""

Text = tuple[int, ...]
"""Tokens of a text."""
Guide = Callable[[Sequence[Sequence[int]]], Tensor]
"""Of texts so far, what a language model adds to the log-probability of every next token, shape (texts, V)."""


class Spelled(NamedTuple):
    """A text that the head may have heard."""

    tokens: Text
    logprob: float
    """log of the sum over the paths that spell it, as far as the search has kept them."""


def ctc_logprobs(encoded_SD: Tensor, embedding_VD: Tensor, silent: Sequence[int]) -> Tensor:
    """log P of every token at every place, float32 of shape (S, V).

    Args:
        encoded_SD: the encoder's last stream, of a window.
        embedding_VD: the token embedding, which is the output matrix.
        silent: tokens that no transcript holds; they become impossible without being counted out of the others.
    """
    logprobs_SV = functional.linear(encoded_SD, embedding_VD.to(encoded_SD.dtype)).float().log_softmax(-1)
    logprobs_SV[..., list(silent)] = -torch.inf
    return logprobs_SV


def spelled(path: Sequence[int], blank: int) -> Text:
    """The text of a path: equal neighbours joined, blanks left out (the paper's map B).

    >>> spelled([0, 5, 5, 0, 5, 7, 7], blank=0)
    (5, 5, 7)
    """
    return tuple(
        token for place, token in enumerate(path) if token != blank and (place == 0 or path[place - 1] != token)
    )


def greedy(logprobs_SV: Tensor, blank: int) -> Spelled:
    """What the most probable path spells (the paper's best path decoding), with the log-probability of that path alone."""
    best = logprobs_SV.max(-1)
    return Spelled(spelled(best.indices.tolist(), blank), float(best.values.sum()))


def prefix_beams(logprobs_SV: Tensor, blank: int, count: int, guide: Guide | None = None) -> list[Spelled]:
    """The most probable texts, best first: a beam over prefixes, each with the sum of its paths (the paper's section 3.2;
    with a beam as in Hannun et al. 2014, algorithm 1).

    Args:
        logprobs_SV: shape (S, V).
        count: prefixes that are followed, and texts at most.
        guide: what a language model adds to every token behind a prefix; it decides which prefixes are followed, and is no
            part of what is returned.
    """
    rows = _candidates(logprobs_SV, blank)
    nothing = -np.inf
    beam: dict[Text, tuple[float, float]] = {(): (0.0, nothing)}
    guided: dict[Text, float] = {(): 0.0}
    known: dict[Text, Tensor] = {}
    for row in rows:
        if guide is not None and len(row) > 1 and (new := [prefix for prefix in beam if prefix not in known]):
            known |= zip(new, guide(new), strict=True)
        following: dict[Text, tuple[float, float]] = {}
        for prefix, (ends_blank, ends_token) in beam.items():
            both, last = float(np.logaddexp(ends_blank, ends_token)), prefix[-1] if prefix else -1
            for token, value in row:
                if token == blank:
                    _add(following, prefix, both + value, nothing)
                    continue
                if token == last:
                    _add(following, prefix, nothing, ends_token + value)
                longer = (*prefix, token)
                _add(following, longer, nothing, (ends_blank if token == last else both) + value)
                if guide is not None and longer not in guided:
                    guided[longer] = guided[prefix] + float(known[prefix][token])
        ranked = sorted(following.items(), key=lambda each: -float(np.logaddexp(*each[1])) - guided.get(each[0], 0.0))
        beam = {prefix: ends for prefix, ends in ranked[:count] if max(ends) > nothing}
    return [Spelled(prefix, float(np.logaddexp(*ends))) for prefix, ends in beam.items()]


def _candidates(logprobs_SV: Tensor, blank: int) -> list[list[tuple[int, float]]]:
    """The tokens of every place that a search looks at, and their log-probabilities."""
    is_kept_SV = logprobs_SV > logprobs_SV.max(-1, keepdim=True).values - _PRUNED
    is_kept_SV[:, blank] = True
    places, tokens = is_kept_SV.nonzero(as_tuple=True)
    values = logprobs_SV[places, tokens].double().tolist()
    rows: list[list[tuple[int, float]]] = [[] for _ in range(len(logprobs_SV))]
    for place, token, value in zip(places.tolist(), tokens.tolist(), values, strict=True):
        rows[place].append((token, value))
    return rows


def _add(beam: dict[Text, tuple[float, float]], prefix: Text, blank: float, token: float) -> None:
    """Count paths that end with the blank, and with the prefix's last token."""
    before = beam.get(prefix, (-np.inf, -np.inf))
    beam[prefix] = float(np.logaddexp(before[0], blank)), float(np.logaddexp(before[1], token))


def text_logprobs(logprobs_SV: Tensor, texts: Sequence[Sequence[int]], blank: int) -> list[float]:
    """log P of whole texts, each the sum over all its paths (the paper's eq. 8); -inf of one that the sound is too short for."""
    longest = max(1, *map(len, texts))
    padded = torch.tensor([[*text, *[blank] * (longest - len(text))] for text in texts], device=logprobs_SV.device)
    lengths = torch.tensor([len(text) for text in texts], device=logprobs_SV.device)
    finite_SV = logprobs_SV.double().clamp(min=-1e4)  # of -inf ctc_loss makes nan
    nats = functional.ctc_loss(
        finite_SV[:, None].expand(-1, len(texts), -1), padded, torch.full_like(lengths, len(finite_SV)), lengths, blank,
        reduction="none",
    )  # fmt: skip
    return [-each for each in nats.tolist()]


def aligned(logprobs_SV: Tensor, text: Sequence[int], blank: int) -> list[tuple[int, int]]:
    """First and one behind the last place of every token of a text on its most probable path (Viterbi).

    Raises:
        ValueError: the sound has too few places for it.
    """
    if not text:
        return []
    states = [blank]
    for token in text:
        states += [token, blank]
    scores_SN = logprobs_SV[:, states].double().cpu().numpy()
    n_places, n_states = scores_SN.shape
    may_skip = np.array(
        [state >= 3 and state % 2 == 1 and states[state] != states[state - 2] for state in range(n_states)]
    )
    best = np.full(n_states, -np.inf)
    best[:2] = scores_SN[0, :2]
    came = np.zeros((n_places, n_states), np.int8)
    for place in range(1, n_places):
        one = np.concatenate(([-np.inf], best[:-1]))
        two = np.where(may_skip, np.concatenate(([-np.inf, -np.inf], best[:-2])), -np.inf)
        ways = np.stack((best, one, two))
        came[place] = ways.argmax(0)
        best = ways.max(0) + scores_SN[place]
    state = n_states - 1 if best[-1] >= best[-2] else n_states - 2
    if best[state] == -np.inf:
        raise ValueError(f"{len(text)} tokens do not fit into {n_places} places of sound")
    path = [state]
    for place in range(n_places - 1, 0, -1):
        state -= int(came[place, state])
        path.append(state)
    path.reverse()
    spans: list[tuple[int, int]] = []
    for number in range(len(text)):
        its = [place for place, each in enumerate(path) if each == 2 * number + 1]
        spans.append((its[0], its[-1] + 1))
    return spans

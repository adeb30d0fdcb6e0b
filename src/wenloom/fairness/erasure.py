"""Erasing a concept from what a model's output matrix reads, by its weights alone.

LEACE (Belrose et al. 2023, theorem 4.3) is the smallest affine change x' = x - W^+ P W (x - μ) after which no linear reader finds the
concept: W whitens x, P projects on what of the whitened x goes with the concept. Without μ, and with second moments about zero in place
of the covariance, it is the smallest linear change. As the output matrix U is such a reader, U x' = (U - U W^+ P W) x: the erasure of
the last, normalised state is merged into it exactly, and the folder needs nothing new to run. (Merged into all that is written into
the stream it would hold at every depth; that costs SmolLM2-135M 2.9 bits per byte.)
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from wenloom.core.errors import InputError
from wenloom.evaluation.likelihood import tokens_before
from wenloom.model.build import build
from wenloom.model.config import reshaped
from wenloom.model.decoder import Decoder
from wenloom.model.quantize import require_unquantized
from wenloom.text.group_axis import GroupAxis
from wenloom.tokens.tokenizer import TextTokenizer

_TOLERANCE = 0.01
"""Of the greatest singular value: directions below it count as none (as in concept-erasure)."""
_BATCH_TOKENS = 4096
_MOST_TOKENS = 256
_RIDGE = 1e-3
_WORDS_PER_NUMBER = 4
MOST_WORDS_PER_NUMBER = 12
"""More words change a covariance little."""


class Eraser(NamedTuple):
    """x' = x - left (right (x - center))."""

    left_DK: Tensor
    right_KD: Tensor
    center_D: Tensor

    def __call__(self, x_ND: Tensor) -> Tensor:
        """Vectors without the concept."""
        return x_ND - ((x_ND - self.center_D) @ self.right_KD.T) @ self.left_DK.T


class LeaceFitter:
    """Gathers means and covariances of vectors and concept, batch by batch, in float64.

    Args:
        d: width of the vectors.
        k: numbers that say what the concept is.
        affine: whether the change may move the mean back to where it was; else it is linear, and can be merged into a matrix
            without a bias.
    """

    def __init__(self, d: int, k: int, affine: bool = True):
        self.n, self._affine = 0, affine
        self._mean_x, self._mean_z = torch.zeros(d, dtype=torch.float64), torch.zeros(k, dtype=torch.float64)
        self._xx, self._xz = torch.zeros(d, d, dtype=torch.float64), torch.zeros(d, k, dtype=torch.float64)

    def update(self, x_ND: Tensor, z_NK: Tensor) -> None:
        """Take in more vectors (Welford 1962, for batches)."""
        x_ND, z_NK = x_ND.double().cpu(), z_NK.double().cpu()
        self.n += len(x_ND)
        from_x, from_z = x_ND - self._mean_x, z_NK - self._mean_z
        self._mean_x += from_x.sum(0) / self.n
        self._mean_z += from_z.sum(0) / self.n
        self._xx += from_x.T @ (x_ND - self._mean_x)
        self._xz += from_x.T @ (z_NK - self._mean_z)

    def eraser(self) -> Eraser:
        """
        Raises:
            InputError: fewer than two vectors.
        """
        if self.n < 2:
            raise InputError("a concept is erased from two vectors on.")
        spread_DD = (self._xx + self._xx.T) / (2 * self.n)
        if not self._affine:
            spread_DD = spread_DD + torch.outer(self._mean_x, self._mean_x)
        values_D, vectors_DD = torch.linalg.eigh(spread_DD)
        is_there_D = values_D > values_D.max() * len(values_D) * torch.finfo(torch.float64).eps
        roots_D = torch.where(is_there_D, values_D.clamp(min=0).sqrt(), 0.0)
        inverse_D = torch.where(is_there_D, 1 / roots_D.clamp(min=1e-300), 0.0)
        whiten_DD = vectors_DD @ (inverse_D[:, None] * vectors_DD.T)
        color_DD = vectors_DD @ (roots_D[:, None] * vectors_DD.T)
        u_DK, size_K, _ = torch.linalg.svd(whiten_DD @ (self._xz / self.n), full_matrices=False)
        u_DK = u_DK[:, size_K > _TOLERANCE * size_K.max()] if size_K.max() > 0 else u_DK[:, :0]
        center_D = self._mean_x.clone() if self._affine else torch.zeros_like(self._mean_x)
        return Eraser(color_DD @ u_DK, u_DK.T @ whiten_DD, center_D)


class ConceptRow(NamedTuple):
    """Tokens of a text, and the places from which a word of a group is foretold."""

    tokens: list[int]
    places: list[int]
    sides: list[int]


def concept_rows(
    tokenizer: TextTokenizer, axis: GroupAxis, texts: Iterable[str], context: int = _MOST_TOKENS
) -> list[ConceptRow]:
    """Texts in which words of a group stand, each marked at the token before it.

    Args:
        context: tokens that the model takes; of a longer text the beginning is read.
    """
    opening = tokens_before(tokenizer, is_empty=True)
    rows = []
    for text in texts:
        found = list(axis.found(text))
        if not found:
            continue
        encoding = tokenizer.encoding(text, False)
        tokens, places, sides = [*opening, *encoding.ids][: min(context, _MOST_TOKENS)], list[int](), list[int]()
        for each in found:
            of_word = [n for n, (begin, end) in enumerate(encoding.offsets) if begin < each.end and end > each.begin]
            if not of_word:
                continue
            place = len(opening) + of_word[0] - 1
            if 0 <= place < len(tokens):
                places.append(place)
                sides.append(each.side)
        if places:
            rows.append(ConceptRow(tokens, places, sides))
    return rows


@torch.no_grad()
def states(decoder: Decoder, rows: Sequence[ConceptRow]) -> Iterator[tuple[Tensor, Tensor]]:
    """What the output matrix reads at the marked places, (n, D), and the sides of the words that follow, (n,); batch by batch."""
    device = decoder.embed.weight.device
    order = sorted(range(len(rows)), key=lambda n: len(rows[n].tokens))
    begin = 0
    while begin < len(order):
        end = begin + 1
        while end < len(order) and len(rows[order[end]].tokens) * (end + 1 - begin) <= _BATCH_TOKENS:
            end += 1
        part = [rows[n] for n in order[begin:end]]
        longest = max(len(each.tokens) for each in part)
        tokens_BT = torch.tensor([each.tokens + [0] * (longest - len(each.tokens)) for each in part], device=device)
        hidden_BTD = decoder.hidden(tokens_BT)
        chosen = [(n, at) for n, each in enumerate(part) for at in each.places]
        rows_N, places_N = (torch.tensor(each, device=device) for each in zip(*chosen, strict=True))
        yield hidden_BTD[rows_N, places_N].float(), torch.tensor([side for each in part for side in each.sides])
        begin = end


class Probe(NamedTuple):
    """How well a linear reader tells the groups apart on texts that it has not seen."""

    accuracy: float
    chance: float
    """The share of the more frequent group."""


def linear_probe(x_ND: Tensor, sides_N: Tensor, held_ND: Tensor, held_N: Tensor) -> Probe:
    """Logistic regression with a little ridge, on standardised vectors."""
    x_ND, held_ND = x_ND.double().cpu(), held_ND.double().cpu()
    mean_D, deviation_D = x_ND.mean(0), x_ND.std(0).clamp(min=1e-9)
    x_ND, held_ND = (x_ND - mean_D) / deviation_D, (held_ND - mean_D) / deviation_D
    weight_D, bias = torch.zeros(x_ND.shape[1], dtype=torch.float64, requires_grad=True), torch.zeros((), dtype=torch.float64, requires_grad=True)  # fmt: skip
    optimizer = torch.optim.LBFGS([weight_D, bias], max_iter=200, line_search_fn="strong_wolfe")
    target_N = sides_N.double()

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = nn.functional.binary_cross_entropy_with_logits(x_ND @ weight_D + bias, target_N)
        loss = loss + _RIDGE * (weight_D**2).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    with torch.no_grad():
        guessed_N = (held_ND @ weight_D + bias > 0).long()
    share = float(held_N.double().mean())
    return Probe(float((guessed_N == held_N).double().mean()), max(share, 1 - share))


def erased(decoder: Decoder, eraser: Eraser) -> Decoder:
    """The model whose output matrix reads only what the eraser leaves; output matrix and embedding part ways.

    Args:
        eraser: a linear one.

    Raises:
        InputError: a model without an output matrix for tokens, or with quantized weights.
    """
    config = decoder.config
    if config.encoder is not None or config.labels:
        raise InputError("erasing is for models that continue their prompt: decoders without an encoder or classes.")
    require_unquantized(decoder, "erasing a concept")
    state = dict(decoder.state_dict())
    left_DK, right_KD = (each.to(decoder.embed.weight.device) for each in (eraser.left_DK, eraser.right_KD))
    output_VD = decoder.output_weight.detach()
    state["head.weight"] = (output_VD.double() - output_VD.double() @ left_DK @ right_KD).to(output_VD.dtype)
    made = build(reshaped(config, logits={"tied": False}))
    assert isinstance(made, Decoder)
    made = made.to(output_VD.dtype).to(output_VD.device)
    made.load_state_dict(state)
    return made.eval()


@dataclass(frozen=True)
class Erasure:
    """A model without a concept, and how well it could be read before and after."""

    decoder: Decoder
    before: Probe
    after: Probe
    n_words: int
    n_directions: int
    """Directions of the state that were erased: none where nothing in it goes with the concept."""

    @property
    def what_is_lacking(self) -> str:
        """Why little or nothing was erased; empty where something was."""
        if not self.n_directions:
            return "nothing was erased: no direction of the state goes with the groups"
        if self.before.accuracy <= self.before.chance:
            return "the reader was no better before: what was erased is nothing that it could read"
        if self.after.accuracy >= self.before.accuracy:
            return "nothing that the reader could read was erased: more text that speaks of people may tell more"
        return ""


def divided(rows: Sequence[ConceptRow], d_model: int) -> tuple[list[ConceptRow], list[ConceptRow]]:
    """The rows that are held out, a quarter, drawn, and those that are learned from.

    Raises:
        InputError: too few words of the groups for so wide a state.
    """
    order = np.random.default_rng(0).permutation(len(rows))
    held, learned = ([rows[place] for place in each] for each in np.split(order, [len(rows) // 4]))
    n_words, least = sum(len(each.sides) for each in rows), _WORDS_PER_NUMBER * d_model
    if n_words < least or min(_count(part, side) for part in (learned, held) for side in (0, 1)) < 2:
        raise InputError(
            f"the texts have {n_words:,} places where a word of the two groups comes next; to erase the groups from a state of "
            f"{d_model:,} numbers takes {least:,} of them, of both groups: name more text that speaks of people with --data."
        )
    return held, learned


def erase(decoder: Decoder, rows: Sequence[ConceptRow], on_rows: Callable[[int], None] = lambda n: None) -> Erasure:
    """Erase from what the output matrix reads whether a word of the one group follows or of the other.

    Args:
        rows: a quarter of them, drawn, are held out for the probe.
        on_rows: told how many words were read.

    Raises:
        InputError: see `erased`; fewer than four words for each number of the state, which would leave the concept in other texts.
    """
    d = decoder.config.d_model
    held, learned = divided(rows, d)
    read = []
    for part in (learned, held):
        found = []
        for x_ND, sides_N in states(decoder, part):
            found.append((x_ND, sides_N))
            on_rows(len(x_ND))
        read.append(tuple(torch.cat(each) for each in zip(*found, strict=True)))
    (x_ND, sides_N), (held_ND, held_N) = read
    fitter = LeaceFitter(d, 1, affine=False)
    fitter.update(x_ND, sides_N[:, None])
    eraser = fitter.eraser()
    before = linear_probe(x_ND, sides_N, held_ND, held_N)
    after = linear_probe(eraser(x_ND.double()), sides_N, eraser(held_ND.double()), held_N)
    n_words, n_directions = sum(len(each.sides) for each in rows), eraser.left_DK.shape[1]
    return Erasure(erased(decoder, eraser), before, after, n_words, n_directions)


def _count(rows: Sequence[ConceptRow], side: int) -> int:
    return sum(each.sides.count(side) for each in rows)

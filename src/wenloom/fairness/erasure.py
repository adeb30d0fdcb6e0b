"""Erasing a concept from a model's residual stream, by weights alone.

LEACE (Belrose et al. 2023, theorem 4.3) is the smallest affine change x' = x - W^+ P W (x - μ) after which no linear reader finds the
concept: W whitens x, P projects on what of the whitened x goes with the concept. In a pre-norm decoder the stream is the sum of what
embeddings, attention and feed-forward layers write, so a linear change of all that is written is one of the stream: it is merged into
the output matrices exactly, and the folder needs nothing new to run. The stream of the changed model is another one; the erasure is
fitted again until a linear probe is at chance.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from wenloom.core.errors import InputError
from wenloom.evaluation.likelihood import tokens_before
from wenloom.model.block import Block
from wenloom.model.build import build
from wenloom.model.decoder import Decoder
from wenloom.model.experts import MixtureOfExperts
from wenloom.model.feedforward import FeedForward
from wenloom.model.quantize import require_unquantized
from wenloom.model.taps import Taps
from wenloom.text.lexicon import GroupAxis
from wenloom.tokens.tokenizer import TextTokenizer

_TOLERANCE = 0.01
"""Of the greatest singular value: directions below it count as none (as in concept-erasure)."""
_BATCH_TOKENS = 4096
_MOST_TOKENS = 256
_RIDGE = 1e-3
_ROUNDS = 8
_AT_CHANCE = 0.01


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
    """

    def __init__(self, d: int, k: int):
        self.n = 0
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
        values_D, vectors_DD = torch.linalg.eigh((self._xx + self._xx.T) / (2 * self.n))
        is_there_D = values_D > values_D.max() * len(values_D) * torch.finfo(torch.float64).eps
        roots_D = torch.where(is_there_D, values_D.clamp(min=0).sqrt(), 0.0)
        inverse_D = torch.where(is_there_D, 1 / roots_D.clamp(min=1e-300), 0.0)
        whiten_DD = vectors_DD @ (inverse_D[:, None] * vectors_DD.T)
        color_DD = vectors_DD @ (roots_D[:, None] * vectors_DD.T)
        u_DK, size_K, _ = torch.linalg.svd(whiten_DD @ (self._xz / self.n), full_matrices=False)
        u_DK = u_DK[:, size_K > _TOLERANCE * size_K.max()] if size_K.max() > 0 else u_DK[:, :0]
        return Eraser(color_DD @ u_DK, u_DK.T @ whiten_DD, self._mean_x.clone())


class ConceptRow(NamedTuple):
    """Tokens of a text, and where in it words of a group stand."""

    tokens: list[int]
    places: list[int]
    sides: list[int]


def concept_rows(
    tokenizer: TextTokenizer, axis: GroupAxis, texts: Sequence[str], before: bool = False
) -> list[ConceptRow]:
    """Texts in which words of a group stand.

    Args:
        before: mark the token before each word, from which it is foretold, instead of the word's last one.
    """
    opening = tokens_before(tokenizer, is_empty=True)
    rows = []
    for text in texts:
        found = list(axis.found(text))
        if not found:
            continue
        encoding = tokenizer.encoding(text, False)
        tokens, places, sides = [*opening, *encoding.ids][:_MOST_TOKENS], list[int](), list[int]()
        for each in found:
            of_word = [n for n, (begin, end) in enumerate(encoding.offsets) if begin < each.end and end > each.begin]
            if not of_word:
                continue
            place = len(opening) + (of_word[0] - 1 if before else of_word[-1])
            if 0 <= place < len(tokens):
                places.append(place)
                sides.append(each.side)
        if places:
            rows.append(ConceptRow(tokens, places, sides))
    return rows


@torch.no_grad()
def streams(decoder: Decoder, rows: Sequence[ConceptRow], layer: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The residual stream after a block at the places of a group's words, (n, D), and their sides, (n,); batch by batch."""
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
        read_BTD = _stream_after(decoder, tokens_BT, f"blocks.{layer}.resid_post")
        chosen = [(n, at) for n, each in enumerate(part) for at in each.places]
        rows_N, places_N = (torch.tensor(each, device=device) for each in zip(*chosen, strict=True))
        yield read_BTD[rows_N, places_N], torch.tensor([side for each in part for side in each.sides])
        begin = end


class _FoundError(Exception):
    """Ends a forward pass where what was asked for is known."""


def _stream_after(decoder: Decoder, tokens_BT: Tensor, place: str) -> Tensor:
    found: list[Tensor] = []

    def tap(x_BTD: Tensor) -> None:
        found.append(x_BTD)
        raise _FoundError

    with contextlib.suppress(_FoundError):
        decoder.hidden(tokens_BT, taps=Taps({place: tap}, decoder.places))
    return found[0]


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
    """The model whose every layer writes what is left of its part of the stream; output matrix and embedding part ways.

    Raises:
        InputError: a model whose stream is not the plain sum of what its layers write.
    """
    config = decoder.config
    if config.norm_place != "pre" or config.embedding_norm or config.positions in ("sinusoidal", "fairseq_sinusoidal"):
        raise InputError(
            "erasing is merged into the weights of decoders that normalise what a layer reads, not what it writes (llama, "
            f"gpt2, gpt_neox, qwen3, ...); {config.family} normalises otherwise."
        )
    if config.encoder is not None or config.labels:
        raise InputError("erasing is for models that go on with their prompt: decoders without an encoder or classes.")
    require_unquantized(decoder, "erasing a concept")
    state = {name: each.clone() for name, each in decoder.state_dict().items()}
    if config.tie_embeddings:
        state["head.weight"] = decoder.embed.weight.detach().clone()
    made = build(replace(config, tie_embeddings=False))
    assert isinstance(made, Decoder)
    made = made.to(decoder.embed.weight.dtype).to(decoder.embed.weight.device)
    made.load_state_dict(state)
    left_DK, right_KD, center_D = (each.to(decoder.embed.weight.device) for each in eraser)

    def without(written: Tensor) -> Tensor:
        """Of vectors (..., D)."""
        return (written.double() - written.double() @ right_KD.T @ left_DK.T).to(written.dtype)

    scale = config.embedding_multiplier * (config.d_model**0.5 if config.scale_embedding else 1.0)
    with torch.no_grad():
        constant_D = (left_DK @ (right_KD @ center_D)) / scale
        made.embed.weight.copy_((without(made.embed.weight).double() + constant_D).to(made.embed.weight.dtype))
        for table in (made.positions, made.token_types):
            if isinstance(table, nn.Embedding):
                table.weight.copy_(without(table.weight))
        for layer in _writers(made):
            layer.weight.copy_(without(layer.weight.T).T)
            if layer.bias is not None:
                layer.bias.copy_(without(layer.bias))
    return made.eval()


def _writers(decoder: Decoder) -> Iterator[nn.Linear]:
    for block in decoder.blocks:
        assert isinstance(block, Block)
        yield block.attention.output
        if isinstance(block.mlp, MixtureOfExperts):
            for expert in block.mlp.experts:
                assert isinstance(expert, FeedForward)
                yield expert.down
        else:
            yield block.mlp.down


@dataclass(frozen=True)
class Erasure:
    """A model without a concept, and how well it could be read before and after."""

    decoder: Decoder
    layer: int
    before: Probe
    after: Probe
    rounds: int
    n_words: int


def erase(
    decoder: Decoder, rows: Sequence[ConceptRow], layer: int, on_round: Callable[[int], None] = lambda n: None
) -> Erasure:
    """Erase which group a text speaks of, until a linear probe after a block is at chance (within 1 %) or eight rounds are over.

    Args:
        rows: half of them, drawn, are held out for the probe.

    Raises:
        InputError: see `erased`; too few words of either group.
    """
    sides = [side for each in rows for side in each.sides]
    if min(sides.count(0), sides.count(1)) < 20 or len(rows) < 4:
        raise InputError(
            f"the texts have {sides.count(0):,} and {sides.count(1):,} words of the two groups; a concept is erased from 20 of "
            "each on, in different texts: name more text with --data."
        )
    order = np.random.default_rng(0).permutation(len(rows))
    learned, held = ([rows[place] for place in each] for each in np.array_split(order, 2))
    before, probe, round_ = None, Probe(1.0, 0.5), 0
    while True:
        x_ND, sides_N = (torch.cat(each) for each in zip(*streams(decoder, learned, layer), strict=True))
        held_ND, held_N = (torch.cat(each) for each in zip(*streams(decoder, held, layer), strict=True))
        probe = linear_probe(x_ND, sides_N, held_ND, held_N)
        before = before or probe
        if probe.accuracy <= probe.chance + _AT_CHANCE or round_ == _ROUNDS:
            return Erasure(decoder, layer, before, probe, round_, len(sides))
        fitter = LeaceFitter(x_ND.shape[1], 1)
        for x, side in ((x_ND, sides_N), (held_ND, held_N)):
            fitter.update(x, side[:, None])
        decoder, round_ = erased(decoder, fitter.eraser()), round_ + 1
        on_round(1)

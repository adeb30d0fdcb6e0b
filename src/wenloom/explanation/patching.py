"""Activation patching: where, between a clean and a corrupted prompt, what decides the answer is carried (Meng et al. 2022, as
causal tracing; Zhang & Nanda 2024 compare the variants).

Two prompts of equally many tokens differ in what matters ("When Mary and John ..." and "When Mary and Anna ..."). One of them
is run; at one place what flowed in the other one is put. How far the answer moves towards the other's is the effect of the place.
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
from wenloom.explanation.interventions import has_heads
from wenloom.explanation.subject import Subject, WithDecoder, subject_of
from wenloom.explanation.trace import Trace
from wenloom.model.encoder_decoder import EncoderDecoder
from wenloom.model.quantize import require_unquantized
from wenloom.model.taps import Tap, Taps

Site = Literal["resid_pre", "attention.out", "mlp.out", "attention.heads", "cross.heads"]
SITES: tuple[Site, ...] = get_args(Site)
Direction = Literal["denoise", "noise"]
_BATCH_TOKENS = 1024


@dataclass(frozen=True)
class PatchingMap:
    """The effect of every place of one kind."""

    site: Site
    direction: Direction
    effects: Tensor
    """Shape (layers, tokens), of heads (layers, heads), float64: 0 where nothing moves, 1 where the answer becomes the other
    prompt's, less than 0 or more than 1 where it moves away or beyond."""
    tokens: list[str]
    """Of the prompt that was run; of a model with two stacks, of the source."""
    clean: float
    """log P(target) - log P(against) after the clean prompt, nats; without an `against` log P(target)."""
    corrupted: float
    """The same after the corrupted prompt."""
    is_estimate: bool
    """Whether effects come from one gradient."""


def patching(
    model: Subject | WithDecoder | str | Path,
    clean: str,
    corrupted: str,
    target: Answer,
    against: Answer | None = None,
    site: Site = "resid_pre",
    direction: Direction = "denoise",
    estimate: bool = False,
    on_pass: Callable[[int], None] = lambda n: None,
) -> PatchingMap:
    """The effect of every place between two prompts.

    Args:
        model: a folder, a hub model, what `wenloom.load` gives, or an `explanation.subject.Subject`. Of a model with an encoder and
            a decoder the prompts are sources, and places are the encoder's, but for `cross.heads`.
        target, against: the clean prompt's answer, and the corrupted one's, as in `explanation.attribution.attribute`.
        site: what is exchanged: the residual stream before a block, what attention or the feed-forward layer adds to it,
            each at one token; or what a head has gathered, at all tokens, from them or (cross.heads) from the encoded source.
        direction: denoise runs the corrupted prompt and puts in what flowed in the clean one: what suffices for the answer.
            noise does the opposite: what is needed for it.
        estimate: attribution patching (Nanda 2023): the gradient at the place times the exchange, for all places in one
            pass. `agreement` says how near that comes.
        on_pass: told how many places were tried.

    Raises:
        InputError: prompts of unequally many tokens, or that give the same answer; see also `inquiry.ask`; quantized weights
            for an estimate.
    """
    if site not in SITES or direction not in get_args(Direction):
        raise InputError(f"site {site!r}, {direction!r}: known are {', '.join(SITES)}; denoise, noise.")
    subject = subject_of(model)
    if site == "cross.heads" and not subject.prefix:
        raise InputError(
            "site cross.heads: this model has one stack, whose heads attend to no other; attention.heads are they."
        )
    run, other, gap, values = compared(subject, clean, corrupted, target, against, direction)
    if estimate:
        require_unquantized(subject.model, "attribution patching needs gradients")
    moved = [
        (_estimated if estimate else _patched)(run, one, two, site, on_pass)
        for one, two in zip(run.rows, other.rows, strict=True)
    ]
    ids = prompt_of(run.rows[0]).tolist()
    effects = torch.stack(moved).sum(0).cpu() / gap
    return PatchingMap(site, direction, effects, [subject.piece(x) for x in ids], values[0], values[1], estimate)


def compared(
    subject: Subject, clean: str, corrupted: str, target: Answer, against: Answer | None, direction: Direction
) -> tuple[Inquiry, Inquiry, float, tuple[float, float]]:
    """Two prompts between which is patched: the one that is run, the other, how far its answer is away (nats), and the values of
    the clean and of the corrupted one.

    Raises:
        InputError: prompts of unequally many tokens, or that give the same answer; see also `inquiry.ask`.
    """
    pair = [ask(subject, text, target, against) for text in (clean, corrupted)]
    shapes = [[row.reading.tokens.shape[1] for row in each.rows] for each in pair]
    lengths = [len(prompt_of(each.rows[0])) for each in pair]
    if shapes[0] != shapes[1] or lengths[0] != lengths[1]:
        raise InputError(
            f"the clean prompt has {lengths[0]} tokens and the corrupted one {lengths[1]}: patching compares token by token, "
            "so choose words with equally many."
        )
    values = _value(pair[0]), _value(pair[1])
    run, other = (pair[1], pair[0]) if direction == "denoise" else (pair[0], pair[1])
    gap = values[0] - values[1] if direction == "denoise" else values[1] - values[0]
    if abs(gap) < 1e-9:
        raise InputError("both prompts give the same answer: there is nothing to trace.")
    return run, other, gap, values


def prompt_of(row: AnswerRow) -> Tensor:
    """The tokens of a prompt, without the answer's; of a model with two stacks, the source's."""
    reading = row.reading
    return reading.tokens[0, : reading.start] if reading.source is None else reading.source[0]


def agreement(one: PatchingMap, other: PatchingMap) -> float:
    """Pearson's correlation of the effects of the same places: 1 where an estimate ranks and scales them as patching does.

    Raises:
        InputError: maps of different places.
    """
    if one.effects.shape != other.effects.shape or one.site != other.site:
        raise InputError("these maps are of different places.")
    return float(np.corrcoef(one.effects.flatten().numpy(), other.effects.flatten().numpy())[0, 1])


@torch.no_grad()
def _value(inquiry: Inquiry) -> float:
    return float(torch.stack([inquiry.value(row, *inquiry.subject.vectors(row.reading)) for row in inquiry.rows]).sum())


def _places(inquiry: Inquiry, row: AnswerRow, site: Site) -> tuple[list[str], int]:
    """Names by layer, and how many places each has: tokens of the prompt, or heads."""
    model, prefix = inquiry.subject.model, ""
    stack = inquiry.subject.stack
    if isinstance(model, EncoderDecoder):
        stack, prefix = (model.decoder, "decoder.") if site == "cross.heads" else (model.encoder, "encoder.")
    names = [f"{prefix}blocks.{layer}.{site}" for layer in range(stack.config.n_layers)]
    return names, stack.config.n_heads if has_heads(site) else len(prompt_of(row))


@torch.no_grad()
def _patched(inquiry: Inquiry, row: AnswerRow, other: AnswerRow, site: Site, on_pass: Callable[[int], None]) -> Tensor:
    """How far a row's value moves by each exchange, shape (layers, places)."""
    names, count = _places(inquiry, row, site)
    flowed = Trace(inquiry.subject, other.reading, names=tuple(names))
    vectors, source = inquiry.subject.vectors(row.reading)
    n_tokens = vectors.shape[1] + (0 if source is None else source.shape[1])
    base, moved = inquiry.value(row, vectors, source), []
    for name in names:
        for part in torch.arange(count).split(max(1, _BATCH_TOKENS // n_tokens)):
            taps = Taps({name: _exchange(flowed[name], part)}, inquiry.subject.model.places)
            many = [None if x is None else x.repeat(len(part), 1, 1) for x in (vectors, source)]
            assert many[0] is not None
            moved.append(inquiry.value(row, many[0], many[1], taps) - base)
            on_pass(len(part))
    return torch.cat(moved).view(len(names), count)


def _exchange(value: Tensor, places: Tensor) -> Tap:
    """In row b of a batch, what stands at place b (a token, or a head) is taken from elsewhere."""
    rows = torch.arange(len(places))

    def tap(x: Tensor) -> Tensor:
        x = x.clone()
        x[rows, places] = value[0, places].to(x.dtype)
        return x

    return tap


def _estimated(
    inquiry: Inquiry, row: AnswerRow, other: AnswerRow, site: Site, on_pass: Callable[[int], None]
) -> Tensor:
    """Σ ∂f/∂x (x of the other row - x), at each place, shape (layers, places)."""
    names, count = _places(inquiry, row, site)
    flowed = Trace(inquiry.subject, other.reading, names=tuple(names))
    _, kept, gradients = inquiry.gradients(row, names)
    on_pass(count * len(names))
    return torch.stack([_by_place(gradient, flowed[name] - kept[name], count)
                        for name, gradient in zip(names, gradients, strict=True)])  # fmt: skip


def _by_place(gradient: Tensor, change: Tensor, count: int) -> Tensor:
    """Sums over all but the second dimension, tokens or heads, which comes first after the batch."""
    return (gradient.double() * change.double())[0].flatten(1).sum(1)[:count]

"""The size dial: from a number of parameters, tokens or minutes to every other number, each by a stated formula.

Measured on 2 CPU cores from 0.8 to 30 million parameters (`docs/experiments.md`); beyond, the formulas follow
the scaling literature named at each.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

from wenloom.core.quantities import parse_count, parse_duration, show_count, show_duration
from wenloom.training.routing import RouterLosses
from wenloom.training.settings import ModelSettings, TrainSettings

_TOKENS_PER_PARAMETER = 20
"""Compute-optimal (Hoffmann et al. 2022, "Training compute-optimal large language models", section 3.4)."""
_DEFAULT_BUDGET = "10min"
_MOST_EPOCHS = 16
"""Text repeated more often teaches next to nothing (Muennighoff et al. 2023, "Scaling data-constrained language
models", section 6: the value of repeated tokens decays with a half-life of about 15 epochs)."""


_STRETCH, _SHORT = 4, 128
"""How far the context exceeds what a model of its size pays for by default, so that it holds documents whole; and the
tokens below which short documents do not bring it, for what is asked of a model later may be longer."""


class Derived(NamedTuple):
    """A number that nobody set, and where it comes from."""

    name: str
    value: str
    formula: str


@dataclass(frozen=True)
class ResolvedSettings:
    """Settings without gaps, and where each came from that nobody set."""

    model: ModelSettings
    training: TrainSettings
    derived: list[Derived]
    tokens: float
    """Tokens of the run, as far as known before timing."""


def resolve_settings(
    model: ModelSettings,
    training: TrainSettings,
    vocab_size: int,
    corpus_tokens: int | None,
    flops_per_second: Callable[[], float],
    document_tokens: int | None = None,
) -> ResolvedSettings:
    """Fill in what `model` and `training` leave open.

    Args:
        corpus_tokens: tokens of the training text; None if there is none yet.
        flops_per_second: what the machine is expected to do in training; asked only where time decides.
        document_tokens: the length that 9 of 10 documents do not exceed; None where nobody knows.
    """
    derived: list[Derived] = []

    def derive(name: str, value: str, formula: str) -> None:
        derived.append(Derived(name, value, formula))

    lengths = (training.budget, training.tokens, training.epochs, training.steps)
    shape_is_open = model.size is None and model.layers is None and model.width is None
    if not any(lengths) and model.size is None:
        training = replace(training, budget=_DEFAULT_BUDGET)

    # how large
    if shape_is_open:
        if training.budget is not None:
            seconds, speed = parse_duration(training.budget, "--budget"), flops_per_second()
            size = _clamped(0.24 * math.sqrt(seconds * speed))
            derive("size", show_count(size), f"0.24 sqrt(C), C = {show_duration(seconds)} x {speed:.2g} FLOP/s")
        elif training.tokens is not None:
            size = _clamped(parse_count(training.tokens, "--tokens") / _TOKENS_PER_PARAMETER)
            derive("size", show_count(size), f"tokens / {_TOKENS_PER_PARAMETER}")
        else:
            size = 1e6
            derive("size", show_count(size), "default where only steps or epochs are given")
        model = replace(model, size=show_count(size).lower())
    if model.size is not None:
        layers, width = shape(parse_count(model.size, "--size"), vocab_size)
        model = replace(model, size=None, layers=layers, width=width)
        derive(
            "shape",
            f"{layers} layer{'s' * (layers > 1)} of width {width}",
            "layers = 4 (N/0.8m)^0.22, 12 layers width² + vocabulary x width = size",
        )
    layers, width = model.layers or 4, model.width or 128
    model = replace(model, layers=layers, width=width)
    size = blocks_parameters(layers, width) + vocab_size * width
    if model.heads is None:
        d_head = 64 if width >= 256 and width % 64 == 0 else 32
        heads = max(1, width // d_head) if width % d_head == 0 else 1
        model = replace(model, heads=heads)
        derive("heads", str(heads), f"width / {d_head}")
    if model.context is None:
        context, formula = 2 ** round(math.log2(128 * (size / 1e6) ** (1 / 3))), "128 (size/1m)^(1/3), a power of two"
        context = max(64, min(4096, context))
        whole = 2 ** math.ceil(math.log2(max(1, document_tokens or 1)))
        if document_tokens and whole <= _STRETCH * context and whole != context:
            context, formula = max(min(_SHORT, context), whole), "a power of two that holds 9 of 10 documents"
        if corpus_tokens:
            context = min(context, max(8, 2 ** int(math.log2(max(8, corpus_tokens // 8)))))
        model = replace(model, context=context)
        derive("context", str(context), formula)

    # how long, as far as it is known before a step is timed
    if not any((training.budget, training.tokens, training.epochs, training.steps)):
        tokens = _TOKENS_PER_PARAMETER * size
        formula = f"{_TOKENS_PER_PARAMETER} x size"
        if corpus_tokens and tokens > _MOST_EPOCHS * corpus_tokens:
            tokens, formula = _MOST_EPOCHS * corpus_tokens, f"{_MOST_EPOCHS} epochs (fewer than {formula})"
        training = replace(training, tokens=str(round(tokens)))
        derive("tokens", show_count(tokens), formula)
    if training.tokens is not None:
        tokens = parse_count(training.tokens, "--tokens")
    elif training.epochs is not None:
        tokens = training.epochs * (corpus_tokens or 0)
    elif training.steps is not None:
        tokens = training.steps * (training.batch or 8) * (model.context or 1)
    else:
        tokens = parse_duration(training.budget or _DEFAULT_BUDGET, "--budget") * flops_per_second() / (6 * size)

    # how
    if training.batch is None:
        wanted = 1024 * math.sqrt(max(tokens, 2e6) / 2e6) / (model.context or 1)
        batch = max(1, 2 ** round(math.log2(max(1.0, wanted))))
        training = replace(training, batch=batch)
        derive("batch", f"{batch} x {model.context} tokens", "1,024 sqrt(tokens/2m), a power of two of sequences")
    if training.optimizer is None:
        training = replace(training, optimizer="muon")
    if training.learning_rate is None:
        muon = training.optimizer == "muon"
        base = 0.005 if muon else 0.003
        rate = base * math.sqrt(128 / width)
        training = replace(training, learning_rate=float(f"{rate:.3g}"))
        derive("learning rate", f"{rate:.3g}", f"{base} sqrt(128 / width), {training.optimizer}")
    if model.dropout is None:
        epochs = tokens / corpus_tokens if corpus_tokens else 0.0
        pressure = epochs * math.sqrt(size / corpus_tokens) if corpus_tokens else 0.0
        dropout = 0.0 if pressure <= 6 else 0.1 if pressure <= 20 else 0.2
        model = replace(model, dropout=dropout)
        derive(
            "dropout",
            str(dropout),
            f"0 up to 6 epochs x sqrt(size / tokens), 0.1 up to 20, then 0.2; here {pressure:.1f}",
        )
    if model.experts is not None:
        defaults = RouterLosses()
        if model.active is None:
            model = replace(model, active=2)
            derive("active", "2", "default, as Mixtral has it")
        if model.balance_loss is None:
            model = replace(model, balance_loss=defaults.balance)
            derive("balance loss", str(defaults.balance), "default, as Switch Transformer has it")
        if model.router_z_loss is None:
            model = replace(model, router_z_loss=defaults.z)
            derive("router z loss", str(defaults.z), "default, as ST-MoE has it")
    return ResolvedSettings(model, training, derived, tokens)


def _clamped(size: float) -> float:
    return min(max(size, 1e5), 1e11)


def blocks_parameters(layers: int, width: int) -> int:
    """Weights of the matrices inside blocks: 4 width² for attention and 8 width² for the feed-forward layer."""
    return 12 * layers * width**2


def shape(size: int, vocab_size: int) -> tuple[int, int]:
    """Layers and width of a model of about `size` parameters, its embedding included.

    Depth grows slowly with size: 4 layers at 0.8m in blocks, 7 at 10m, 11 at 85m, 19 at 1b, as GPT-2 and Llama do.

    >>> shape(1_000_000, 1024), shape(10_000_000, 4096), shape(124_000_000, 50257)
    ((4, 128), (7, 320), (12, 768))
    """
    best, least = (1, 32), math.inf
    for width in range(32, 20_000, 32):
        if width > 128 and width % 64:
            continue
        rest = size - vocab_size * width
        layers = max(1, round(rest / (12 * width**2)))
        ideal = 4 * (blocks_parameters(layers, width) / 0.8e6) ** 0.22
        total = blocks_parameters(layers, width) + vocab_size * width
        error = abs(math.log(layers / ideal)) + 3 * abs(math.log(total / size))
        if error < least:
            best, least = (layers, width), error
        if vocab_size * width > 2 * size:
            break
    return best

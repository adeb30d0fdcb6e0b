"""Neurons of the feed-forward layers: which of them an answer depends on, which tokens each pushes, and in which texts it is most
active (Geva et al. 2021, who read them as keys and values of a memory)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from wenloom.core.errors import InputError
from wenloom.explanation.inquiry import Inquiry
from wenloom.explanation.subject import Subject
from wenloom.explanation.training_text import check_tokenizer
from wenloom.model.block import Block
from wenloom.model.decoder import Decoder
from wenloom.model.feedforward import FeedForward
from wenloom.model.norm import RMSNorm
from wenloom.model.quantize import require_unquantized
from wenloom.model.taps import Taps, keep
from wenloom.tokens.shards import Dataset, TokenStream

SHOWN = 8
"""Neurons that are looked at."""
TOKENS = 2**15
"""Tokens of a corpus that are read for the texts in which neurons are most active."""
_PUSHED, _TEXTS, _BEFORE, _AFTER = 6, 4, 16, 6
_WINDOW, _BATCH_TOKENS = 128, 1024


@dataclass(frozen=True)
class ActiveText:
    """A place of a corpus at which a neuron is more active than in other texts."""

    before: str
    token: str
    after: str
    activation: float


@dataclass(frozen=True)
class Neuron:
    """A neuron at the place where an answer is read."""

    layer: int
    number: int
    activation: float
    """Of `blocks.N.mlp.hidden` there."""
    effect: float
    """What it does for log P of the answer (minus that of the other), nats, to first order: activation times gradient; it counts
    what later blocks make of it."""
    promotes: list[tuple[str, float]]
    """Tokens whose logits it raises most where its activation is 1, before the divisor of the last norm."""
    suppresses: list[tuple[str, float]]
    """Those that it lowers most."""
    texts: list[ActiveText]
    """Where it is most active, one place of a text, those of the sign that its activation has; empty without a corpus."""


def check_neurons(subject: Subject) -> None:
    """
    Raises:
        InputError: see `neurons_of`.
    """
    subject.writer("neurons are read in a decoder that predicts next tokens.")
    if subject.stack.config.mlp.experts is not None:
        raise InputError(
            "neurons are read in models with one feed-forward layer a block; this one has mixtures of experts."
        )
    require_unquantized(subject.model, "what a neuron does is measured with gradients")


def neurons_of(
    inquiry: Inquiry, corpus: Path | None = None, count: int = SHOWN, on_tokens: Callable[[int], None] = lambda n: None
) -> list[Neuron]:
    """The neurons that do most for an answer, at the place where its first token is predicted.

    Args:
        corpus: a prepared corpus of the model's tokens, of whose training text `TOKENS` tokens are read, evenly spread.
        on_tokens: told how many were read.

    Raises:
        InputError: a model that is no decoder of text, quantized weights, or a corpus of another tokenizer.
    """
    subject = inquiry.subject
    check_neurons(subject)
    dataset = None if corpus is None else Dataset.open(corpus)
    if dataset is not None:
        check_tokenizer(subject.tokenizer, dataset)
    names = [f"blocks.{layer}.mlp.hidden" for layer in range(subject.stack.config.n_layers)]
    flowing, slopes = inquiry.at_answer(names)
    active_LF = torch.stack(flowing)
    effects_LF = torch.stack(slopes) * active_LF
    best = effects_LF.abs().flatten().topk(min(count, effects_LF.numel())).indices.tolist()
    chosen = [divmod(each, effects_LF.shape[1]) for each in best]
    signs = [1.0 if active_LF[each] >= 0 else -1.0 for each in chosen]
    texts = (
        [[]] * len(chosen)
        if dataset is None
        else _most_active(subject, chosen, signs, dataset.stream("train"), on_tokens)
    )
    made = []
    for (layer, number), found in zip(chosen, texts, strict=True):
        raised, lowered = pushed_tokens(subject, layer, number)
        active, effect = float(active_LF[layer, number]), float(effects_LF[layer, number])
        made.append(Neuron(layer, number, active, effect, raised, lowered, found))
    return made


@torch.no_grad()
def pushed_tokens(
    subject: Subject, layer: int, number: int, count: int = _PUSHED
) -> tuple[list[tuple[str, float]], list[tuple[str, float]]]:
    """The tokens whose logits a neuron raises most, and those that it lowers most, by what it writes into the stream.

    What it writes goes through the weights of the norms on its way, of which the last one is everywhere, and the output matrix;
    the norms' divisors, which depend on the text, are left out.

    Raises:
        InputError: there is no such neuron.
    """
    stack = subject.stack
    assert isinstance(stack, Decoder)
    config = stack.config
    if not 0 <= layer < config.n_layers or not 0 <= number < config.d_mlp:
        raise InputError(
            f"there is no neuron {number} in block {layer}; there are {config.n_layers} blocks of {config.d_mlp:,}."
        )
    weights = logit_weights(stack, layer, number)
    best = weights.topk(min(count, len(weights)))
    worst = (-weights).topk(min(count, len(weights)))
    return (
        [
            (subject.piece(token), value)
            for token, value in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        ],
        [
            (subject.piece(token), -value)
            for token, value in zip(worst.indices.tolist(), worst.values.tolist(), strict=True)
        ],
    )


@torch.no_grad()
def logit_weights(stack: Decoder, layer: int, number: int) -> Tensor:
    """What a neuron adds to every logit where its activation is 1, as `pushed_tokens`; shape (V,), float64."""
    block = stack.blocks[layer]
    assert isinstance(block, Block) and isinstance(block.mlp, FeedForward)
    unit_2F = torch.zeros(2, stack.config.d_mlp, dtype=stack.embed.weight.dtype, device=stack.embed.weight.device)
    unit_2F[0, number] = 1
    written_2D = block.mlp.down(unit_2F)  # asked as it is, quantized or adapted; the second row is its bias
    written_D = (written_2D[0] - written_2D[1]).double() * block.multiplier
    for norm in (block.mlp_out_norm, block.mlp_norm if block.post_norm else None, stack.final_norm):
        if isinstance(norm, RMSNorm):
            written_D = written_D * norm.weight.double()
        elif isinstance(norm, torch.nn.LayerNorm):
            written_D = (written_D - written_D.mean()) * norm.weight.double()
    return stack.transformed(written_D) @ stack.output_weight.double().T


@torch.no_grad()
def _most_active(
    subject: Subject,
    chosen: Sequence[tuple[int, int]],
    signs: Sequence[float],
    stream: TokenStream,
    on_tokens: Callable[[int], None],
) -> list[list[ActiveText]]:
    """By neuron, the places of the stream where it is most active, one of each window."""
    size = min(_WINDOW, subject.stack.config.context_length, len(stream))
    n_windows = max(1, min(TOKENS, len(stream)) // size)
    starts = [number * (len(stream) - size) // max(1, n_windows - 1) for number in range(n_windows)]
    layers = sorted({layer for layer, _ in chosen})
    peaks, at = [], []
    for part in torch.tensor(starts).split(max(1, _BATCH_TOKENS // size)):
        tokens_BT = torch.stack([torch.from_numpy(stream.window(start, size)) for start in part.tolist()])
        kept: dict[str, Tensor] = {}
        names = {f"blocks.{layer}.mlp.hidden" for layer in layers}
        taps = Taps({name: keep(name, kept) for name in names}, subject.model.places)
        subject.stack.run(subject.stack.token_vectors(tokens_BT.to(subject.stack.embed.weight.device)), taps=taps)
        picked = [
            kept[f"blocks.{layer}.mlp.hidden"][..., number] * sign
            for (layer, number), sign in zip(chosen, signs, strict=True)
        ]
        best = torch.stack(picked).max(-1)
        peaks.append(best.values.float().cpu())
        at.append(best.indices.cpu())
        on_tokens(tokens_BT.numel())
    peaks_NW, at_NW = torch.cat(peaks, 1), torch.cat(at, 1)
    found: list[list[ActiveText]] = []
    for neuron, sign in enumerate(signs):
        top = peaks_NW[neuron].topk(min(_TEXTS, n_windows))
        found.append([
            _text_at(subject, stream, starts[window], size, int(at_NW[neuron, window]), sign * value)
            for window, value in zip(top.indices.tolist(), top.values.tolist(), strict=True)
        ])  # fmt: skip
    return found


def _text_at(subject: Subject, stream: TokenStream, start: int, size: int, at: int, activation: float) -> ActiveText:
    tokens = stream.window(start, size).tolist()
    decode = subject.tokenizer.decode
    before, after = tokens[max(0, at - _BEFORE) : at], tokens[at + 1 : at + 1 + _AFTER]
    return ActiveText(
        decode(before).strip("\ufffd").lstrip("\n"),
        subject.piece(tokens[at]),
        decode(after).strip("\ufffd").rstrip("\n"),
        activation,
    )


def n_tokens_read(corpus: Path) -> int:
    """How many tokens of a corpus `neurons_of` reads, about.

    Raises:
        InputError: the folder holds no corpus.
    """
    return min(TOKENS, Dataset.open(corpus).splits["train"].tokens)

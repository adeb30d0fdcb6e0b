"""Path patching: what one head does through one later head, or directly (Wang et al. 2022, section 3.1; Goldowsky-Dill et al. 2023).

Activation patching of a head counts all that later parts make of it. Here the head's exchange reaches only chosen receivers: all
other heads stay as they were, feed-forward layers between are computed anew. What the receivers read then is put into them in
another run, from which on everything follows.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from wenloom.core.errors import InputError
from wenloom.explanation.inquiry import Answer, AnswerRow, Inquiry
from wenloom.explanation.patching import Direction, compared
from wenloom.explanation.subject import Subject, WithDecoder, subject_of
from wenloom.explanation.trace import Trace
from wenloom.model.taps import Tap, Taps, keep

Part = Literal["query", "key", "value"]


class Receiver(NamedTuple):
    """What a later head reads by."""

    layer: int
    head: int
    """Of a key or value, which several heads may share: the number of these."""
    part: Part


def path_patching(
    model: Subject | WithDecoder | str | Path,
    clean: str,
    corrupted: str,
    target: Answer,
    against: Answer | None = None,
    *,
    sender: tuple[int, int],
    receivers: Sequence[Receiver | Literal["logits"]] = ("logits",),
    direction: Direction = "noise",
) -> float:
    """How far the answer moves towards that of the other prompt when a head is exchanged, as far as that reaches the receivers
    directly; 0: not at all, 1: all the way.

    Args:
        model, clean, corrupted, target, against, direction: as in `patching`.
        sender: block and head whose output is exchanged, at all tokens.
        receivers: queries, keys and values of heads in later blocks, whose consequences all count; "logits" is the direct way to
            the answer. With both, heads that are no receivers stay as they were.

    Raises:
        InputError: no receivers, a head that does not exist or does not come after the sender; a model with two stacks; see also
            `patching`.
    """
    subject = subject_of(model)
    if subject.prefix:
        raise InputError("path patching follows one stack of blocks; this model has an encoder and a decoder.")
    run, other, gap, _ = compared(subject, clean, corrupted, target, against, direction)
    _check(subject, sender, receivers)
    pairs = zip(run.rows, other.rows, strict=True)
    return sum(path_effect(run, row, there, sender, receivers) for row, there in pairs) / gap


@torch.no_grad()
def path_effect(
    inquiry: Inquiry,
    row: AnswerRow,
    other: AnswerRow,
    sender: tuple[int, int],
    receivers: Sequence[Receiver | Literal["logits"]],
) -> float:
    """How far a row's log-probability moves, nats, when a head takes what it gathers in another row of as many tokens."""
    subject, config = inquiry.subject, inquiry.subject.stack.config
    names = [f"blocks.{layer}.attention.heads" for layer in range(config.n_layers)]
    own = Trace(subject, row.reading, names=tuple(names))
    theirs = Trace(subject, other.reading, names=(names[sender[0]],))
    vectors = subject.vectors(row.reading)[0]
    base = float(inquiry.value(row, vectors))
    still = {name: _put(own[name]) for name in names}
    exchanged = own[names[sender[0]]].clone()
    exchanged[:, sender[1]] = theirs[names[sender[0]]][:, sender[1]]
    still[names[sender[0]]] = _put(exchanged)
    reached = [each for each in receivers if isinstance(each, Receiver)]
    read: dict[str, Tensor] = {}
    places = {f"blocks.{each.layer}.attention.{each.part}" for each in reached}
    keeping = {place: keep(place, read) for place in places}
    value = float(inquiry.value(row, vectors, taps=Taps({**still, **keeping}, subject.model.places)))
    if not reached:
        return value - base
    functions: dict[str, Tap] = {
        place: _put(
            read[place], [each.head for each in reached if place == f"blocks.{each.layer}.attention.{each.part}"]
        )
        for place in places
    }
    if "logits" in receivers:
        for layer, name in enumerate(names):
            free = {
                head
                for each in reached
                if each.layer == layer
                for head in _heads(config.n_heads, config.n_kv_heads, each)
            }
            kept = exchanged if layer == sender[0] else own[name]
            functions[name] = _put(kept, [head for head in range(config.n_heads) if head not in free])
    return float(inquiry.value(row, vectors, taps=Taps(functions, subject.model.places))) - base


def _check(subject: Subject, sender: tuple[int, int], receivers: Sequence[Receiver | Literal["logits"]]) -> None:
    config = subject.stack.config
    heads = {"query": config.n_heads, "key": config.n_kv_heads, "value": config.n_kv_heads}
    if not (0 <= sender[0] < config.n_layers and 0 <= sender[1] < config.n_heads):
        raise InputError(f"sender {sender}: there are {config.n_layers} blocks of {config.n_heads} heads.")
    if not receivers:
        raise InputError('name at least one receiver: "logits", or a Receiver(block, head, part).')
    for each in receivers:
        if each == "logits":
            continue
        if not isinstance(each, Receiver) or each.part not in heads:
            raise InputError(
                f'receiver {each!r}: is neither "logits" nor a Receiver(block, head, query, key or value).'
            )
        if not (sender[0] < each.layer < config.n_layers and 0 <= each.head < heads[each.part]):
            raise InputError(
                f"receiver {tuple(each)}: must be in a block after {sender[0]} and before {config.n_layers}, and one of "
                f"{heads[each.part]} heads."
            )


def _heads(n_heads: int, n_kv_heads: int, receiver: Receiver) -> list[int]:
    """The heads that read by a receiver."""
    if receiver.part == "query":
        return [receiver.head]
    shared = n_heads // n_kv_heads
    return list(range(receiver.head * shared, (receiver.head + 1) * shared))


def _put(value_BHTK: Tensor, heads: Sequence[int] | None = None) -> Tap:
    def tap(x_BHTK: Tensor) -> Tensor:
        if heads is None:
            return value_BHTK.expand_as(x_BHTK)
        changed = x_BHTK.clone()
        changed[:, heads] = value_BHTK[:, heads]
        return changed

    return tap

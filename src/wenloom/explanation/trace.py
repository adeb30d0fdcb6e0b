"""A trace: everything that flows through a model while it reads one text, by name, and what happens when some of it is
replaced."""

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor

from wenloom.core.errors import InputError
from wenloom.explanation.interventions import Ablation, Change, ablated, added, has_heads, patched
from wenloom.explanation.subject import Reading, Subject, WithDecoder, subject_of
from wenloom.model.taps import Tap, Taps


@dataclass(frozen=True)
class Trace(Mapping[str, Tensor]):
    """What flowed at every named place of `model.taps`, for one text.

    Nothing runs before a tensor is asked for; then one forward pass keeps all of them, detached. `patch`, `ablate` and
    `steer` give another trace of the same text with a part replaced; they can follow one another.
    """

    subject: Subject
    reading: Reading
    changes: tuple[Change, ...] = ()
    """What is replaced on the way, in order."""
    names: tuple[str, ...] = field(default=(), repr=False)
    """The places that are kept; none means all."""

    @functools.cached_property
    def _tensors(self) -> dict[str, Tensor]:
        kept: dict[str, Tensor] = {}
        functions = functions_of(self.changes)
        for name in self.names or self.subject.model.places:
            functions[name] = _keeping(name, kept, functions.get(name))
        with torch.no_grad():
            self.subject.forward(*self.subject.vectors(self.reading), Taps(functions, self.subject.model.places))
        return kept

    def __getitem__(self, name: str) -> Tensor:
        """What flowed at a place, shapes as in `model.taps` with B = 1; a replaced part as it flowed on."""
        if name not in self._tensors:
            Taps({name: lambda x: None}, self.subject.model.places)  # says which names are near
            raise InputError(f"this trace kept only {', '.join(self.names)}: not {name!r}.")
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    @property
    def logits(self) -> Tensor:
        """Of the next token after every place (1, T, V), or of classes (1, C)."""
        return self[self.subject.prefix + "logits"]

    @property
    def tokens(self) -> list[str]:
        """The text of every token (the decoder's, where there are two stacks)."""
        return [self.subject.piece(token) for token in self.reading.tokens[0].tolist()]

    @property
    def source_tokens(self) -> list[str]:
        """The text of every token of the source; empty of a model with one stack."""
        return [] if self.reading.source is None else [self.subject.piece(x) for x in self.reading.source[0].tolist()]

    def patch(
        self,
        place: str,
        source: "Trace | Tensor",
        positions: Sequence[int] | None = None,
        heads: Sequence[int] | None = None,
    ) -> "Trace":
        """The same text with what flows at a place taken from elsewhere.

        Args:
            source: another trace, or a tensor of the whole place's shape.
            positions: of tokens (of queries, in a pattern); negative ones count from the end. None: all.
            heads: of places that have heads.

        Raises:
            InputError: an unknown place, another shape, or positions or heads that do not exist.
        """
        return self.with_change(
            patched(place, source[place] if isinstance(source, Trace) else source, positions, heads)
        )

    def ablate(
        self,
        place: str,
        how: Ablation = "zero",
        positions: Sequence[int] | None = None,
        heads: Sequence[int] | None = None,
        reference: "Sequence[Trace]" = (),
        seed: int = 0,
    ) -> "Trace":
        """The same text without what flows at a place.

        Args:
            how: put zeros there, the mean over all tokens of reference texts, or what flowed at tokens of them that are
                drawn at random.
            positions, heads: as in `patch`.
            reference: for mean and resample; without any, this text itself.
            seed: of the draw.

        Raises:
            InputError: see `patch`; mean or resample of a pattern, whose keys are other tokens in other texts.
        """
        known = [each[place] for each in reference or (self,)] if how != "zero" else []
        return self.with_change(ablated(place, how, known, positions, heads, seed))

    def steer(
        self, place: str, direction: Tensor, strength: float = 1.0, positions: Sequence[int] | None = None
    ) -> "Trace":
        """The same text with a vector added to what flows at a place: x + strength * direction.

        Args:
            direction: shape (D,), or what broadcasts to the place's.

        Raises:
            InputError: see `patch`.
        """
        return self.with_change(added(place, direction, strength, positions))

    def with_change(self, change: Change) -> "Trace":
        """The same text with one more change.

        Raises:
            InputError: an unknown place.
        """
        Taps({change.place: change.tap}, self.subject.model.places)
        return replace(self, changes=(*self.changes, change))

    def transformer_lens(self) -> dict[str, Tensor]:
        """The same tensors under the names and in the shapes of TransformerLens' cache (`blocks.0.attn.hook_z` ...).

        Places that have no counterpart there are left out.
        """
        found: dict[str, Tensor] = {}
        for name, tensor in self.items():
            theirs = transformer_lens_name(name, self.subject.stack.config.positions.rope is not None)
            if theirs is not None:
                is_turned = has_heads(name) and not name.endswith("pattern")
                found[theirs] = tensor.transpose(1, 2) if is_turned else tensor
        return found


def trace(
    model: Subject | WithDecoder | str | Path, text: str, continuation: str = "", names: Sequence[str] = ()
) -> Trace:
    """Everything that flows through a model while it reads a text.

    ```python
    seen = wenloom.trace("runs/quickstart", "ROMEO: I am")
    seen["blocks.1.attention.pattern"][0, 3]  # head 3: from every token (row) to every token before it
    seen.ablate("blocks.1.attention.heads", heads=[3]).logits[0, -1]
    ```

    Args:
        model: a folder, a hub model, what `wenloom.load` gives, or an `explanation.subject.Subject`.
        text: of a model with an encoder and a decoder, the source.
        continuation: what follows the text; of such a model, what it writes.
        names: the places to keep; none means all.

    Raises:
        InputError: nothing to read, more than fits, or an unknown name.
        CheckpointError: a folder that holds no model.
    """
    subject = subject_of(model)
    Taps({name: lambda x: None for name in names}, subject.model.places)
    return Trace(subject, subject.read(text, continuation), names=tuple(names))


def functions_of(changes: Sequence[Change]) -> dict[str, Tap]:
    """One function by place, that of several changes there one after the other."""
    found: dict[str, Tap] = {}
    for each in changes:
        found[each.place] = each.tap if each.place not in found else _both(found[each.place], each.tap)
    return found


def _both(first: Tap, second: Tap) -> Tap:
    def tap(x: Tensor) -> Tensor:
        once = first(x)
        once = x if once is None else once
        twice = second(once)
        return once if twice is None else twice

    return tap


def _keeping(name: str, kept: dict[str, Tensor], before: Tap | None) -> Tap:
    def keep(x: Tensor) -> None:
        kept[name] = x.detach()

    return keep if before is None else _both(before, keep)


def transformer_lens_name(name: str, has_rotary: bool) -> str | None:
    """The name of a place in TransformerLens; None where it has no counterpart there.

    >>> transformer_lens_name("blocks.3.attention.heads", False), transformer_lens_name("blocks.3.mlp.out", False)
    ('blocks.3.attn.hook_z', 'blocks.3.hook_mlp_out')
    >>> transformer_lens_name("final_norm", False) is None
    True
    """
    parts = name.split(".", 2)
    if len(parts) < 3 or parts[0] != "blocks" or parts[2] not in _TRANSFORMER_LENS:
        return None
    theirs = _TRANSFORMER_LENS[parts[2]]
    if has_rotary and parts[2] in ("attention.query", "attention.key"):
        theirs = theirs.replace("hook_", "hook_rot_")
    return f"blocks.{parts[1]}.{theirs}"


_TRANSFORMER_LENS = {
    "resid_pre": "hook_resid_pre", "resid_mid": "hook_resid_mid", "resid_post": "hook_resid_post",
    "attention.query": "attn.hook_q", "attention.key": "attn.hook_k", "attention.value": "attn.hook_v",
    "attention.pattern": "attn.hook_pattern", "attention.heads": "attn.hook_z", "attention.out": "hook_attn_out",
    "mlp.in": "mlp.hook_in", "mlp.hidden": "mlp.hook_post", "mlp.out": "hook_mlp_out",
}  # fmt: skip
"""By a place in a block."""

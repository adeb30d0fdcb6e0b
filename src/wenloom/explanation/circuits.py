"""Heads that every model of some size grows: induction, previous-token and duplicate-token heads (Olsson et al. 2022).

They show on random tokens that are read twice: nothing but the repetition can be predicted there. In the second copy, an
induction head looks at the token that came after this one in the first copy, and so can predict the next; a duplicate-token
head looks at this one itself; a previous-token head looks one token back, which induction heads build upon.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from wenloom.core.errors import InputError
from wenloom.core.randomness import generator
from wenloom.evaluation.likelihood import tokens_before
from wenloom.explanation.subject import Subject, WithDecoder, subject_of
from wenloom.model.taps import Tap, Taps

HeadKind = Literal["induction", "previous_token", "duplicate_token"]
HEAD_KINDS: tuple[HeadKind, ...] = get_args(HeadKind)
_LEAST = 4
"""Tokens of a copy."""


@dataclass(frozen=True)
class HeadScores:
    """By head, the part of its attention that goes where such a head looks; shape (layers, heads), from 0 to 1."""

    induction: Tensor
    """From tokens of the second copy to the one after their first occurrence (the prefix-matching score)."""
    previous_token: Tensor
    """From every token to the one before it."""
    duplicate_token: Tensor
    """From tokens of the second copy to their first occurrence."""

    def of(self, kind: HeadKind) -> Tensor:
        """The scores of a kind."""
        return getattr(self, kind)

    def strongest(self, kind: HeadKind) -> tuple[int, int, float]:
        """Layer and number of the head that scores most, and its score."""
        scores = self.of(kind)
        layer, head = divmod(int(scores.argmax()), scores.shape[1])
        return layer, head, float(scores[layer, head])

    def data(self) -> dict[str, Any]:
        """For machines."""
        return {kind: [[round(x, 4) for x in row] for row in scores.tolist()] for kind, scores in asdict(self).items()}


def applies(subject: Subject) -> bool:
    """Whether a model has such heads: it reads tokens one after the other, in one stack."""
    return subject.predicts == "next token" and not subject.prefix


@torch.no_grad()
def head_scores(
    model: Subject | WithDecoder | str | Path, length: int = 50, sequences: int = 8, seed: int = 0
) -> HeadScores:
    """Score every head of a decoder on random tokens that are read twice.

    Args:
        length: tokens of a copy, all of them different; fewer where the model's context or vocabulary has no room.
        sequences: over how many the mean is taken.
        seed: of the draw.

    Raises:
        InputError: a model that is no decoder of text, or has no room for two copies.
    """
    subject = subject_of(model)
    if not applies(subject):
        raise InputError("induction is measured in a decoder that predicts next tokens.")
    before = tokens_before(subject.tokenizer, is_empty=False)
    config, ids = subject.model.config, subject.ordinary_tokens
    n = min(length, (config.context_length - len(before)) // 2, len(ids))
    if n < _LEAST:
        raise InputError(
            f"two copies of {_LEAST} different tokens do not fit into this model's context and vocabulary."
        )
    draw = generator(seed, "repeated tokens")
    copies_BT = torch.tensor(ids)[torch.stack([torch.randperm(len(ids), generator=draw)[:n] for _ in range(sequences)])]
    start_BT = torch.tensor([before] * sequences, dtype=torch.long).view(sequences, len(before))
    rows_BT = torch.cat((start_BT, copies_BT, copies_BT), 1).to(subject.stack.embed.weight.device)
    found: dict[int, list[Tensor]] = {}
    taps = {f"blocks.{layer}.attention.pattern": _scoring(found, layer, n) for layer in range(config.n_layers)}
    subject.forward(subject.stack.token_vectors(rows_BT), taps=Taps(taps, subject.model.places), at=torch.tensor([0]))
    return HeadScores(*(torch.stack([found[layer][place] for layer in range(config.n_layers)]) for place in range(3)))


def _scoring(found: dict[int, list[Tensor]], layer: int, n: int) -> Tap:
    def tap(pattern_BHTS: Tensor) -> None:
        weights = pattern_BHTS.double()
        at = torch.arange(weights.shape[2], device=weights.device)
        second = at[-n:]
        places = ((second, second - n + 1), (at[1:], at[:-1]), (second, second - n))
        found[layer] = [weights[:, :, queries, keys].mean((0, 2)).cpu() for queries, keys in places]

    return tap

"""Which heads a task needs: over many prompts with two answers each, what is lost without a head, and without several at once
(as in the indirect-object circuit, Wang et al. 2022)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from wenloom.core.errors import InputError
from wenloom.explanation.inquiry import Answer, Inquiry, ask
from wenloom.explanation.interventions import ablated
from wenloom.explanation.subject import Subject, WithDecoder, subject_of
from wenloom.explanation.trace import Trace, functions_of
from wenloom.model.quantize import require_unquantized
from wenloom.model.taps import Taps


class Contrast(NamedTuple):
    """A prompt with its right answer and a wrong one."""

    text: str
    target: Answer
    against: Answer


@dataclass(frozen=True)
class HeadStudy:
    """Prompts of one task, what heads gather on them, and what each is worth."""

    subject: Subject
    difference: float
    """Mean of log P(target) - log P(against), nats."""
    losses: Tensor
    """Shape (layers, heads), nats: an estimate of what the difference loses when the head always gathers its mean."""
    means: Tensor
    """What each head gathers, the mean over all tokens of all prompts, shape (layers, heads, K)."""

    def strongest(self, count: int) -> list[tuple[int, int]]:
        """The heads of the largest losses, each as (layer, head)."""
        order = self.losses.flatten().argsort(descending=True)[:count].tolist()
        return [divmod(place, self.losses.shape[1]) for place in order]


def study_heads(model: Subject | WithDecoder | str | Path, contrasts: Sequence[Contrast]) -> HeadStudy:
    """Estimate what every head is worth on a task, with one gradient for each prompt.

    The loss of a head is the gradient of the difference by what it gathers, times the distance of that from its mean: mean
    ablation to first order.

    Args:
        contrasts: prompts of one kind; a dozen is enough to rank heads.

    Raises:
        InputError: no prompts, or a model with two stacks or without next tokens; see also `inquiry.ask`; quantized weights.
    """
    subject = subject_of(model)
    subject.writer("heads are studied in a decoder that predicts next tokens.")
    if not contrasts:
        raise InputError("give at least one prompt to study heads on.")
    require_unquantized(subject.model, "what a head is worth is estimated with gradients")
    names = _names(subject)
    inquiries = [ask(subject, *each) for each in contrasts]
    gathered = [Trace(subject, each.rows[0].reading, names=tuple(names)) for each in inquiries]
    means_LHK = torch.stack([torch.cat([each[name][0] for each in gathered], 1).mean(1) for name in names])
    losses, total = torch.zeros(means_LHK.shape[:2], dtype=torch.float64, device=means_LHK.device), 0.0
    for inquiry in inquiries:
        for row in inquiry.rows:
            value, kept, gradients = inquiry.gradients(row, names)
            total += value
            for layer, (name, gradient_1HTK) in enumerate(zip(names, gradients, strict=True)):
                away_1HTK = kept[name] - means_LHK[layer][None, :, None]
                losses[layer] += (gradient_1HTK * away_1HTK).double().sum((0, 2, 3))
    return HeadStudy(subject, total / len(contrasts), losses / len(contrasts), means_LHK)


@torch.no_grad()
def removed(study: HeadStudy, contrasts: Sequence[Contrast], heads: Sequence[tuple[int, int]]) -> float:
    """The part of the difference that is gone when heads always gather their means, measured on prompts by full runs.

    Args:
        contrasts: best others than those of the study.
        heads: each as (layer, head).

    Raises:
        InputError: see `inquiry.ask`; a head that does not exist.
    """
    subject, names = study.subject, _names(study.subject)
    changes = [
        ablated(names[layer], "mean", [study.means[layer][None, :, None]], None, [head], 0) for layer, head in heads
    ]
    taps = Taps(functions_of(changes), subject.model.places)
    inquiries = [ask(subject, *each) for each in contrasts]
    before, after = (sum(_difference(each, which) for each in inquiries) for which in (None, taps))
    return 1 - after / before


def _difference(inquiry: Inquiry, taps: Taps | None) -> float:
    return sum(float(inquiry.value(row, *inquiry.subject.vectors(row.reading), taps)) for row in inquiry.rows)


def _names(subject: Subject) -> list[str]:
    return [f"blocks.{layer}.attention.heads" for layer in range(subject.stack.config.n_layers)]

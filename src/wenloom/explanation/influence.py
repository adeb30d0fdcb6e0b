"""Which training text made an answer more probable: the gradients of both point the same way (TracIn: Pruthi et al. 2020).

A step of gradient descent on a passage z, of rate η, changes the loss of an answer z' by -η ∇l(z)·∇l(z') to first order. The sum
over the checkpoints that a run has kept is the influence of the passage (their eq. 1, "TracInCP"). Gradients have as many
numbers as the model; so each is folded to some thousand, with random signs, which keeps scalar products on average.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from wenloom.checkpoint.folder import CONFIG, load_model
from wenloom.core.errors import CheckpointError
from wenloom.core.randomness import generator
from wenloom.explanation.inquiry import AnswerRow
from wenloom.explanation.subject import Subject
from wenloom.model.build import Model
from wenloom.training.checkpoints import own_checkpoints, read_state
from wenloom.training.history import read_metrics

FOLDED = 2**16
"""Numbers of a folded gradient: products of two are off by about 1 / 256 of the product of their lengths."""


@dataclass(frozen=True)
class Influence:
    """What a step of training on a passage does to an answer."""

    value: float
    """By how much a plain gradient step on the passage, at each checkpoint with the rate that the run had there, would make log P of
    the answer greater, nats; less than 0: smaller."""
    similarity: float
    """Cosine of the two gradients, from -1 to 1; the mean over checkpoints."""


@dataclass(frozen=True)
class TrainingPoint:
    """A model at a point of its training."""

    folder: Path | None
    """None: the model that is explained itself."""
    rate: float
    """The learning rate there; of a run, the nearest one that it has noted."""


def training_points(run: Path) -> list[TrainingPoint]:
    """The checkpoints that a run has kept, oldest first; without any, or with adapters only, the model itself."""
    rates = [(line["step"], line["learning_rate"]) for line in read_metrics(run) if "learning_rate" in line]
    found = []
    for step, folder in kept_models(run):
        nearest = min(rates, key=lambda pair, step=step: abs(pair[0] - step), default=(0, 1.0))
        found.append(TrainingPoint(folder, nearest[1]))
    return found or [TrainingPoint(None, 1.0)]


def kept_models(run: Path) -> list[tuple[int, Path]]:
    """Step and folder of the kept checkpoints that hold a whole model, oldest first; damaged ones and adapters are left out."""
    found = []
    for folder in own_checkpoints(run):
        if (folder / CONFIG).is_file():
            with suppress(CheckpointError):
                step = read_state(folder).get("step")
                found += [(step, folder)] if isinstance(step, int) else []
    return found


def influences(
    subject: Subject,
    row: AnswerRow,
    passages: Sequence[Sequence[int]],
    points: Sequence[TrainingPoint],
    on_gradient: Callable[[int], None] = lambda n: None,
) -> list[Influence]:
    """How each of some passages has influenced an answer.

    Args:
        subject: a decoder, not quantized.
        row: the answer; what it is compared with is left out.
        passages: tokens of the training text, two at least; the loss is the mean over all but the first.
        on_gradient: told how many gradients were taken.
    """
    values, cosines = torch.zeros(len(passages), dtype=torch.float64), torch.zeros(len(passages), dtype=torch.float64)
    for point in points:
        model = subject.model if point.folder is None else load_model(point.folder, _device(subject)).eval()
        there = Subject(model, subject.tokenizer)
        signs = list(_signs(model))
        mine = folded_gradient(model, _answer_loss(there, row), signs)
        on_gradient(1)
        for number, passage in enumerate(passages):
            theirs = folded_gradient(model, _passage_loss(there, passage), signs)
            product = float(mine @ theirs)
            values[number] += point.rate * product
            cosines[number] += product / max(1e-30, float(mine.norm() * theirs.norm())) / len(points)
            on_gradient(1)
    return [Influence(value, cosine) for value, cosine in zip(values.tolist(), cosines.tolist(), strict=True)]


def _device(subject: Subject) -> str:
    return str(subject.stack.embed.weight.device)


def _answer_loss(subject: Subject, row: AnswerRow) -> Tensor:
    """-log P of what is asked for."""
    own = row.signs > 0
    logits_NV = subject.forward(*subject.vectors(row.reading), at=row.places[own])[0]
    return F.cross_entropy(logits_NV.float(), row.answers[own], reduction="sum")


def _passage_loss(subject: Subject, passage: Sequence[int]) -> Tensor:
    """Nats per token, as in training."""
    tokens = torch.tensor(passage, device=subject.stack.embed.weight.device)
    logits_TV = subject.forward(subject.stack.token_vectors(tokens[None, :-1]))[0]
    return F.cross_entropy(logits_TV.float(), tokens[1:])


def _signs(model: Model) -> Iterator[Tensor]:
    """A sign for every weight, int8; the same for all gradients that are compared."""
    for name, parameter in model.named_parameters():
        drawn = torch.randint(0, 2, (parameter.numel(),), dtype=torch.int8, generator=generator(0, name))
        yield (2 * drawn - 1).to(parameter.device)


def folded_gradient(model: Model, loss: Tensor, signs: Sequence[Tensor], size: int = FOLDED) -> Tensor:
    """The gradient of a loss by all weights, with these signs, folded to `size` numbers; float64.

    Weight i of all goes to number i modulo `size`. Signs are independent of each other, so that the scalar product of two
    folded gradients is that of the gradients, on average over signs.
    """
    parameters = list(model.parameters())
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True)
    total, begin = torch.zeros(size, dtype=torch.float64, device=loss.device), 0
    for gradient, sign in zip(gradients, signs, strict=True):
        if gradient is not None:
            rows = F.pad(gradient.flatten() * sign, (begin, -(begin + len(sign)) % size)).view(-1, size)
            total += rows.sum(0, dtype=torch.float64)
        begin = (begin + len(sign)) % size
    return total.cpu()

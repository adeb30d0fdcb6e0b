"""One optimizer step: everything that it reads and changes."""

import math
import threading
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from wenloom.core.console import remark
from wenloom.core.errors import WenloomError
from wenloom.model.build import Model
from wenloom.training.objectives import Objective
from wenloom.training.optimizers import make_optimizers
from wenloom.training.parallel import Replica, Strategy, World, full_tensor
from wenloom.training.settings import TrainSettings
from wenloom.training.source import Batch


def autocast(device: str, bf16: bool) -> AbstractContextManager[object]:
    """Matrix products in bfloat16, all else in float32; or everything in float32."""
    return torch.autocast(device, torch.bfloat16) if bf16 else nullcontext()


def recompute_blocks(model: Model) -> None:
    """Keep only the input of every block for the backward pass and compute the rest again (Chen et al. 2016).

    Dropout needs no saved state for it: it is a function of its keys.
    """
    for block in model.blocks:
        block.forward = partial(checkpoint, block.forward, use_reentrant=False, preserve_rng_state=False)


SMALLER = "choose a smaller --size or --context, or --recompute"


class Gradients(NamedTuple):
    """What a batch gave."""

    loss: float
    """Mean over the targets of the batch, all processes together, in nats."""
    norm: float
    """Of all gradients together, before clipping."""
    figures: dict[str, Any]
    """Means of what else the objective tells: numbers, and tables as nested lists."""

    @property
    def finite(self) -> bool:
        """Whether a step may be taken."""
        return math.isfinite(self.loss) and math.isfinite(self.norm)


class StepStopped(Exception):
    """A step was left between two parts of its batch."""


class TrainStep:
    """A model that learns.

    Args:
        objective: on its device; wrapped in place where there are several processes.
        settings: without gaps (`dial.resolve_settings`).
        bf16: whether products are taken in bfloat16 (weights and optimizer state stay in float32).
        micro_batch: rows computed at a time.
        layer_decay: see `make_optimizers`.
        smaller: what to do where a single row does not fit in memory, for people.
        n_tokens: of a batch; see `make_optimizers`.
    """

    def __init__(
        self,
        objective: Objective,
        settings: TrainSettings,
        world: World,
        strategy: Strategy,
        device: str,
        bf16: bool,
        micro_batch: int,
        layer_decay: float = 1.0,
        smaller: str = SMALLER,
        n_tokens: int | None = None,
    ):
        self.objective, self.model = objective, objective.model
        self.micro_batch, self.world, self.smaller = micro_batch, world, smaller
        self.settings, self._device, self._bf16 = settings, device, bf16
        self._parts_of_all: int | None = None
        self.threads: AbstractContextManager[object] = nullcontext()
        """What chooses the threads of a step."""
        dtype = torch.bfloat16 if bf16 else torch.float32
        self.replica = Replica(objective, self.model.blocks, world, device, strategy, dtype)
        betas = (settings.beta1, settings.beta2)
        self.optimizers = make_optimizers(
            self.model,
            settings.optimizer or "muon",
            settings.weight_decay,
            betas,
            settings.momentum,
            dtype,
            world,
            layer_decay,
            n_tokens,
        )

    def autocast(self) -> AbstractContextManager[object]:
        """What the model computes in."""
        return autocast(self._device, self._bf16)

    def gradients(self, batch: Batch, stop: threading.Event | None = None) -> Gradients:
        """Put the gradients of a batch's mean loss into place, clipped.

        Where memory does not suffice, rows are taken half as many at a time from then on, which changes nothing.

        Args:
            stop: looked at before every part but the first; given in all processes or in none.

        Raises:
            StepStopped: it is set, in this process or another.
            WenloomError: a single row does not fit.
        """
        while True:
            try:
                return self._gradients(batch, stop)
            except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
                if self.world.size > 1 or not is_out_of_memory(error):
                    raise  # several processes cannot tell alone which parts the others have exchanged
            self.zero_grad()
            if self._device == "cuda":
                torch.cuda.empty_cache()
            if self.micro_batch == 1:
                raise WenloomError(f"One sequence alone does not fit in memory: {self.smaller}.")
            self.micro_batch = -(-self.micro_batch // 2)
            remark(f"Out of memory: going on with {self.micro_batch} sequences at a time; the batch stays the same.")

    def _gradients(self, batch: Batch, stop: threading.Event | None) -> Gradients:
        weight = self.world.total(batch.weight.clone()).clamp(min=1)
        at_once = batch.n_rows if self.objective.needs_whole_batch else self.micro_batch
        self.objective.rows_at_once = self.micro_batch
        starts = range(0, batch.n_rows, at_once)
        in_all = 0 if stop is None else self._in_all(len(starts))
        total, figures = torch.zeros((), device=self._device), dict[str, Tensor]()
        for number, start in enumerate(starts):
            if stop is not None and 0 < number < in_all and self._must_stop(stop):
                raise StepStopped
            with self.replica.part(is_last=start == starts[-1]):
                with self.autocast():
                    found = self.replica.module(**batch.part(slice(start, start + at_once)))
                    loss = found.total / weight
                loss.backward()
            total += loss.detach()
            for name, value in found.figures.items():
                figures[name] = figures.get(name, 0.0) + value.detach()
        limit = self.settings.clip or math.inf
        norm = full_tensor(torch.nn.utils.clip_grad_norm_(self.model.parameters(), limit, foreach=True))
        means = {name: (self.world.total(value) / weight).tolist() for name, value in figures.items()}
        return Gradients(self.world.total(total).item(), norm.item(), means)

    def _must_stop(self, stop: threading.Event) -> bool:
        return self.world.signals(stop.is_set(), False, self._device)[0]

    def _in_all(self, parts: int) -> int:
        """How many parts of a batch every process has: only between these all can ask each other."""
        if self.world.size == 1:
            return parts
        fewest = self._parts_of_all or min(self.world.gathered(parts))  # asked once: shares of batches are alike
        self._parts_of_all = fewest
        return fewest

    def step(self, batch: Batch, learning_rate: float, stop: threading.Event | None = None) -> Gradients:
        """Learn from a batch; if its loss or gradient is not finite, leave everything as it was.

        Raises:
            StepStopped: `stop` was set meanwhile (see `gradients`); everything is as it was.
        """
        try:
            with self.threads:
                gradients = self.gradients(batch, stop)
                if gradients.finite:
                    self.apply(learning_rate)
        finally:
            self.zero_grad()
        return gradients

    def apply(self, learning_rate: float) -> None:
        """Change the weights by the gradients that are in place."""
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate * group.get("scale", 1.0)
            optimizer.step()

    def zero_grad(self) -> None:
        """Forget gradients."""
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether this is how PyTorch, or Python, says that there is no memory left."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)

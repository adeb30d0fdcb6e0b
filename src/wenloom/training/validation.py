"""Scoring the validation data, as much of it as a budget has time for."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from wenloom.core.console import remark
from wenloom.core.progress import progress
from wenloom.training.parallel import World
from wenloom.training.train_step import TrainStep
from wenloom.training.training_data import Evaluation, TrainingData

_FIRST_TRIAL, _LAST_TRIAL = 1 / 64, 1 / 8
"""Of the part that is meant to be scored, what is scored to see how long that takes: twice as much each time ..."""
_ENOUGH = 1 / 16
"""... until it takes this part of the time that there is."""
_WORTH_SAYING = 0.1
"""By what part another part is scored than was planned, before it is told."""


@dataclass(frozen=True)
class Validation:
    """The validation data of a run, and the model that is scored on it."""

    data: TrainingData
    train_step: TrainStep
    device: str
    world: World

    def score(self, check: Callable[[], None]) -> Evaluation:
        """What all of the part that is scored gives; calls `check` between batches."""

        def on_tokens(count: int) -> None:
            check()
            bar.advance(count)

        self.train_step.model.eval()
        with (
            progress("Validating", max(1, self.data.validation_size.tokens), "tokens") as bar,
            self.train_step.autocast(),
            torch.compiler.set_stance("force_eager"),  # compiled for training steps only
        ):
            found = self.data.evaluate(self.train_step.replica.module, self.device, self.world, on_tokens)
        self.train_step.model.train()
        return found

    def fit(
        self, planned: float, least: float, seconds: float, clock: Callable[[], float], check: Callable[[], None]
    ) -> float:
        """Choose the part of the validation data that so much time holds, by the time that some of it takes now; every
        evaluation of the run then scores this part, so that they can be compared.

        Args:
            planned: the part that earlier measurements promised.
            least: the part that is scored however long it takes.
            seconds: that an evaluation may take.
        """
        self.data.limit(1)
        whole = self.data.validation_size.tokens
        trial, began = max(_FIRST_TRIAL * planned, _LAST_TRIAL * least), clock()
        while True:
            self.data.limit(trial)
            started = clock()
            self.score(check)
            took, spent = self.world.agreed((clock() - started, clock() - began))
            if took >= _ENOUGH * seconds or trial >= _LAST_TRIAL * planned:
                break
            trial *= 2
        whole_seconds = took * whole / max(1, self.data.validation_size.tokens)
        part = min(1.0, max(least, (seconds - spent) / max(whole_seconds, 1e-9)))
        self.data.limit(part)
        if abs(part - planned) > _WORTH_SAYING * planned:
            why = "as much as a tenth of --budget holds at the speed that this machine has now"
            if part == 1:
                why = "a tenth of --budget holds all"
            elif part == least:
                why = "as much as a step reads; a tenth of --budget holds less"
            remark(f"Validating {self.data.validation_size.tokens:,} of {whole:,} tokens: {why}.")
        return part

"""What a finished run gives."""

from dataclasses import dataclass, field
from pathlib import Path

from wenloom.training.objectives import Loss
from wenloom.training.plan import of_validation


@dataclass(frozen=True)
class RunResult:
    """What a finished run gives."""

    folder: Path
    loss: Loss
    """Of the best evaluation, whose model is the one in the folder; its nats are NaN where it measured something else."""
    figures: dict[str, float]
    """All that this evaluation gave, by name."""
    best_step: int
    steps: int
    seconds: float
    """Training time, evaluation and saving not counted."""
    part: float = 1.0
    """Of the validation data, what was scored: the same at every evaluation."""
    before: dict[str, float] = field(default_factory=dict)
    """Figures of the evaluation before the first step, where there was one."""
    pieces: tuple[list[float], list[float]] | None = None
    """Nats of the same pieces of the validation text then and now, where they are told apart."""

    def scored(self) -> str:
        """How much of the validation data the figures are of, for people; empty where all."""
        of = of_validation(self.part)
        return f", on {of}" * bool(of)

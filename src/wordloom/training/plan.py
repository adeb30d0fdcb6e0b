"""How long a run will be and when it is evaluated, from its settings and the time of one step."""

import math
from dataclasses import dataclass

from wordloom.training.settings import TrainSettings

_EVALUATION_SHARE = 0.15
"""Part of the training time that evaluations may cost, unless their number is asked for."""
_DEFAULT_MINUTES = 10.0


@dataclass(frozen=True)
class Plan:
    """The shape of a run in time."""

    n_steps: int
    """Optimizer steps."""
    evaluate_at: frozenset[int]
    """Steps after which the validation text is scored; the last is always among them."""
    seconds: float
    """Estimate of what is left to do, evaluations included."""


def make_plan(
    settings: TrainSettings,
    step_seconds: float,
    batch_tokens: int,
    samples_per_epoch: int,
    validation_tokens: int,
    done: int = 0,
    n_steps: int | None = None,
) -> Plan:
    """Plan a run.

    Args:
        step_seconds: time of one optimizer step.
        batch_tokens: tokens in one step.
        done: steps done already, by a run that is resumed.
        n_steps: the length that a resumed run was made for.
    """
    if n_steps is None:
        if settings.steps is not None:
            n_steps = settings.steps
        elif settings.epochs is not None:
            n_steps = max(1, round(settings.epochs * samples_per_epoch / settings.batch))
        else:
            minutes = _DEFAULT_MINUTES if settings.minutes is None else settings.minutes
            n_steps = max(1, round(60 * minutes / step_seconds))
    # an evaluation is a forward pass: about a third of the work of training on a token
    evaluation_seconds = max(1e-3, validation_tokens / (3 * batch_tokens / step_seconds))
    count = settings.evaluations
    if count is None:
        count = int(min(20, max(1, _EVALUATION_SHARE * n_steps * step_seconds / evaluation_seconds)))
    evaluate_at = frozenset(math.ceil(n_steps * part / count) for part in range(1, count + 1))
    to_come = sum(step > done for step in evaluate_at)
    return Plan(n_steps, evaluate_at, (n_steps - done) * step_seconds + to_come * evaluation_seconds)

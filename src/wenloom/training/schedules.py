"""How the learning rate moves: multipliers of its peak, by the step counted from 0."""

import math

from wenloom.training.settings import Schedule


def multiplier(schedule: Schedule, step: float, n_steps: int, warmup: int, decay: int, floor: float) -> float:
    """Rise linearly over `warmup` steps, then fall to `floor`.

    linear: in a straight line to the end ("Straight to zero", Bergsma et al. 2025). cosine: along half a cosine
    (Loshchilov & Hutter 2017). wsd: warm up, stay stable, decay in a straight line over the last `decay` steps
    (Hu et al. 2024, MiniCPM, section 4); a run can be prolonged from its stable part.

    >>> [round(multiplier("cosine", step, 10, 2, 0, 0.1), 2) for step in (0, 1, 2, 9)]
    [0.5, 1.0, 1.0, 0.13]
    >>> [multiplier("wsd", step, 10, 2, 4, 0.0) for step in (0, 1, 5, 6, 8)]
    [0.5, 1.0, 1.0, 1.0, 0.5]
    """
    if step < warmup:
        return (step + 1) / warmup
    if schedule == "wsd":
        left = min(1.0, (n_steps - step) / max(1, decay))
    else:
        left = 1 - min(1.0, (step - warmup) / max(1, n_steps - warmup))
        if schedule == "cosine":
            left = 0.5 * (1 + math.cos(math.pi * (1 - left)))
    return floor + (1 - floor) * left

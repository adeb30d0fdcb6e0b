"""How the learning rate moves."""

import math


def cosine(step: int, n_steps: int, warmup: int, floor: float) -> float:
    """Multiplier of the peak learning rate at a step counted from 0.

    Rises linearly over `warmup` steps, then falls to `floor` along half a cosine (Loshchilov & Hutter 2017).

    >>> [round(cosine(step, 10, 2, 0.1), 2) for step in (0, 1, 2, 9)]
    [0.5, 1.0, 1.0, 0.13]
    """
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, n_steps - warmup)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))

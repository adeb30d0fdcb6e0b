"""Finding a watermark again."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from wenloom.core.errors import InputError
from wenloom.core.randomness import uniforms


@dataclass(frozen=True)
class Detection:
    """Whether a text bears a mark."""

    tokens: int
    """Pairs of neighbours that were looked at, each once."""
    green: int
    """How many of them the key favours."""
    z: float
    """Standard deviations above what chance gives."""
    p_value: float
    """Probability that a text without the mark scores as high."""


def detect(tokens: Sequence[int], key: int, ratio: float = 0.25) -> Detection:
    """Count the tokens that the key favours after their neighbour (Kirchenbauer et al. 2023, eq. 2).

    z = (green - ratio T) / sqrt(T ratio (1 - ratio)) over T different pairs: a pair that occurs again says nothing
    new, and would count a repetitive text as marked.

    Raises:
        InputError: fewer than 16 pairs.
    """
    pairs = list(dict.fromkeys(pairwise(tokens)))
    if len(pairs) < 16:
        raise InputError(f"{len(pairs)} different pairs of tokens are too few to tell: give a longer text.")
    green = sum(bool(uniforms(key, last, np.array([token]))[0] < ratio) for last, token in pairs)
    z = (green - ratio * len(pairs)) / math.sqrt(len(pairs) * ratio * (1 - ratio))
    return Detection(len(pairs), green, z, 0.5 * math.erfc(z / math.sqrt(2)))

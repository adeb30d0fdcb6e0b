"""How good an order is: rank correlation, and the gain of a ranking."""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

Numbers = Sequence[float] | np.ndarray[Any, Any]


def ranks(values: Numbers) -> np.ndarray[Any, Any]:
    """The rank of each value, from 1 on; equal ones share the mean of theirs.

    >>> ranks([3.0, 1.0, 3.0]).tolist()
    [2.5, 1.0, 2.5]
    """
    _, place, counts = np.unique(np.asarray(values, dtype=float), return_inverse=True, return_counts=True)
    last = counts.cumsum()
    return (last - (counts - 1) / 2)[place]


def pearson(one: Numbers, two: Numbers) -> float:
    """Correlation; nan where one side is constant."""
    a, b = (np.asarray(each, dtype=float) - np.mean(each) for each in (one, two))
    size = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / size) if size else float("nan")


def spearman(one: Numbers, two: Numbers) -> float:
    """Correlation of ranks (Spearman 1904); nan where one side is constant."""
    return pearson(ranks(one), ranks(two))


def ndcg(found: Sequence[int], right: Collection[int], depth: int = 10) -> float:
    """Normalised discounted cumulative gain with gains of 0 and 1 (Järvelin & Kekäläinen 2002, eq. 2 and 3).

    Args:
        found: what was found, best first.
        right: what should have been; at least one.
        depth: how many of the first are looked at.
    """
    gain = sum(1 / np.log2(place + 2) for place, each in enumerate(found[:depth]) if each in right)
    return float(gain / sum(1 / np.log2(place + 2) for place in range(min(depth, len(right)))))

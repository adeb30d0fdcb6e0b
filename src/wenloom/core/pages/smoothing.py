"""Smoothing that does not lag behind the curve."""

from collections.abc import Sequence

LEAST_REACH = 3
"""Neighbours on either side, at least: a line through fewer follows the noise."""
FEWEST = 20
"""Values of a curve that is smoothed; each of fewer counts."""


def smoothed(xs: Sequence[float], values: Sequence[float], share: float) -> list[float]:
    """Each value by a straight line fitted to its neighbours on both sides, weighted by the tricube of their distance
    (Cleveland 1979, degree 1, without robust rounds). Where the curve ends, as many neighbours come from one side, and the line
    still follows its slope: straight lines stay what they are up to both ends, so the last value does not lag.

    Args:
        xs: where the values are, ascending.
        share: how many neighbours, as a part of all values; 0: none.

    >>> smoothed([0, 1], [1.0, 3.0], 0.5), [round(y, 6) for y in smoothed(range(30), [2.0 * x for x in range(30)], 0.2)[-2:]]
    ([1.0, 3.0], [56.0, 58.0])
    """
    n = len(values)
    if share <= 0 or n < FEWEST:
        return list(values)
    reach = max(LEAST_REACH, int(share * n / 2))
    count = min(n, 2 * reach + 1)
    begins = (min(max(0, place - reach), n - count) for place in range(n))
    return [_fitted(xs[begin : begin + count], values[begin : begin + count], xs[place], reach)
            for place, begin in enumerate(begins)]  # fmt: skip


def _fitted(xs: Sequence[float], ys: Sequence[float], at: float, reach: int) -> float:
    """The weighted least-squares line at x; sums over distances d: Σw, Σwd, Σwd², Σwy, Σwdy. The farthest neighbour weighs a
    little, so that it counts; values that share one x have their mean."""
    width = max(at - xs[0], xs[-1] - at) * (1 + 1 / reach) or 1.0
    s0 = s1 = s2 = t0 = t1 = 0.0
    for x, y in zip(xs, ys, strict=True):
        distance = (x - at) / width
        weight = (1 - abs(distance) ** 3) ** 3
        s0 += weight
        s1 += weight * distance
        s2 += weight * distance * distance
        t0 += weight * y
        t1 += weight * distance * y
    spread = s0 * s2 - s1 * s1
    return (s2 * t0 - s1 * t1) / spread if spread > 1e-9 * s0 * s0 else t0 / s0

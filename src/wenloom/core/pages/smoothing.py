"""Smoothing that does not lag behind the curve."""

from collections.abc import Sequence

LEAST_REACH = 3
"""Neighbours on either side, at least: a line through fewer follows the noise."""
FEWEST = 20
"""Values of a curve that is smoothed; each of fewer counts."""


def smoothed(values: Sequence[float], share: float) -> list[float]:
    """Each value by a straight line fitted to its nearest neighbours on both sides, weighted by the tricube of their distance
    (Cleveland 1979, degree 1, without robust rounds). Where the curve ends, as many neighbours come from one side, and the line
    still follows its slope: straight lines stay what they are up to both ends, so the last value does not lag.

    Args:
        share: how many neighbours, as a part of all values; 0: none.

    >>> smoothed([1.0, 3.0], 0.5), [round(each, 6) for each in smoothed([2.0 * place for place in range(30)], 0.2)[-2:]]
    ([1.0, 3.0], [56.0, 58.0])
    """
    n = len(values)
    if share <= 0 or n < FEWEST:
        return list(values)
    reach = max(LEAST_REACH, int(share * n / 2))
    return [_fitted(values, place, min(n, 2 * reach + 1), reach) for place in range(n)]


def _fitted(values: Sequence[float], place: int, count: int, reach: int) -> float:
    """The weighted least-squares line at `place`; sums over distances d: Σw, Σwd, Σwd², Σwy, Σwdy."""
    begin = min(max(0, place - reach), len(values) - count)
    farthest = max(place - begin, begin + count - 1 - place) + 1
    s0 = s1 = s2 = t0 = t1 = 0.0
    for other in range(begin, begin + count):
        distance = other - place
        weight = (1 - (abs(distance) / farthest) ** 3) ** 3
        s0 += weight
        s1 += weight * distance
        s2 += weight * distance * distance
        t0 += weight * values[other]
        t1 += weight * distance * values[other]
    return (s2 * t0 - s1 * t1) / (s0 * s2 - s1 * s1)

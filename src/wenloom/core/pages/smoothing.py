"""Smoothing that does not lag behind the curve."""

from collections.abc import Sequence


def smoothed(values: Sequence[float], share: float) -> list[float]:
    """Each value by a straight line fitted to its neighbours on both sides, weighted by the tricube of their distance
    (Cleveland 1979, degree 1). Where a neighbourhood ends with the curve, the line still follows its slope: straight
    lines stay what they are up to both ends, so the last value does not lag.

    Args:
        share: width of the neighbourhood, as a part of all values.

    >>> smoothed([1.0, 3.0, 5.0, 7.0, 9.0], 0.8)
    [1.0, 3.0, 5.0, 7.0, 9.0]
    """
    half = share * len(values) / 2
    if half < 1:
        return list(values)
    reach = int(half)
    tricube = [(1 - (step / (half + 1)) ** 3) ** 3 for step in range(reach + 1)]
    return [_fitted(values, place, reach, tricube) for place in range(len(values))]


def _fitted(values: Sequence[float], place: int, reach: int, tricube: Sequence[float]) -> float:
    """The weighted least-squares line at `place`; sums over distances d: Σw, Σwd, Σwd², Σwy, Σwdy."""
    s0 = s1 = s2 = t0 = t1 = 0.0
    for other in range(max(0, place - reach), min(len(values), place + reach + 1)):
        distance, weight = other - place, tricube[abs(other - place)]
        s0 += weight
        s1 += weight * distance
        s2 += weight * distance * distance
        t0 += weight * values[other]
        t1 += weight * distance * values[other]
    spread = s0 * s2 - s1 * s1
    return (s2 * t0 - s1 * t1) / spread if spread > 1e-12 * s0 * s0 else t0 / s0

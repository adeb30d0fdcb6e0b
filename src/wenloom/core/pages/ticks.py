"""Where an axis has its marks, and how numbers are written there. templates/chart.js has the same functions."""

import math

_DURATIONS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)
"""Seconds between marks of an axis of time."""


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers that divide a range into about `count` parts; the lower end alone where there is no range.

    >>> ticks(0.0, 10.0)
    [0, 2, 4, 6, 8, 10]
    """
    return _multiples(low, high, _step((high - low) / count)) if 0 < high - low < math.inf else [low]


def duration_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Whole seconds, minutes, hours or days.

    >>> duration_ticks(0.0, 200.0)
    [0, 60, 120, 180]
    """
    if not 0 < high - low < math.inf:
        return [low]
    rough = (high - low) / count
    if rough < 1:
        return ticks(low, high, count)
    step = next((each for each in _DURATIONS if rough <= each * 1.25), 0)
    return _multiples(low, high, step or 86400 * _step(rough / 86400))


def log_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """1, 2 and 5 of every decade, or the decades alone, or round numbers where the range is below one decade.

    >>> log_ticks(0.5, 300.0)
    [0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0]
    >>> log_ticks(1.0, 1e8)
    [1.0, 100.0, 10000.0, 1000000.0, 100000000.0]
    """
    decades = math.log10(high / low)
    if decades < 1:
        return ticks(low, high, count)
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    leaps = 1 if decades <= count * 1.5 else math.ceil(decades / count)
    digits = (1, 2, 5) if decades <= count * 0.6 else (1,)
    made = [digit * 10.0**power for power in range(first, last + 1, leaps) for digit in digits]
    return [each for each in made if low * 0.9999 <= each <= high * 1.0001]


def _step(rough: float) -> float:
    """1, 2, 2.5, 5 or 10 times a power of ten, the first that is not below by more than a fifth."""
    magnitude = 10 ** math.floor(math.log10(rough))
    return next(multiple * magnitude for multiple in (1, 2, 2.5, 5, 10) if rough <= multiple * magnitude * 1.25)


def _multiples(low: float, high: float, step: float) -> list[float]:
    first = math.ceil(low / step - 1e-9)
    return [round(number * step, 12) for number in range(first, math.floor(high / step + 1e-9) + 1)]


def short(value: float) -> str:
    """A number for an axis.

    >>> short(1_500_000), short(20_000), short(0.003), short(0.00025), short(2.5)
    ('1.5M', '20k', '0.003', '2.5e-4', '2.5')
    """
    if 0 < abs(value) < 1e-3:
        mantissa, exponent = f"{value:.2e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    for limit, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:g}{unit}"
    return f"{value:g}"


def short_duration(seconds: float) -> str:
    """
    >>> short_duration(0), short_duration(90), short_duration(5400), short_duration(172_800)
    ('0', '1.5 min', '1.5 h', '2 d')
    """
    for limit, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if abs(seconds) >= limit:
            return f"{seconds / limit:.3g} {unit}"
    return f"{seconds:.3g} s" if seconds else "0"


def short_date(year: float) -> str:
    """
    >>> short_date(2023.0), short_date(2023.5)
    ('2023', '2023-07')
    """
    whole = math.floor(year + 1e-6)
    month = int((year - whole + 1e-6) * 12) + 1
    return f"{whole}" if month == 1 else f"{whole}-{month:02}"

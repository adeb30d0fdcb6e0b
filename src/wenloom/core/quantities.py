"""Amounts as people write them: 124m parameters, 10min, 1.5 GB."""

import re

from wenloom.core.errors import InputError

_COUNTS = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9, "g": 10**9, "t": 10**12}
_SECONDS = {"s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
_MEANS_OVER = {"classification": "text", "preference": "pair", "embedding": "pair"}
"""What a task's loss is a mean over, where it is not the tokens that are to be predicted."""
_NUMBER = re.compile(r"([0-9][0-9_,]*(?:\.[0-9]+)?|\.[0-9]+)\s*([a-z]*)")


def parse_count(text: str, name: str) -> int:
    """A whole number, perhaps with k, m, b or t.

    >>> parse_count("10m", "--size"), parse_count("1.5B", "--tokens"), parse_count("20_000", "--tokens")
    (10000000, 1500000000, 20000)

    Raises:
        InputError: the text is none; `name` says whose it was.
    """
    return max(1, round(_parse(text, name, _COUNTS, "a number such as 500k, 10m or 1.5b")))


def parse_duration(text: str, name: str) -> float:
    """Seconds.

    >>> parse_duration("90s", "--budget"), parse_duration("10min", "--budget"), parse_duration("1.5h", "--budget")
    (90.0, 600.0, 5400.0)

    Raises:
        InputError: the text is not a duration; `name` says whose it was.
    """
    return _parse(text, name, _SECONDS, "a time with its unit, such as 90s, 10min, 2h or 1d")


def _parse(text: str, name: str, units: dict[str, int], wanted: str) -> float:
    match = _NUMBER.fullmatch(text.strip().lower())
    if not match or match[2] not in units:
        raise InputError(f"{name} {text}: give {wanted}.")
    value = float(match[1].replace(",", "").replace("_", "")) * units[match[2]]
    if value <= 0:
        raise InputError(f"{name} {text}: must be above 0.")
    return value


def show_unit(figure: str, task: object = None) -> str:
    """What a figure of an evaluation is called; a loss, by what it is a mean over.

    >>> show_unit("bits_per_byte"), show_unit("nats_per_token"), show_unit("nats_per_token", "classification")
    ('bits per byte', 'nats per token', 'nats per text')
    """
    if figure == "nats_per_token" and isinstance(task, str) and task in _MEANS_OVER:
        return f"nats per {_MEANS_OVER[task]}"
    return figure.replace("_", " ")


def show_count(number: float) -> str:
    """Three digits and a unit.

    >>> show_count(812_672), show_count(10_745_088), show_count(65)
    ('813k', '10.7M', '65')
    """
    for limit, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= limit:
            return f"{number / limit:.3g}{unit}"
    return f"{number:.3g}"


def show_percent(part: float) -> str:
    """A part of 1 in per cent, by two digits and never as a power of ten.

    >>> show_percent(0.123), show_percent(0.0456), show_percent(0.996), show_percent(1.0)
    ('12 %', '4.6 %', '100 %', '100 %')
    """
    percent = 100 * part
    return f"{percent:.0f} %" if percent >= 9.95 else f"{percent:.2g} %"


def counted(number: int, noun: str) -> str:
    """A number with its noun, in the plural where there is not one.

    >>> counted(1, "row"), counted(1200, "prompt"), counted(0, "reply")
    ('1 row', '1,200 prompts', '0 replies')
    """
    if number == 1:
        return f"1 {noun}"
    return f"{number:,} {noun[:-1]}ies" if noun.endswith("y") and noun[-2] not in "aeiou" else f"{number:,} {noun}s"


def show_duration(seconds: float) -> str:
    """The two largest units.

    >>> show_duration(95), show_duration(40), show_duration(7300), show_duration(200_000)
    ('1 min 35 s', '40 s', '2 h 2 min', '2 d 8 h')
    """
    whole = round(seconds)
    for large, small, ratio, size in (("d", "h", 24, 86400), ("h", "min", 60, 3600), ("min", "s", 60, 60)):
        if whole >= size:
            count, rest = divmod(round(whole * ratio / size), ratio)
            return f"{count} {large} {rest} {small}" if rest else f"{count} {large}"
    return f"{whole} s" if seconds >= 1 else f"{seconds:.2g} s"


def show_bytes(number: float) -> str:
    """Decimal units.

    >>> show_bytes(3_250_688), show_bytes(1.4e9)
    ('3.25 MB', '1.4 GB')
    """
    for limit, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if number >= limit:
            return f"{number / limit:.3g} {unit}"
    return f"{number:.0f} B"

"""What an option of generation may be, written beside its field: bounds, and what its value means.

`request_checks` refuses by these, so that an option stands in one place.
"""

import dataclasses
from typing import Any, NamedTuple

_KEY = "wenloom.bounds"
DEFAULT_MOST = 10**9
"""Of a whole number that does not say its largest value."""
MAX_TOKENS = 1_000_000
"""Most tokens that one request may write, over all its sequences: a bound against slips and hostile requests."""
MAX_SEQUENCES = 1024
"""Most sequences or beams of one request."""


class Bounds(NamedTuple):
    """Values that an option may have, and when it does nothing."""

    low: float
    high: float
    is_open: bool
    """Whether `low` itself is not allowed."""
    zero_is_off: bool
    """Whether 0 means none of it, as other libraries say "off"."""
    cuts: bool
    """Whether it leaves out tokens before one is drawn."""
    draws: bool
    """Whether it is for drawing and has no place where the most probable token is taken."""


def option(
    default: Any,
    *,
    least: float | None = None,
    above: float | None = None,
    most: float = DEFAULT_MOST,
    zero_is_off: bool = False,
    cuts: bool = False,
    draws: bool = False,
) -> Any:
    """A dataclass field with bounds.

    Args:
        default: its value where it is not given.
        least: the smallest value that is allowed.
        above: instead of `least`: the largest value that is too small.
        most: the largest value that is allowed.
        zero_is_off: 0 counts as not given.
        cuts: it leaves out tokens before one is drawn (and is for drawing).
        draws: it is for drawing.

    >>> @dataclasses.dataclass
    ... class Example:
    ...     top_p: float | None = option(None, above=0, most=1, cuts=True)
    >>> bounds_of(dataclasses.fields(Example)[0])
    Bounds(low=0, high=1, is_open=True, zero_is_off=False, cuts=True, draws=True)
    """
    low = least if above is None else above
    assert low is not None, "an option with bounds has a lower one"
    bounds = Bounds(low, most, above is not None, zero_is_off, cuts, draws or cuts)
    return dataclasses.field(default=default, metadata={_KEY: bounds})


def bounds_of(field: "dataclasses.Field[Any]") -> Bounds | None:
    """The bounds of a field, None where it has none."""
    return field.metadata.get(_KEY)

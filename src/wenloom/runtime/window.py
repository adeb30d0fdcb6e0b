"""Which part of a long text a model sees."""

from typing import NamedTuple

from wenloom.model.config import ModelConfig
from wenloom.model.position import frequency_epoch


class View(NamedTuple):
    """What keys and values depend on besides the tokens."""

    first: int
    """The first visible token."""
    epoch: int
    """Rotary frequency epoch, see `position.frequency_epoch`."""
    steering: str = ""
    """What is added to the residual stream, see `steering.Steering.key`."""


WHOLE = View(0, 0)
"""The view of a text that fits."""


def window_start(n_tokens: int, context_length: int) -> int:
    """Where the model's view begins when a text is longer than its context.

    The view grows to the whole context, then drops its older half at once: dropping one token at a time
    would shift every position and cost a full pass a token. A function of the length alone, so that
    cached and uncached generation see the same.

    >>> [window_start(n, 8) for n in (8, 9, 12, 13)]
    [0, 4, 4, 8]
    """
    half = max(1, context_length // 2)
    return max(0, -(-(n_tokens - context_length) // half) * half)


def view_of(config: ModelConfig, n_tokens: int, steering: str = "") -> View:
    """The view of a text of so many tokens.

    Args:
        steering: key of what is added to its residual stream.
    """
    if config.positions.has_relative_bias:
        return View(0, 0, steering)
    if config.positions.depends_on_length:  # made to run past the context it was trained on
        return View(0, frequency_epoch(config, n_tokens), steering)
    return View(window_start(n_tokens, config.context_length), 0, steering)


def context_of(config: ModelConfig) -> int | None:
    """The longest text that is seen whole; None where there is no such bound."""
    return None if view_of(config, config.context_length + 1).first == 0 else config.context_length

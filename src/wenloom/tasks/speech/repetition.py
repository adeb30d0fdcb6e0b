"""A guard against loops: what a model says over and over is kept once."""

from collections.abc import Sequence

_TIMES = 4
"""Repetitions from which on a run of tokens is a loop; people say a word three times, or count."""
_LONGEST = 40
"""Tokens of what is repeated, at most."""


def without_loops(tokens: Sequence[int]) -> list[int]:
    """Tokens in which no run of up to 40 stands more than three times in a row: of such a loop the first is kept.

    >>> without_loops([7, 1, 2, 1, 2, 1, 2, 1, 2, 9]), without_loops([5, 5, 5, 6])
    ([7, 1, 2, 9], [5, 5, 5, 6])
    """
    kept = list(tokens)
    for length in range(1, _LONGEST + 1):
        place, made = 0, []
        while place < len(kept):
            run, count = kept[place : place + length], 1
            while kept[place + count * length : place + (count + 1) * length] == run:
                count += 1
            if count >= _TIMES:
                made += run
                place += count * length
            else:
                made.append(kept[place])
                place += 1
        kept = made
    return kept

"""The texts that a recording may have been, with what the recogniser says of each: what `wenloom rescore` chooses among."""

import heapq
from collections.abc import Sequence
from typing import Any

Texts = Sequence[tuple[str, float]]
"""Texts with log-probabilities."""


def n_best(windows: Sequence[Texts], count: int) -> tuple[tuple[str, float], ...]:
    """The most probable texts of a recording, best first; of texts that read the same the more probable one.

    Args:
        windows: what was found in each.
        count: texts at most, also on the way: of several windows these are the best of all combinations.

    >>> n_best([[(" a", -1.0), (" b", -2.0)], [(" c", -1.0), (" d", -1.5)]], 3)
    (('a c', -2.0), ('a d', -2.5), ('b c', -3.0))
    """
    found: dict[str, float] = {"": 0.0} if windows else {}
    for texts in windows:
        longer: dict[str, float] = {}
        for before, score in found.items():
            for text, more in texts:
                whole = (before + text).strip()
                longer[whole] = max(longer.get(whole, float("-inf")), score + more)
        found = dict(heapq.nlargest(count, longer.items(), key=lambda each: each[1]))
    return tuple(found.items())


def n_best_row(name: str, found: Texts, reference: str | None = None) -> dict[str, Any]:
    """A line of the file that `wenloom rescore` reads."""
    said = {} if reference is None else {"ref": reference}
    return {"utt_id": name} | said | {"nbest": [{"text": text, "score": round(score, 4)} for text, score in found]}

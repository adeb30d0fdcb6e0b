"""A page of what was heard otherwise than said: figures, errors by kind, and the worst recordings, to be read and played."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wenloom.audio.playing import as_data_url
from wenloom.core.errors import WenloomError
from wenloom.core.files import write_atomically
from wenloom.core.pages.page import render
from wenloom.evaluation.speech import SpeechErrors, SpeechFigure

_SHOWN = 50
_LONGEST = 30.0
"""Seconds of a recording that is embedded, at most."""
_BYTES = 12_000_000
"""Sound in a page, at most."""


@dataclass(frozen=True)
class SpokenLine:
    """A recording on the page."""

    name: str
    language: str
    errors: SpeechErrors
    sound: Callable[[], tuple[np.ndarray, int]]
    """Its samples, float32, and how many a second; may raise a `WenloomError`."""

    @property
    def rate(self) -> float:
        """Errors by words that were said."""
        return self.errors.errors / max(1, len(self.errors.reference))


def write_speech_page(
    path: Path, model: str, data: str, figures: Sequence[SpeechFigure], lines: Sequence[SpokenLine], notes: Sequence[str] = ()
) -> None:  # fmt: skip
    """Write the page of a model on a manifest.

    Args:
        lines: all recordings; the worst are shown, with sound as far as a page of 12 MB holds it.
        notes: sentences beneath the figures.
    """
    worst = sorted(lines, key=lambda each: (-each.rate, -each.errors.errors))[:_SHOWN]
    left, shown = _BYTES, []
    for line in (each for each in worst if each.errors.errors):
        sound = _embedded(line, left)
        left -= len(sound or "")
        shown.append((line, sound))
    page = render("wenloom.evaluation", "speech.html.jinja", title=f"{model} on {data}", figures=figures, shown=shown, notes=notes,
                  n_wrong=sum(each.errors.errors > 0 for each in lines), n_all=len(lines))  # fmt: skip
    write_atomically(path, page)


def _embedded(line: SpokenLine, room: int) -> str | None:
    """The sound as a data URL, of 16 bits; None where it is too long or cannot be read."""
    try:
        samples, rate = line.sound()
    except WenloomError:
        return None
    if len(samples) > _LONGEST * rate or 8 / 3 * len(samples) > room:
        return None
    return as_data_url(samples, rate)

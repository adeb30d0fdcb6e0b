"""Sentences that nobody said, joined of words that somebody did: what a model that begins from nothing learns counting and order from.

Where a recording falls into as many stretches of sound as its text has words, each stretch is one of them, and they can be joined
in any number and order (aligned data augmentation, Lam et al. 2021; there a trained model tells where words are, here pauses do).
"""

import itertools
from typing import NamedTuple

import numpy as np

_SMOOTHED = 5
"""Frames over which the power is averaged."""
_QUIET, _LOUD = 0.05, 0.98
"""Quantiles of the power in decibels between which the threshold lies."""
_THRESHOLDS = np.linspace(0.15, 0.7, 12)
_PAUSES = (10, 13, 16, 20, 25)
"""Frames of quiet below which it is part of a word, such as before a stop: fluent speech, which has no such pauses between its words,
falls into as many stretches as it has words by chance only."""
_SHORTEST, _LONGEST = 8, 150
"""Frames of a word."""
_MOST_UNLIKE = 4.0
"""Times the shortest word of a recording that its longest may last; else the pauses are not those between words."""
_BEFORE, _BEHIND = 8, 12
"""Frames of quiet that a word takes along."""
_GAP = 30
"""Frames of silence between two words, at most."""
_POWER = 4.0
"""A spectrogram's numbers are (log10 power + 4) / 4, see `audio.log_mel`."""


class CutWord(NamedTuple):
    """A stretch of sound that is one word."""

    frames_TM: np.ndarray
    text: str
    silence: float
    """What silence is in its recording."""


def stretches(frames_TM: np.ndarray, count: int) -> list[tuple[int, int]] | None:
    """First frames and those behind the last of so many words; None where the sound does not fall into so many stretches.

    Of all thresholds of power and pauses that give this number, those whose stretches are most alike in length.

    Args:
        frames_TM: a log-mel spectrogram, shape (frames, bands).
    """
    power = np.log10(np.mean(10.0 ** (_POWER * frames_TM.astype(np.float64) - _POWER), 1) + 1e-12)
    half = _SMOOTHED // 2
    power = np.convolve(np.pad(power, half, mode="edge"), np.ones(_SMOOTHED) / _SMOOTHED, "valid")
    low, high = np.quantile(power, (_QUIET, _LOUD))
    best: tuple[float, list[tuple[int, int]]] = _MOST_UNLIKE, []
    for part in _THRESHOLDS:
        is_loud = power > low + part * (high - low)
        edges = np.flatnonzero(np.diff(np.concatenate(([0], is_loud.astype(int), [0])))).reshape(-1, 2)
        for pause in _PAUSES:
            found = [(a, b) for a, b in _merged(edges.tolist(), pause) if b - a >= _SHORTEST]
            lengths = [b - a for a, b in found]
            if len(found) == count and max(lengths) <= _LONGEST and max(lengths) / min(lengths) < best[0]:
                best = max(lengths) / min(lengths), found
    return best[1] or None


def _merged(spans: list[list[int]], pause: int) -> list[list[int]]:
    """Spans with less than a pause between them are one."""
    found: list[list[int]] = []
    for begin, end in spans:
        if found and begin - found[-1][1] < pause:
            found[-1][1] = end
        else:
            found.append([begin, end])
    return found


class CutWords:
    """The words of a manifest's recordings, as far as pauses tell them apart."""

    def __init__(self):
        self.words: list[CutWord] = []
        self.n_cut = 0
        """Recordings that fell into their words."""
        self._counts: list[int] = []

    def add(self, text: str, frames_TM: np.ndarray, silence: float) -> None:
        """Cut a recording; one of a single word, or that does not fall into its words, is left out."""
        texts = text.split()
        spans = stretches(frames_TM, len(texts)) if len(texts) > 1 else None
        if spans is None:
            return
        self.n_cut += 1
        self._counts.append(len(texts))
        ends = [
            0,
            *((one[1] + other[0]) // 2 for one, other in itertools.pairwise(spans)),
            len(frames_TM),
        ]
        for number, (begin, end) in enumerate(spans):
            first, last = max(begin - _BEFORE, ends[number]), min(end + _BEHIND, ends[number + 1])
            self.words.append(CutWord(frames_TM[first:last], texts[number], silence))

    def sentence(self, drawn: np.random.Generator, longest: int) -> CutWord | None:
        """Words in any order, about as many as recordings have; None where not even one fits.

        Args:
            longest: frames that there may be.
        """
        count = self._counts[drawn.integers(len(self._counts))]
        parts: list[np.ndarray] = []
        texts: list[str] = []
        silence, is_even, length = self.words[drawn.integers(len(self.words))].silence, drawn.random() < 0.5, 0
        for _ in range(count):
            word, gap = self.words[drawn.integers(len(self.words))], int(drawn.integers(0, _GAP))
            if length + len(word.frames_TM) + gap > longest:
                break
            frames_TM = word.frames_TM.astype(np.float32)
            quiet = np.full(frames_TM.shape[1], silence) if is_even else np.quantile(frames_TM, 0.1, axis=0)
            parts += [np.tile(quiet, (gap, 1)).astype(np.float32), frames_TM]
            texts.append(word.text)
            length += len(frames_TM) + gap
        return CutWord(np.concatenate(parts), " ".join(texts), silence) if texts else None

"""What a recording was heard as: segments with times, words with times."""

import zlib
from dataclasses import asdict, dataclass, field
from typing import Any

from wenloom.tasks.speech.n_best import n_best_row


@dataclass(frozen=True)
class Word:
    """A word with the sound that it was heard in."""

    word: str
    """With the blank before it, where the language has blanks."""
    start: float
    """Seconds from the beginning of the recording."""
    end: float
    probability: float
    """The mean of those of its tokens."""


@dataclass(frozen=True)
class SpokenSegment:
    """A stretch of speech: a sentence or a part of one."""

    start: float
    """Seconds from the beginning of the recording."""
    end: float
    text: str
    tokens: tuple[int, ...]
    """Text and times, as the model wrote them."""
    temperature: float
    """At which the window was heard."""
    avg_logprob: float
    """Of the window's tokens."""
    compression_ratio: float
    """Of the window's text."""
    no_speech_prob: float
    """Of the window."""
    words: tuple[Word, ...] = ()


@dataclass
class Transcript:
    """All that was heard in one recording."""

    file: str
    language: str
    """Code of the language that was spoken."""
    seconds: float
    """How long the recording is."""
    segments: list[SpokenSegment] = field(default_factory=list)
    remarks: tuple[str, ...] = ()
    """What was mended while reading, and what was left out, in whole sentences."""
    n_best: tuple[tuple[str, float], ...] = ()
    """Texts that it may have been with the recogniser's log-probability, best first; as many as were asked for."""

    @property
    def text(self) -> str:
        """All of it."""
        return "".join(segment.text for segment in self.segments).strip()

    @property
    def words(self) -> list[Word]:
        """Of all segments."""
        return [word for segment in self.segments for word in segment.words]

    def described(self, words: bool) -> dict[str, Any]:
        """As JSON has it.

        Args:
            words: whether times of words were asked for.
        """
        segments = [{name: list(value) if name == "tokens" else value
                     for name, value in asdict(segment).items() if name != "words"} for segment in self.segments]  # fmt: skip
        described: dict[str, Any] = {"file": self.file, "text": self.text, "language": self.language,
                                     "duration": round(self.seconds, 3), "segments": segments}  # fmt: skip
        if len(self.n_best) > 1:
            described["nbest"] = n_best_row(self.file, self.n_best)["nbest"]
        return described | ({"words": [asdict(word) for word in self.words]} if words else {})


def compression_ratio(text: str) -> float:
    """Bytes of a text by those that zlib makes of them; what repeats itself is above 2.4 (Radford et al. 2022, 4.5)."""
    data = text.encode()
    return len(data) / len(zlib.compress(data))

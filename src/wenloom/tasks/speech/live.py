"""Text of sound that still arrives: a word is written once two hearings in a row agree on it.

What is not settled is heard again whenever more sound has arrived, from the end of the last settled word on; the words at which
two hearings in a row begin alike are settled (local agreement, Liu et al. 2020; Macháček et al. 2023, section 3).
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from wenloom.audio.reading import RATE, Sound
from wenloom.core.errors import WenloomError
from wenloom.tasks.speech.options import TranscriptionOptions
from wenloom.tasks.speech.transcriber import Recording, Transcriber
from wenloom.tasks.speech.transcript import Word

_EVERY = 1.0
"""Seconds of new sound after which what is not settled is heard again."""
_KEPT, _MOST = 8.0, 25.0
"""Seconds of settled sound that are heard again for what they tell of the rest; and of all that is heard at a time, which is
settled as it is where no two hearings agree on a word of it."""
_REMEMBERED = 200
"""Characters of settled text that a hearing reads."""


def live(
    transcriber: Transcriber, pieces: Iterable[np.ndarray], options: TranscriptionOptions | None = None
) -> Iterator[str]:
    """Stretches of text as they become stable; joined they are the transcript.

    Args:
        pieces: float32 at 16 kHz, shape (samples,) each.

    Raises:
        InputError: the model cannot tell when words are said.
    """
    hearing = _Hearing(transcriber, replace(options or TranscriptionOptions(), words=True))
    new = 0
    for piece in pieces:
        hearing.sound = np.concatenate((hearing.sound, piece))
        new += len(piece)
        if new >= _EVERY * RATE:
            new = 0
            yield from hearing.settled(hearing.heard())
    yield from hearing.rest(hearing.heard())


class _Hearing:
    """What has arrived and is still kept, and what is settled of it."""

    def __init__(self, transcriber: Transcriber, options: TranscriptionOptions):
        self._transcriber, self._options = transcriber, options
        self.sound = np.zeros(0, np.float32)
        self._offset = self._until = 0.0  # seconds: where `sound` begins, and where the last settled word ended
        self._before: list[Word] = []
        self._text = self._forgotten = ""  # all that is settled, and what of it is of sound that is no longer kept

    def heard(self) -> list[Word]:
        """The words behind those that are settled, by one more hearing."""
        if not len(self.sound):
            return []
        said = f"{self._options.prompt} {self._forgotten}".strip()
        sound = Sound(self.sound)
        recording = Recording("the pipe", lambda: sound)
        [(_, found)] = self._transcriber.transcribe([recording], replace(self._options, prompt=said))
        if isinstance(found, WenloomError):
            raise found
        words = [replace(each, start=each.start + self._offset, end=each.end + self._offset) for each in found.words]
        return [each for each in words if (each.start + each.end) / 2 > self._until]

    def settled(self, words: list[Word]) -> Iterator[str]:
        """The words on which this hearing and the last agree."""
        count = 0
        for ours, theirs in zip(words, self._before, strict=False):
            if _bare(ours) != _bare(theirs):
                break
            count += 1
        if not count and len(self.sound) >= _MOST * RATE:
            count = len(words)
        yield from self._write(words[:count])
        self._before = words[count:]
        end = self._offset + len(self.sound) / RATE
        if not words and len(self.sound) >= _MOST * RATE:
            self._forget(end - 1.0)
        elif self._until - self._offset > _KEPT:
            self._forget(self._until)

    def rest(self, words: list[Word]) -> Iterator[str]:
        """All words: nothing more arrives."""
        yield from self._write(words)

    def _write(self, words: list[Word]) -> Iterator[str]:
        if words:
            text = "".join(each.word for each in words)
            self._until, self._text = words[-1].end, (self._text + text)[-_REMEMBERED:]
            yield text

    def _forget(self, second: float) -> None:
        """Keep the sound behind a second."""
        first = round((second - self._offset) * RATE)
        self.sound, self._offset, self._forgotten = self.sound[first:], self._offset + first / RATE, self._text


def _bare(word: Word) -> str:
    return "".join(char for char in word.word.lower() if char.isalnum())

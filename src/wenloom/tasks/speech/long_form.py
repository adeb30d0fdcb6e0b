"""A recording of any length, window by window: Whisper's sequential rule (Radford et al. 2022, sections 3.8 and 4.5).

Each window of 30 seconds begins where the last whole segment of the one before ended, and reads what was written before.
A window whose text repeats itself or is improbable is heard again at a higher temperature.
"""

from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from wenloom.audio.activity import active_seconds
from wenloom.audio.log_mel import FRAMES_PER_SECOND, HOP, WINDOW_FRAMES, LogMel
from wenloom.tasks.speech.decoding import Decoded
from wenloom.tasks.speech.options import TranscriptionOptions
from wenloom.tasks.speech.repetition import without_loops
from wenloom.tasks.speech.transcript import SpokenSegment, compression_ratio
from wenloom.tasks.speech.vocabulary import SECONDS_PER_STAMP, SpeechTokens
from wenloom.tokens.tokenizer import TextTokenizer

_FRAMES_PER_STAMP = round(SECONDS_PER_STAMP * FRAMES_PER_SECOND)
_TOO_HOT = 0.5
"""A text drawn above this temperature is not carried on into the next window."""


class Ask(NamedTuple):
    """A window that is to be heard; the answer is a `Decoded`."""

    first: int
    """Its first frame."""
    prompt: list[int]
    """What stands before the transcript's opening."""
    temperature: float


class Align(NamedTuple):
    """A window whose words want times; the answer is a list of words for each of the segments."""

    first: int
    n_frames: int
    """Frames of it that are sound."""
    segments: list[list[int]]
    """Their tokens of text."""


Listening = Generator[Ask | Align, Any, list[SpokenSegment]]
"""Asks, is sent the answers, and returns the segments of a recording."""


class Listener:
    """Follows one recording; `listen` asks for what it needs and is answered.

    Args:
        mel: the recording.
        context_length: of the decoder.
        window: frames that are heard at once.
    """

    def __init__(
        self, mel: LogMel, tokens: SpeechTokens, tokenizer: TextTokenizer, options: TranscriptionOptions,
        context_length: int, window: int = WINDOW_FRAMES,
    ):  # fmt: skip
        self._mel, self._tokens, self._tokenizer, self._options = mel, tokens, tokenizer, options
        self._room, self._window = context_length // 2 - 1, window
        self._hot = self._encoded(options.hotwords)
        self._carried = self._encoded(options.prompt)
        self.segments: list[SpokenSegment] = []
        """Those that are known so far."""
        self.loops: list[int] = []
        """First frames of windows of whose text a loop was cut out."""
        self.left_out: list[int] = []
        """First frames of windows that gave loops or improbable text only."""
        self.found: list[Sequence[tuple[list[int], float]]] = []
        """Per window all texts that were found, with what the recogniser says of each."""

    def _encoded(self, text: str) -> list[int]:
        text = text.strip()
        return self._tokenizer.encode(f" {text}", add_special_tokens=False) if text else []

    def listen(self) -> Listening:
        """The segments of the recording."""
        first = 0
        while first < self._mel.n_frames:
            n_frames = min(self._window, self._mel.n_frames - first)
            if self._is_silent(first, n_frames):
                first += n_frames
                continue
            answer = yield from self._heard(first)
            if answer is None:
                first += n_frames
                continue
            heard, temperature = answer
            text = self._text(heard.tokens)
            is_silent = heard.no_speech_prob > self._options.max_no_speech
            if is_silent and heard.avg_logprob <= self._options.min_logprob:
                first += n_frames
                continue
            self.found.append(heard.others or ((heard.tokens, heard.logprob),))
            found, step = self._cut(heard, first, n_frames, temperature, compression_ratio(text))
            if self._options.words:
                found = yield from self._with_words(found, first, n_frames)
                last = max((word.end for each in found for word in each.words), default=0.0)
                is_open = self._options.times and not _ends_within(heard.tokens, self._tokens.first_time)
                if is_open and last * FRAMES_PER_SECOND > first:
                    step = max(1, round(last * FRAMES_PER_SECOND) - first)
            found = [each for each in found if each.start < each.end and each.text.strip()]
            self.segments += found
            self._carried += [token for each in found for token in each.tokens]
            if not self._options.carry or temperature > _TOO_HOT:
                self._carried = []
            first += max(step, _FRAMES_PER_STAMP)
        return self.segments

    def _is_silent(self, first: int, n_frames: int) -> bool:
        least = self._options.min_speech_seconds
        return least > 0 and active_seconds(self._mel.samples[first * HOP : (first + n_frames) * HOP]) < least

    def _prompt(self) -> list[int]:
        """What was said before, behind the words to expect; as much as fits into half of what the decoder reads."""
        hot = self._hot[: self._room]
        left = self._room - len(hot)
        before = hot + (self._carried[-left:] if left > 0 else [])
        return [self._tokens.previous, *before] if before else []

    def _heard(self, first: int) -> Generator[Ask, Any, tuple[Decoded, float] | None]:
        """A window at the first temperature that does, else the most probable text that does not repeat itself.

        Nothing where the first temperature gives a loop and no other a probable text: that is how noise is heard. Where all
        give loops, these are cut out of the last.
        """
        options, tries = self._options, list[tuple[Decoded, float, bool]]()
        for temperature in options.temperatures:
            heard: Decoded = yield Ask(first, self._prompt(), temperature)
            if heard.no_speech_prob > options.max_no_speech and heard.avg_logprob < options.min_logprob:
                return heard, temperature  # silence, which no temperature makes probable
            repeats = compression_ratio(self._text(heard.tokens)) > options.max_compression_ratio
            if not repeats and heard.avg_logprob >= options.min_logprob:
                return heard, temperature
            tries.append((heard, temperature, repeats))
        whole = [(heard, temperature) for heard, temperature, repeats in tries if not repeats]
        if not whole:
            heard, temperature, _ = tries[-1]
            self.loops.append(first)
            return heard._replace(tokens=without_loops(heard.tokens)), max(temperature, _TOO_HOT + 0.01)
        if tries[0][2]:
            self.left_out.append(first)
            return None
        return max(whole, key=lambda pair: pair[0].avg_logprob)

    def _text(self, tokens: Sequence[int]) -> str:
        return self._tokenizer.decode([each for each in tokens if each < self._tokens.end], skip_special_tokens=True)

    def _cut(
        self, heard: Decoded, first: int, n_frames: int, temperature: float, ratio: float
    ) -> tuple[list[SpokenSegment], int]:
        """The segments of a window, and how many frames on the next begins."""
        ids, zero = heard.tokens, self._tokens.first_time
        is_time = [each >= zero for each in ids]
        offset = first / FRAMES_PER_SECOND
        ends = [place for place in range(1, len(ids)) if is_time[place - 1] and is_time[place]]
        ends_within = _ends_within(ids, zero)
        if ends_within and ends:
            ends.append(len(ids))
        parts: list[tuple[float, float, list[int]]] = []
        start = 0
        for end in ends:
            part = ids[start:end]
            parts.append(
                (offset + (part[0] - zero) * SECONDS_PER_STAMP, offset + (part[-1] - zero) * SECONDS_PER_STAMP, part)
            )
            start = end
        step = n_frames if ends_within or not ends else (ids[start - 1] - zero) * _FRAMES_PER_STAMP
        if not ends:
            stamps = [each for each in ids if each >= zero]
            seconds = n_frames / FRAMES_PER_SECOND
            if stamps and stamps[-1] != zero:
                seconds = (stamps[-1] - zero) * SECONDS_PER_STAMP
            parts = [(offset, offset + seconds, ids)]
        return [
            SpokenSegment(round(start, 2), round(end, 2), self._text(part), tuple(part), temperature,
                    heard.avg_logprob, ratio, heard.no_speech_prob)
            for start, end, part in parts
        ], step  # fmt: skip

    def _with_words(
        self, segments: list[SpokenSegment], first: int, n_frames: int
    ) -> Generator[Align, Any, list[SpokenSegment]]:
        texts = [[each for each in segment.tokens if each < self._tokens.end] for segment in segments]
        if not any(texts):
            return segments
        words = yield Align(first, n_frames, texts)
        return [
            replace(segment, words=tuple(its), start=its[0].start, end=max(its[-1].end, its[0].start))
            if its
            else segment
            for segment, its in zip(segments, words, strict=True)
        ]


def _ends_within(ids: Sequence[int], zero: int) -> bool:
    """Whether the last segment ends with one time: then nothing follows it in the window."""
    return len(ids) >= 2 and ids[-1] >= zero and ids[-2] < zero

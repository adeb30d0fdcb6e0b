"""Times of words beside what knows them better: an aligner of hidden Markov models, and a synthesizer that says what it says when.

    python bench/word_times.py MODEL FILES... [--sentences FILE] [--voices en-us,en-gb]

FILES are recordings in English; PocketSphinx (of the extra `peers`) places the words that were heard in them. The lines of
--sentences are spoken by espeak-ng, whose library tells at which sample every word begins and ends. Words that one side lacks
are left out. Printed are, in milliseconds, the median error of starts and ends, the medians of the signed errors, and
what nine of ten errors are below.
"""

import argparse
import ctypes
import difflib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soxr

from wenloom.audio.reading import RATE, Sound, read_sound
from wenloom.tasks.speech.options import TranscriptionOptions
from wenloom.tasks.speech.transcriber import Recording, Transcriber
from wenloom.tasks.speech.transcript import Transcript


class Timed(NamedTuple):
    """A word; what is not known of it is None."""

    word: str
    start: float | None
    end: float | None


class Aligner:
    """PocketSphinx's forced alignment, in steps of 10 ms."""

    def __init__(self):
        from pocketsphinx import Decoder  # pyright: ignore[reportMissingImports]

        self.decoder: Any = Decoder(lm=None, loglevel="FATAL", beam=1e-80, wbeam=1e-60, pbeam=1e-80)

    def placed(self, sound: Sound, text: str) -> list[Timed]:
        """The words of a text; none where a word is unknown or no path is found."""
        words = re.findall(r"[a-z']+", text.lower())
        if not words or any(self.decoder.lookup_word(word) is None for word in words):
            return []
        samples = (np.clip(sound.samples, -1, 1) * 32767).astype(np.int16).tobytes()
        try:
            self.decoder.set_align_text(" ".join(words))
            self._hear(samples)
            self.decoder.set_alignment()
            self._hear(samples)
            found = list(self.decoder.get_alignment().words())
        except RuntimeError:
            return []
        return [Timed(re.sub(r"\(\d+\)", "", each.name), each.start / 100, (each.start + each.duration) / 100)
                for each in found if not each.name.startswith(("<", "[", "("))]  # fmt: skip

    def _hear(self, samples: bytes) -> None:
        self.decoder.start_utt()
        self.decoder.process_raw(samples, full_utt=True)
        self.decoder.end_utt()


class _Id(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    """espeak_EVENT of espeak-ng's speak_lib.h."""

    _fields_ = [("type", ctypes.c_int), ("uid", ctypes.c_uint), ("place", ctypes.c_int), ("length", ctypes.c_int),
                ("milliseconds", ctypes.c_int), ("sample", ctypes.c_int), ("user", ctypes.c_void_p), ("id", _Id)]  # fmt: skip


_WORD, _END, _PHONE = 1, 5, 7


class Synthesizer:
    """espeak-ng, asked for the events of words and phones."""

    def __init__(self):
        self.library = ctypes.CDLL("libespeak-ng.so.1")
        self.rate = self.library.espeak_Initialize(2, 0, None, 1)
        self.pieces: list[np.ndarray] = []
        self.events: list[tuple[int, int, int, float, bytes]] = []
        kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))
        self.heard = kind(self._heard)
        self.library.espeak_SetSynthCallback(self.heard)

    def _heard(self, samples: Any, count: int, events: Any) -> int:
        if samples and count:
            self.pieces.append(np.ctypeslib.as_array(samples, (count,)).copy())
        number = 0
        while (event := events[number]).type:
            name = event.id.string if event.type == _PHONE else b""
            self.events.append((event.type, event.place, event.length, event.sample / self.rate, name))
            number += 1
        return 0

    def said(self, text: str, voice: str) -> tuple[Sound, list[Timed]]:
        """A sentence: a word lasts from its first phone to the pause or the word behind it."""
        self.pieces.clear()
        self.events.clear()
        raw = text.encode() + b"\0"
        self.library.espeak_SetVoiceByName(voice.encode())
        self.library.espeak_Synth(ctypes.c_char_p(raw), ctypes.c_size_t(len(raw)), 0, 1, 0, 1, None, None)
        self.library.espeak_Synchronize()
        words: list[Timed] = []
        for kind, place, length, second, name in self.events:
            last = words[-1] if words else None
            if last is not None and last.end is None and (kind in (_WORD, _END) or name.startswith(b"_")):
                words[-1] = last._replace(end=second)
            if kind == _WORD:
                words.append(Timed(bare(text[place - 1 : place - 1 + length]), None, None))
            elif kind == _PHONE and last is not None and last.start is None and not name.startswith(b"_"):
                words[-1] = last._replace(start=second)
        samples = np.concatenate(self.pieces).astype(np.float32) / 32768
        return Sound(soxr.resample(samples, self.rate, RATE)), words


def bare(word: str) -> str:
    return re.sub(r"[^a-z']", "", word.lower())


def errors(found: list[Timed], truth: list[Timed]) -> Iterator[tuple[float, float]]:
    """Of every word that both have: how late its start and its end are."""
    blocks = difflib.SequenceMatcher(None, [each.word for each in found], [each.word for each in truth], autojunk=False)
    for block in blocks.get_matching_blocks():
        pairs = zip(found[block.a : block.a + block.size], truth[block.b : block.b + block.size], strict=True)
        for ours, theirs in pairs:
            if None not in (ours.start, ours.end, theirs.start, theirs.end):
                yield ours.start - theirs.start, ours.end - theirs.end  # pyright: ignore


def show(name: str, pairs: list[tuple[float, float]]) -> None:
    if not pairs:
        print(f"{name:14} no word that both have")
        return
    late = 1000 * np.array(pairs)
    size = np.abs(late)
    start, end = np.median(late, axis=0)
    print(f"{name:14} {len(pairs):4} words, median error {np.median(size):.0f} (starts {np.median(size[:, 0]):.0f}, ends "
          f"{np.median(size[:, 1]):.0f}), signed {start:+.0f} and {end:+.0f}, 9 of 10 below {np.quantile(size, 0.9):.0f}")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("files", type=Path, nargs="*")
    parser.add_argument("--sentences", type=Path)
    parser.add_argument("--voices", default="en-us,en-us+m3,en-us+f2,en-gb,en-gb+f4,en-us+m7")
    options = parser.parse_args()
    transcriber = Transcriber.load(options.model)

    def timed(sound: Sound) -> list[Timed]:
        recordings = [Recording("sound", lambda: sound, "en")]
        [(_, heard)] = transcriber.transcribe(recordings, TranscriptionOptions(words=True))
        assert isinstance(heard, Transcript), heard
        return [Timed(bare(each.word), each.start, each.end) for each in heard.words]

    if options.files:
        aligner, found = Aligner(), list[tuple[float, float]]()
        for path in options.files:
            sound = read_sound(path)
            words = timed(sound)
            found += errors(words, aligner.placed(sound, " ".join(each.word for each in words)))
        show("recordings", found)
    if options.sentences:
        synthesizer, found = Synthesizer(), list[tuple[float, float]]()
        voices = options.voices.split(",")
        lines = options.sentences.read_text(encoding="utf-8").splitlines()
        for number, line in enumerate(each for each in lines if each.strip()):
            sound, truth = synthesizer.said(line, voices[number % len(voices)])
            found += errors(timed(sound), truth)
        show("espeak-ng", found)


if __name__ == "__main__":
    main()

"""Transcripts in the formats that players and tables read."""

import json
from collections.abc import Callable, Iterable

from wenloom.tasks.speech.n_best import n_best_row
from wenloom.tasks.speech.transcript import Transcript


def txt(transcript: Transcript, words: bool) -> str:
    """A segment per line."""
    return _lines(segment.text.strip() for segment in transcript.segments)


def tsv(transcript: Transcript, words: bool) -> str:
    """Start and end in milliseconds, and text; words instead of segments where they have times."""
    parts = [(each.start, each.end, each.word) for each in transcript.words] if words else _parts(transcript)
    rows = [
        f"{round(1000 * start)}\t{round(1000 * end)}\t{text.strip().replace(chr(9), ' ')}" for start, end, text in parts
    ]
    return _lines(["start\tend\ttext", *rows])


def srt(transcript: Transcript, words: bool) -> str:
    """Subtitles of SubRip; with words one of them each."""
    parts = [(each.start, each.end, each.word) for each in transcript.words] if words else _parts(transcript)
    return "\n".join(f"{number}\n{clock(start, ',')} --> {clock(end, ',')}\n{_one(text)}\n"
                     for number, (start, end, text) in enumerate(parts, 1))  # fmt: skip


def vtt(transcript: Transcript, words: bool) -> str:
    """Subtitles of the web (WebVTT); with words each of them marked with its time inside its segment."""
    blocks: list[str] = []
    for segment in transcript.segments:
        text = _one(segment.text)
        if words and segment.words:
            text = "".join(
                each.word if place == 0 else f"<{clock(each.start, '.')}><c>{each.word}</c>"
                for place, each in enumerate(segment.words)
            ).strip()
        blocks.append(f"{clock(segment.start, '.')} --> {clock(segment.end, '.')}\n{text}\n")
    return "\n".join(["WEBVTT\n", *blocks])


def as_json(transcript: Transcript, words: bool) -> str:
    """All that is known of it."""
    return json.dumps(transcript.described(words), ensure_ascii=False, indent=2) + "\n"


def nbest(transcript: Transcript, words: bool) -> str:
    """The texts that it may have been, as a line that `wenloom rescore` reads."""
    return json.dumps(n_best_row(transcript.file, transcript.n_best), ensure_ascii=False) + "\n"


FORMATS: dict[str, Callable[[Transcript, bool], str]] = {
    "txt": txt,
    "srt": srt,
    "vtt": vtt,
    "tsv": tsv,
    "json": as_json,
    "nbest": nbest,
}
"""What a transcript is written as, by the ending of the file."""


def clock(seconds: float, point: str) -> str:
    """A time of subtitles.

    >>> clock(3725.5, ",")
    '01:02:05,500'
    """
    thousandths = round(1000 * max(0.0, seconds))
    hours, minutes, rest = thousandths // 3_600_000, thousandths // 60_000 % 60, thousandths % 60_000
    return f"{hours:02}:{minutes:02}:{rest // 1000:02}{point}{rest % 1000:03}"


def _parts(transcript: Transcript) -> list[tuple[float, float, str]]:
    return [(each.start, each.end, each.text) for each in transcript.segments]


def _one(text: str) -> str:
    """Text that ends no subtitle: no empty line, no arrow of times."""
    return " ".join(text.split()).replace("-->", "->")


def _lines(rows: Iterable[str]) -> str:
    return "".join(f"{row}\n" for row in rows)

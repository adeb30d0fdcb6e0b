"""`wenloom transcribe`. torch is loaded when there is work, so that --help answers at once."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from wenloom.cli.options import Device, Dtype, Json, flags
from wenloom.core.console import print_json, remark, say
from wenloom.core.errors import InputError, WenloomError
from wenloom.core.files import write_atomically
from wenloom.core.quantities import counted, show_duration
from wenloom.tasks.speech.options import FusionOptions, TranscriptionOptions

if TYPE_CHECKING:
    from wenloom.audio.reading import Sound
    from wenloom.tasks.speech.transcriber import Transcriber
    from wenloom.tasks.speech.transcript import Transcript

Format = Literal["txt", "srt", "vtt", "tsv", "json", "nbest"]
Hearing = Annotated[TranscriptionOptions, flags("Hearing", 2)]
Fusion = Annotated[FusionOptions, flags("With a language model", 3)]


def transcribe(
    model: str,
    /,
    *files: Annotated[str, Parameter(allow_leading_hyphen=True)],
    format: Format = "txt",
    out: Path | None = None,
    overwrite: Annotated[bool, Parameter(negative="")] = False,
    hearing: Hearing = TranscriptionOptions(),
    fusion: Fusion = FusionOptions(),
    side_by_side: int = 8,
    device: Device = "auto",
    dtype: Dtype = "float32",
    json: Json = False,
) -> None:
    """Write down what is said in recordings, with times: wav, flac, ogg, opus, mp3, aiff of any length, rate and channels.

    Windows that repeat themselves or are improbable are decoded again; silence and steady noise give no text.

        wenloom transcribe whisper-tiny.en speech.wav
        wenloom transcribe whisper-tiny.en speech.wav --words --format srt
        wenloom transcribe whisper-tiny.en talks/*.flac --out texts --format vtt

    Parameters
    ----------
    model
        A folder of the family whisper, or a hub model such as openai/whisper-tiny.
    files
        Recordings; - reads one from a pipe. Of samples without a header (16 kHz, 16 bits, one channel) the text is written
        as it becomes stable.
    format
        txt (a segment per line), srt and vtt (subtitles), tsv, json, or nbest (a line that `wenloom rescore` reads).
    out
        A folder that gets a transcript per recording; what is there already is left as it is, so that the same command goes
        on where it was stopped.
    overwrite
        Overwrite transcripts that are already there.
    side_by_side
        Recordings that are decoded in parallel.
    """
    if not files:
        raise InputError("name at least one recording, or - for a pipe.")
    if side_by_side < 1:
        raise InputError(f"--side-by-side {side_by_side}: must be at least 1.")
    if overwrite and out is None:
        raise InputError("--overwrite: goes with --out.")
    head = b""
    if files == ("-",) and format == "txt" and out is None and not json:
        from wenloom.audio.stream import HEAD_BYTES, is_raw

        head = sys.stdin.buffer.read(HEAD_BYTES)
        if is_raw(head):
            _write_live(model, head, hearing, fusion, device, dtype)
            return
    targets = {} if out is None else _targets(files, out, format)
    todo = [name for name in files if name not in targets or overwrite or not targets[name].exists()]
    if there := len(files) - len(todo):
        remark(f"{counted(there, 'transcript')} of {len(files):,} there already, left as they are (--overwrite hears them again).")  # fmt: skip
    if format == "nbest" and hearing.n_best == 1:
        hearing = replace(hearing, n_best=hearing.num_beams)
    results, failures = _heard(model, todo, hearing, fusion, side_by_side, device, dtype, targets, format, head)
    if failures and len(files) == 1:
        raise failures[0]
    if json:
        print_json([each.described(hearing.words) if not isinstance(each, WenloomError) else {"file": name, "error": str(each)}
                    for name, each in zip(todo, results, strict=True)])  # fmt: skip
    elif out is not None:
        say(f"{out}: {counted(len(todo) - len(failures), 'transcript')}.")
    else:
        _print(todo, results, format, hearing.words)
    if failures:
        error = WenloomError(
            f"{counted(len(failures), 'recording')} of {len(files):,} could not be heard: {failures[0]}"
        )
        error.is_reported = json
        raise error


def _targets(files: tuple[str, ...], out: Path, format: Format) -> dict[str, Path]:
    """Where the transcript of each recording goes.

    Raises:
        InputError: two would be one.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out}: is a file; name a folder.")
    targets: dict[str, Path] = {}
    taken: dict[Path, str] = {}
    for name in files:
        target = out / f"{'stdin' if name == '-' else Path(name).stem}.{format}"
        if target in taken and taken[target] != name:
            raise InputError(f"{taken[target]} and {name} would both be written to {target}: give them folders of their own.")  # fmt: skip
        taken[target] = name
        targets[name] = target
    return targets


def _heard(
    model: str, names: list[str], options: TranscriptionOptions, fusion: FusionOptions, side_by_side: int, device: str, dtype: str,
    targets: dict[str, Path], format: Format, head: bytes,
) -> tuple[list[Any], list[WenloomError]]:  # fmt: skip
    """Transcript or error of every recording, and the errors."""
    if not names:
        return [], []
    from wenloom.core.progress import progress
    from wenloom.tasks.speech.transcriber import Recording
    from wenloom.tasks.speech.writers import FORMATS

    transcriber = _loaded(model, fusion, device, dtype)
    results: list[Any] = [None] * len(names)
    failures: list[WenloomError] = []
    recordings = [Recording(name, _reader(name, head)) for name in names]
    with progress("Transcribing", *((len(names), "recordings") if len(names) > 1 else (None, "seconds"))) as bar:
        parts, heard = [0.0] * len(names), [0.0] * len(names)

        def tell(number: int, seconds: float, whole: float) -> None:
            parts[number], heard[number] = seconds / max(whole, 1e-9), seconds
            if len(names) == 1:  # its length is what there is to do
                bar.done, bar.total = seconds, whole
                return
            bar.done = sum(parts)
            bar.tell([f"{show_duration(max(1.0, sum(heard)))} of sound"])

        for number, outcome in transcriber.transcribe(recordings, options, side_by_side, tell):
            results[number] = outcome
            if len(names) > 1:
                parts[number] = 1.0  # also where it could not be read
                bar.done = sum(parts)
            if isinstance(outcome, WenloomError):
                failures.append(outcome)
                if len(names) > 1:
                    bar.print(str(outcome))
                continue
            for text in outcome.remarks:
                bar.print(text)
            if names[number] in targets:
                write_atomically(targets[names[number]], FORMATS[format](outcome, options.words))
    return results, failures


def _loaded(model: str, fusion: FusionOptions, device: str, dtype: str) -> "Transcriber":
    from wenloom.checkpoint.hub import resolve
    from wenloom.core.hardware import number_type, probe
    from wenloom.tasks.speech.transcriber import Transcriber

    transcriber = Transcriber.load(resolve(model), probe(device).device, number_type(dtype))
    if fusion.lm is not None:
        transcriber.ask(fusion.lm, fusion.lm_weight, fusion.lm_bonus)
    return transcriber


def _write_live(
    model: str, head: bytes, options: TranscriptionOptions, fusion: FusionOptions, device: str, dtype: str
) -> None:
    """Write what is said in a pipe of samples while they arrive."""
    from wenloom.audio.stream import arriving
    from wenloom.tasks.speech.live import live

    is_first = True
    for text in live(_loaded(model, fusion, device, dtype), arriving(sys.stdin.buffer, head), options):
        sys.stdout.write(text.lstrip() if is_first else text)
        sys.stdout.flush()
        is_first = False
    say("")


def _reader(name: str, head: bytes) -> "Callable[[], Sound]":
    """How a recording is read.

    Args:
        head: bytes of the pipe that were read already.
    """
    from wenloom.audio.reading import read_sound

    if name == "-":
        return lambda: _piped(head)
    return lambda: read_sound(Path(name))


def _piped(head: bytes) -> "Sound":
    import io

    import numpy as np

    from wenloom.audio.reading import Sound, read_sound
    from wenloom.audio.stream import HEAD_BYTES, arriving, is_raw

    raw = head + sys.stdin.buffer.read()
    if is_raw(raw[:HEAD_BYTES]):
        return Sound(np.concatenate(list(arriving(io.BytesIO(raw)))))
    return read_sound(raw, "the pipe")


def _print(names: list[str], results: "list[Transcript | WenloomError]", format: Format, words: bool) -> None:
    from wenloom.tasks.speech.transcript import Transcript
    from wenloom.tasks.speech.writers import FORMATS

    found = [(name, each) for name, each in zip(names, results, strict=True) if isinstance(each, Transcript)]
    for name, each in found:
        text = FORMATS[format](each, words).rstrip("\n")
        say(f"{name}:\n{text}\n" if len(names) > 1 and format != "nbest" else text, verbatim=True)

"""/v1/audio/transcriptions and /v1/audio/translations: what is said in a recording."""

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable
from dataclasses import asdict
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from wenloom.audio.reading import read_sound
from wenloom.core.errors import InputError, WenloomError, printable
from wenloom.serving.answer import JSON
from wenloom.serving.audio_schema import TranscriptionRequest, TranslationRequest, options_of, read_fields
from wenloom.serving.errors import APIError, as_api_error, refused
from wenloom.serving.models import ServedTranscriber
from wenloom.serving.service import Service, entry_of, noted
from wenloom.serving.sse import DONE, EventStream, data
from wenloom.tasks.speech.options import TranscriptionOptions
from wenloom.tasks.speech.transcriber import Recording
from wenloom.tasks.speech.transcript import SpokenSegment, Transcript
from wenloom.tasks.speech.writers import FORMATS

_MOST_FIELDS = 256
Heard = Callable[[list[SpokenSegment]], None]


class _GoneError(Exception):
    """Nobody waits for the transcript any more."""


async def heard(
    service: Service, http: Request, kind: type[TranscriptionRequest] | type[TranslationRequest], most_bytes: int
) -> Response:
    """The transcript of the recording in a form.

    Raises:
        APIError: it is no form, lacks the recording, or this is no sound; or the model does not hear.
    """
    sound, name, body = await _form(http, kind, most_bytes)
    served, entry = service.models.find_transcriber(body.model), entry_of(http)
    entry.model, entry.note = served.name, noted(body)
    options = options_of(body)
    if options.words and (body.response_format or "json") != "verbose_json":
        raise refused("timestamp_granularities", "timestamp_granularities: words have their times in verbose_json.")
    if getattr(body, "stream", None):
        if (body.response_format or "json") not in ("json", "text"):
            raise refused("stream", "stream: goes with the response_format json or text.")
        return EventStream(_events(served, sound, name, options))
    transcript = await _transcribed(served, sound, name, options, lambda segments: None)
    return _answer(transcript, body, options)


async def _form(http: Request, kind: type[Any], most_bytes: int) -> tuple[bytes, str, Any]:
    """The sound, its name and the other fields."""
    if not http.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise APIError(
            400, "the body must be a form (multipart/form-data) with the fields file and model.", param="file"
        )
    try:
        import python_multipart  # noqa: F401
    except ImportError:
        raise APIError(
            501, "this server lacks python-multipart, which reads forms: pip install 'wenloom[serve]'."
        ) from None
    try:
        form = await http.form(max_files=1, max_fields=_MOST_FIELDS, max_part_size=most_bytes)
    except HTTPException as error:
        raise APIError(400, f"the form cannot be read: {printable(str(error.detail), 200)}") from None
    fields: list[tuple[str, str]] = []
    file: UploadFile | None = None
    for field, value in form.multi_items():
        if isinstance(value, UploadFile):
            if field != "file":
                raise APIError(
                    400, f"Unrecognized request argument supplied: {printable(field, 80)}", code="unknown_parameter"
                )
            file = value
        elif field == "file":
            raise refused("file", "file: must be a file with a filename.")
        else:
            fields.append((field, value))
    body = read_fields(kind, fields)
    if file is None:
        raise APIError(400, "file: is required.", param="file", code="missing_required_parameter")
    return await file.read(), printable(file.filename or "file", 100), body


async def _transcribed(
    served: ServedTranscriber, sound: bytes, name: str, options: TranscriptionOptions, tell: Heard
) -> Transcript:
    """Hear a recording in the model's thread; a request that is cancelled stops it at its next window.

    Raises:
        APIError: it is no sound, or the model cannot do what is asked.
    """
    gone = threading.Event()

    def check(*_: float) -> None:
        if gone.is_set():
            raise _GoneError

    def work() -> Transcript:
        check()
        recording = Recording(name, lambda: read_sound(sound, name))
        [(_, outcome)] = served.transcriber.transcribe(
            [recording], options, 1, check, lambda _, segments: tell(segments)
        )
        if isinstance(outcome, WenloomError):
            raise outcome
        return outcome

    try:
        return await served.run(work)
    except InputError as error:
        param = "language" if "language" in str(error) and options.language else "file"
        raise APIError(400, str(error), param=param, code="invalid_value") from None
    finally:
        gone.set()


def _answer(transcript: Transcript, body: Any, options: TranscriptionOptions) -> Response:
    form = body.response_format or "json"
    if form == "json":
        return JSONResponse({"text": transcript.text, "usage": _usage(transcript)})
    if form != "verbose_json":
        written = f"{transcript.text}\n" if form == "text" else FORMATS[form](transcript, options.words)
        return PlainTextResponse(written)
    answer: JSON = {
        "task": "translate" if options.translate else "transcribe",
        "language": transcript.language,
        "duration": round(transcript.seconds, 3),
        "text": transcript.text,
        "usage": _usage(transcript),
    }
    asked = getattr(body, "timestamp_granularities", None) or ["segment"]
    if "segment" in asked:
        answer["segments"] = [
            {"id": number, "seek": round(100 * each.start)}
            | {key: value for key, value in asdict(each).items() if key != "words"}
            for number, each in enumerate(transcript.segments)
        ]
    if "word" in asked:
        answer["words"] = [
            {"word": each.word.strip(), "start": each.start, "end": each.end} for each in transcript.words
        ]
    return JSONResponse(answer)


def _usage(transcript: Transcript) -> JSON:
    return {"type": "duration", "seconds": round(transcript.seconds)}


async def _events(
    served: ServedTranscriber, sound: bytes, name: str, options: TranscriptionOptions
) -> AsyncGenerator[bytes, None]:
    """Text as it is heard, then all of it."""
    loop, pieces = asyncio.get_running_loop(), asyncio.Queue[str | None]()

    def tell(segments: list[SpokenSegment]) -> None:
        for each in segments:
            loop.call_soon_threadsafe(pieces.put_nowait, each.text)

    task = asyncio.create_task(_transcribed(served, sound, name, options, tell))
    task.add_done_callback(lambda _: pieces.put_nowait(None))
    is_first = True
    try:
        while (piece := await pieces.get()) is not None:
            yield data(
                {"type": "transcript.text.delta", "delta": piece.lstrip() if is_first else piece},
                "transcript.text.delta",
            )
            is_first = False
        transcript = await task
        done = {"type": "transcript.text.done", "text": transcript.text, "usage": _usage(transcript)}
        yield data(done, "transcript.text.done")
        yield DONE
    except Exception as error:
        yield data(as_api_error(error).body())
    finally:
        task.cancel()

"""Recordings over HTTP: the official client gets what the transcriber hears, and what cannot be heard is refused by name."""

import io
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
import soundfile

from wenloom.audio.reading import RATE, Sound
from wenloom.core.errors import InputError
from wenloom.serving.app import create_app
from wenloom.serving.loading import load_served
from wenloom.serving.models import Models
from wenloom.serving.settings import RequestLimits, ServerSettings
from wenloom.tasks.speech.options import TranscriptionOptions
from wenloom.tasks.speech.transcriber import Recording, Transcriber
from wenloom.tasks.speech.transcript import Transcript
from wenloom.tasks.speech.writers import FORMATS
from wenloom.tokens.tokenizer import TextTokenizer

from ..hearing import spoken, write_hearing
from .conftest import Served, chat_model, serving

HOT = 0.7


def sound_file(seconds: float = 1.0, kind: str = "WAV") -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, spoken(seconds), RATE, format=kind, **({"subtype": "FLOAT"} if kind == "WAV" else {}))
    return buffer.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_hearing(tmp_path_factory.mktemp("hearing"))


@pytest.fixture(scope="module")
def running(folder: Path, tokenizer: TextTokenizer) -> Iterator[Served]:
    writer = chat_model(tokenizer)
    loaders: Any = {
        "hearing": lambda: load_served(folder, "cpu", "float32", None, None, None, {}, {}),
        "writer": lambda: writer,
    }
    limits = RequestLimits(max_audio_mb=4, max_body_mb=0.05)
    with serving(create_app(Models(loaders), ServerSettings(limits=limits)), writer) as made:
        yield made


def own(folder: Path, seconds: float = 1.0, **options: Any) -> Transcript:
    made = Transcriber.load(folder).transcribe(
        [Recording("x", lambda: Sound(spoken(seconds)))], TranscriptionOptions(**options)
    )
    found = next(made)[1]
    assert isinstance(found, Transcript)
    return found


def test_the_official_client_gets_what_is_heard(running: Served, folder: Path):
    client, expected, plain = running.client(), own(folder, words=True), own(folder)
    file = ("speech.wav", sound_file())
    assert client.audio.transcriptions.create(model="hearing", file=file).text == plain.text
    verbose: Any = client.audio.transcriptions.create(
        model="hearing", file=file, response_format="verbose_json", timestamp_granularities=["word", "segment"], language=expected.language
    )  # fmt: skip
    assert verbose.language == expected.language and verbose.duration == 1.0
    assert [(each.start, each.end, each.text, tuple(each.tokens)) for each in verbose.segments or []] == [
        (each.start, each.end, each.text, each.tokens) for each in expected.segments]  # fmt: skip
    assert [(each.word, each.start) for each in verbose.words or []] == [
        (each.word.strip(), each.start) for each in expected.words
    ]
    for form in ("srt", "vtt"):
        made: Any = client.audio.transcriptions.create(model="hearing", file=file, response_format=form)
        assert made == FORMATS[form](plain, False)
    drawn: Any = client.audio.transcriptions.create(model="hearing", file=file, temperature=HOT, prompt="The lamp")
    assert drawn.text == own(folder, temperatures=(HOT,), prompt="The lamp").text
    english = own(folder, translate=True)
    assert client.audio.translations.create(model="hearing", file=file).text == english.text
    assert "hearing" in {each.id for each in client.models.list()}


def test_a_stream_tells_segments_and_then_all(running: Served, folder: Path):
    events = list(
        running.client().audio.transcriptions.create(
            model="hearing", file=("x.wav", sound_file(40.0)), stream=True, temperature=HOT
        )
    )
    expected = own(folder, 40.0, temperatures=(HOT,))
    deltas = "".join(each.delta for each in events if each.type == "transcript.text.delta")
    assert deltas.strip() == expected.text and events[-1].type == "transcript.text.done"
    assert events[-1].text == expected.text and len(events) == 1 + len(expected.segments)  # pyright: ignore


def test_any_kind_of_file_is_read(running: Served):
    for kind in ("FLAC", "OGG", "MP3"):
        assert (
            running.client().audio.transcriptions.create(model="hearing", file=("x", sound_file(kind=kind))) is not None
        )


def post(
    running: Served, files: Any = None, data: Any = None, path: str = "transcriptions", **more: Any
) -> httpx2.Response:
    return httpx2.post(f"{running.url}/v1/audio/{path}", files=files, data=data, timeout=60, **more)


SOUND = {"file": ("x.wav", sound_file())}
BAD: list[tuple[dict[str, Any], dict[str, Any], str | None, int]] = [
    ({}, {"model": "hearing"}, "file", 400), (SOUND, {}, "model", 400), (SOUND, {"model": "nobody"}, "model", 404), (SOUND, {"model": "writer"}, "model", 400),
    ({"file": ("x.wav", b"text")}, {"model": "hearing"}, "file", 400), ({"file": ("x.wav", b"")}, {"model": "hearing"}, "file", 400),
    (SOUND, {"model": "hearing", "language": "fr"}, "language", 400), (SOUND, {"model": "hearing", "response_format": "pdf"}, "response_format", 400),
    (SOUND, {"model": "hearing", "temperature": "hot"}, "temperature", 400), (SOUND, {"model": "hearing", "temperature": "2"}, "temperature", 400),
    (SOUND, {"model": "hearing", "timestamp_granularities[]": "word"}, "timestamp_granularities", 400),
    (SOUND, {"model": "hearing", "include[]": "logprobs"}, "include", 400), (SOUND, {"model": "hearing", "x": "1"}, "x", 400),
    (SOUND, {"model": ["hearing", "hearing"]}, "model", 400), (SOUND, {"model": "hearing", "stream": "true", "response_format": "srt"}, "stream", 400),
    ({"file": ("x.wav", sound_file(80.0))}, {"model": "hearing"}, None, 413), ({"other": ("x.wav", b"x")}, {"model": "hearing"}, None, 400),
]  # fmt: skip


@pytest.mark.parametrize(("files", "data", "param", "status"), BAD, ids=lambda each: str(each)[:30])
def test_what_cannot_be_heard_is_refused_by_name(
    running: Served, files: Any, data: Any, param: str | None, status: int
):
    answer = post(running, files or {"x": ("", b"")}, data)
    assert answer.status_code == status, answer.text
    if files:
        assert answer.json()["error"]["param"] == param, answer.text


def test_a_body_that_is_no_form_is_refused(running: Served):
    assert (
        "form" in post(running, content=b"{}", headers={"content-type": "application/json"}).json()["error"]["message"]
    )
    broken = post(running, content=b"--x\r\nnonsense", headers={"content-type": "multipart/form-data; boundary=x"})
    assert broken.status_code == 400, broken.text
    missing = post(running, content=b"abc", headers={"content-type": "multipart/form-data"})
    assert missing.status_code == 400, missing.text


def test_a_model_that_hears_writes_nothing_else(running: Served):
    with pytest.raises(openai.BadRequestError, match="audio/transcriptions"):
        running.client().completions.create(model="hearing", prompt="x")
    with pytest.raises(openai.BadRequestError, match="audio/transcriptions"):
        running.client().embeddings.create(model="hearing", input="x")


def test_requests_at_once_are_all_answered(running: Served):
    found: list[str] = []

    def ask() -> None:
        found.append(running.client().audio.transcriptions.create(model="hearing", file=("x.wav", sound_file())).text)

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 6 and len(set(found)) == 1


def test_other_endpoints_keep_their_own_limit(running: Served):
    answer = running.post("/v1/completions", {"model": "writer", "prompt": "x" * 100_000})
    assert answer.status_code == 413 and json.loads(answer.text)["error"]["code"] == "request_too_large"


def test_options_of_models_that_write_are_refused(folder: Path):
    with pytest.raises(InputError, match="--draft"):
        load_served(folder, "cpu", "float32", "other", None, None, {}, {})

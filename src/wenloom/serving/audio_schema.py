"""The fields of /v1/audio/transcriptions and /v1/audio/translations, which come as parts of a form."""

from typing import Annotated, Any, Literal

from fastapi.exceptions import RequestValidationError
from pydantic import Field, JsonValue, StringConstraints, ValidationError

from wenloom.serving.chat_schema import Logged, Name
from wenloom.serving.errors import refused
from wenloom.serving.fields import Body, Honoured, NotOffered
from wenloom.tasks.speech.options import TranscriptionOptions

FORMATS = ("json", "text", "srt", "verbose_json", "vtt")
_ONE_MODEL = "a recording is heard by the model alone"
Prompt = Annotated[
    str, StringConstraints(max_length=20_000), Honoured("stands before the transcript: names and spelling to follow")
]
Language = Annotated[
    str, StringConstraints(max_length=16), Honoured("code of the language spoken, as en; else the model says")
]
Heat = Annotated[
    float,
    Field(ge=0, le=1),
    Honoured("above 0: drawn at this temperature alone; 0: Whisper's rule, which begins with 0"),
]
Chunking = Annotated[
    JsonValue, NotOffered("windows begin where the last whole segment ended", but=("auto",)),
]  # fmt: skip


class TranslationRequest(Body):
    """The fields of /v1/audio/translations: English is written, whatever is spoken."""

    model: Name
    prompt: Prompt | None = None
    response_format: Literal["json", "text", "srt", "verbose_json", "vtt"] | None = None
    temperature: Heat | None = None
    user: Logged | None = None


class TranscriptionRequest(Body):
    """The fields of /v1/audio/transcriptions."""

    model: Name
    language: Language | None = None
    prompt: Prompt | None = None
    response_format: Literal["json", "text", "srt", "verbose_json", "vtt"] | None = None
    temperature: Heat | None = None
    timestamp_granularities: (
        Annotated[
            list[Literal["word", "segment"]], Field(max_length=2), Honoured("word: times of words, in verbose_json")
        ]
        | None
    ) = None
    keywords: Annotated[list[Name], Field(max_length=100), Honoured("words to expect, before every window")] | None = (
        None
    )
    stream: Annotated[bool, Honoured("segments as they are heard, as events")] | None = None
    user: Logged | None = None
    chunking_strategy: Chunking | None = None
    include: Annotated[list[str] | None, NotOffered("log-probabilities stand in verbose_json", but=([],))] = None
    known_speaker_names: Annotated[list[str] | None, NotOffered("speakers are not told apart", but=([],))] = None
    known_speaker_references: Annotated[list[str] | None, NotOffered("speakers are not told apart", but=([],))] = None
    languages: Annotated[list[str] | None, NotOffered("name one in language", but=([],))] = None


_LISTS = (
    "timestamp_granularities",
    "include",
    "known_speaker_names",
    "known_speaker_references",
    "languages",
    "keywords",
)


def read_fields(kind: type[TranscriptionRequest] | type[TranslationRequest], form: list[tuple[str, str]]) -> Any:
    """The fields of a form, which are all text, as what they stand for.

    Raises:
        RequestValidationError: one is unknown, missing or has a value that cannot be honoured.
        APIError: one comes twice.
    """
    raw: dict[str, Any] = {}
    for name, text in form:
        bare = name.removesuffix("[]")
        if bare in _LISTS:
            raw.setdefault(bare, []).append(text)
            continue
        if bare in raw:
            raise refused(bare, f"{bare}: is given twice.")
        raw[bare] = _as(bare, text)
    try:
        return kind.model_validate(raw)
    except ValidationError as error:
        found = [each | {"loc": ("body", *each["loc"])} for each in error.errors()]
        raise RequestValidationError(found, body=raw) from None


def _as(name: str, text: str) -> Any:
    if name == "temperature":
        try:
            return float(text)
        except ValueError:
            return text
    return {"true": True, "false": False}.get(text.lower(), text) if name == "stream" else text


def options_of(body: TranscriptionRequest | TranslationRequest) -> TranscriptionOptions:
    """How the recording is to be heard."""
    is_heard = isinstance(body, TranscriptionRequest)
    return TranscriptionOptions(
        language=(body.language or None) if is_heard else None,
        translate=not is_heard,
        prompt=body.prompt or "",
        hotwords=", ".join(body.keywords or ()) if is_heard else "",
        words=is_heard and "word" in (body.timestamp_granularities or ()),
        temperatures=(body.temperature,) if body.temperature else TranscriptionOptions.temperatures,
    )

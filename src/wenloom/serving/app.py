"""The server as an ASGI app: its routes, and what stands around them."""

import contextlib
from collections.abc import AsyncGenerator, Callable
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import PlainTextResponse, Response
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

from wenloom.core.errors import WenloomError
from wenloom.core.version import __version__
from wenloom.serving.audio import heard
from wenloom.serving.audio_schema import TranscriptionRequest, TranslationRequest
from wenloom.serving.chat import chat_run
from wenloom.serving.chat_schema import ChatRequest
from wenloom.serving.completion_schema import CompletionRequest
from wenloom.serving.completions import completion_run
from wenloom.serving.embeddings import EmbeddingRequest, embedded
from wenloom.serving.errors import APIError, as_api_error, of_validation
from wenloom.serving.guard import Guard
from wenloom.serving.keys import Keys
from wenloom.serving.lifetime import Lifetime
from wenloom.serving.log import AccessLog
from wenloom.serving.models import Models
from wenloom.serving.responses import response_run
from wenloom.serving.responses_schema import ResponseRequest
from wenloom.serving.service import Service, entry_of
from wenloom.serving.settings import ServerSettings
from wenloom.serving.text_schema import DetokenizeRequest, ScoreRequest, TokenizeRequest
from wenloom.serving.texts import detokenized, score_run, tokenized

Lifespan = Callable[[Any], contextlib.AbstractAsyncContextManager[None]]


def create_app(
    models: Models,
    settings: ServerSettings | None = None,
    log: AccessLog | None = None,
    lifespan: Lifespan | None = None,
) -> ASGIApp:
    """The server.

    Args:
        models: what it answers with.
        log: where requests are noted; default: nowhere.
        lifespan: what is done when it begins and ends; default: the models are loaded before the first request, and
            closed after the last.

    Raises:
        InputError: the file of keys cannot be used.
    """
    settings = settings or ServerSettings()
    keys = None if settings.access.api_key_file is None else Keys.read(settings.access.api_key_file)
    service = Service(models, settings.limits)

    @contextlib.asynccontextmanager
    async def whole_life(_: Any) -> AsyncGenerator[None, None]:
        await models.load()
        yield
        models.close()

    api = FastAPI(title="Wenloom", version=__version__, docs_url=None, redoc_url=None, lifespan=lifespan or whole_life)
    _add_errors(api)
    _add_routes(api, service, settings)
    paths = {getattr(route, "path", "") for route in api.routes}

    def route_of(path: str) -> str:
        return path if path in paths else "/v1/models/{name}" if path.startswith("/v1/models/") else "other"

    limits = settings.limits

    def most_bytes(path: str) -> int:
        return int(1e6 * (limits.max_audio_mb if path.startswith("/v1/audio/") else limits.max_body_mb))

    inner = Lifetime(api, most_bytes)
    answering = _only_requests(inner, api)
    log = log or AccessLog(None)
    return Guard(answering, settings, keys, service.admission, service.metrics, log, route_of)


def _only_requests(inner: ASGIApp, api: ASGIApp) -> ASGIApp:
    """Requests through one app, what is said of the server's beginning and end through the other."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await (inner if scope["type"] == "http" else api)(scope, receive, send)

    return app


def _add_errors(api: FastAPI) -> None:
    def answer(http: Request, error: APIError) -> Response:
        entry_of(http).refuse(error)
        return error.response()

    @api.exception_handler(WenloomError)
    async def _(http: Request, error: WenloomError) -> Response:
        return answer(http, as_api_error(error))

    @api.exception_handler(RequestValidationError)
    async def _(http: Request, error: RequestValidationError) -> Response:
        return answer(http, of_validation(error))

    @api.exception_handler(HTTPException)
    async def _(http: Request, error: HTTPException) -> Response:
        if error.status_code == 404:
            return answer(http, APIError(404, f"Invalid URL ({http.method} {http.url.path})", code="unknown_url"))
        return answer(http, APIError(error.status_code, str(error.detail)))

    @api.exception_handler(Exception)
    async def _(http: Request, error: Exception) -> Response:  # uvicorn writes its traceback
        return answer(http, as_api_error(error))


def _add_routes(api: FastAPI, service: Service, settings: ServerSettings) -> None:
    models = service.models

    @api.get("/healthz")
    def healthz() -> Response:
        """Whether the server is alive: 503 where a model's step has hung."""
        hung = any(engine.seconds_in_step > settings.running.watchdog for engine in models.engines)
        return PlainTextResponse("a step of a model hangs" if hung else "ok", 503 if hung else 200)

    @api.get("/readyz")
    def readyz() -> Response:
        """Whether there is a model to ask."""
        return PlainTextResponse("ok" if models.ready else "loading", 200 if models.ready else 503)

    @api.get("/metrics")
    def metrics() -> Response:
        """Counters for Prometheus."""
        return PlainTextResponse(service.metrics.text(), media_type="text/plain; version=0.0.4")

    @api.get("/v1/models")
    def list_models() -> dict[str, Any]:
        """The models that are loaded."""
        return {"object": "list", "data": [each.described() for each in models]}

    @api.get("/v1/models/{name:path}")
    def one_model(name: str) -> dict[str, Any]:
        """One of them."""
        return models.any(name).described()

    @api.post("/v1/completions")
    async def completions(body: CompletionRequest, http: Request) -> Response:
        """A text goes on."""
        return await service.answer(http, body, completion_run)

    @api.post("/v1/chat/completions")
    async def chat_completions(body: ChatRequest, http: Request) -> Response:
        """A conversation goes on."""
        return await service.answer(http, body, chat_run)

    @api.post("/v1/tokenize")
    async def tokenize(body: TokenizeRequest, http: Request) -> Response:
        """A text, or a conversation, as tokens."""
        return await service.computed(http, body, tokenized)

    @api.post("/v1/detokenize")
    async def detokenize(body: DetokenizeRequest, http: Request) -> Response:
        """Tokens as text."""
        return await service.computed(http, body, detokenized)

    @api.post("/v1/score")
    async def score(body: ScoreRequest, http: Request) -> Response:
        """How probable texts are."""
        return await service.whole(http, body, score_run)

    @api.post("/v1/embeddings")
    async def embeddings(body: EmbeddingRequest, http: Request) -> Response:
        """Texts as vectors."""
        return await embedded(service, http, body)

    @api.post("/v1/audio/transcriptions")
    async def transcriptions(http: Request) -> Response:
        """What is said in a recording."""
        return await heard(service, http, TranscriptionRequest, int(1e6 * settings.limits.max_audio_mb))

    @api.post("/v1/audio/translations")
    async def translations(http: Request) -> Response:
        """The same in English."""
        return await heard(service, http, TranslationRequest, int(1e6 * settings.limits.max_audio_mb))

    @api.post("/v1/responses")
    async def responses(body: ResponseRequest, http: Request) -> Response:
        """A conversation goes on, in the words of the Responses API."""
        return await service.answer(http, body, response_run)

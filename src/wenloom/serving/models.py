"""The models that a server answers with, by name, each with an engine in a thread of its own."""

import asyncio
import functools
import hashlib
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from torch import Tensor

from wenloom.api import LanguageModel
from wenloom.core.errors import InputError, printable
from wenloom.core.version import __version__
from wenloom.generation.background import BackgroundEngine
from wenloom.runtime.embedder import Embedder
from wenloom.runtime.window import context_of
from wenloom.serving.errors import APIError
from wenloom.serving.reasoning import Reasoning, reasoning_of
from wenloom.serving.token_names import TokenNames
from wenloom.serving.tool_form import ToolForm
from wenloom.serving.tool_probe import form_of
from wenloom.tasks.speech.transcriber import Transcriber
from wenloom.tokens.chat import ChatRenderer, Message

Made = TypeVar("Made")
Loaded = LanguageModel | Embedder | Transcriber
"""What answers."""


@dataclass(frozen=True)
class ServedModel:
    """A model under a name, or one of its adapters."""

    name: str
    model: LanguageModel
    engine: BackgroundEngine
    adapter: str | None = None
    created: int = field(default_factory=lambda: int(time.time()))
    """When it was loaded, in seconds since 1970."""

    @functools.cached_property
    def chat(self) -> ChatRenderer:
        """What writes conversations for it.

        Raises:
            InputError: it has several chat templates and none that is the usual one.
        """
        return ChatRenderer(self.model.tokenizer)

    @functools.cached_property
    def tool_form(self) -> ToolForm | None:
        """How it writes calls of functions; None: in a way that nobody here reads.

        Raises:
            InputError: its chat template does not work.
        """
        return form_of(self.chat)

    @functools.cached_property
    def reasoning(self) -> Reasoning | None:
        """The tags around what it thinks before it replies; None: it has none.

        Raises:
            InputError: its chat template does not work.
        """
        return reasoning_of(self.chat)

    @functools.cached_property
    def knows_system(self) -> bool:
        """Whether its chat template takes system messages."""
        try:
            return "probe" in self.chat.render([Message("system", "probe"), Message("user", "Hi")]).text
        except InputError:
            return False

    @functools.cached_property
    def token_names(self) -> TokenNames:
        """What its tokens are as text."""
        return TokenNames(self.model.tokenizer, self.model.decoder.config.vocab_size)

    @functools.cached_property
    def fingerprint(self) -> str:
        """Changes where the same seed may give another text."""
        decoder = self.model.decoder
        what = (
            __version__,
            decoder.config,
            decoder.embed.weight.dtype,
            self.model.tokenizer.fingerprint(),
            self.adapter,
        )
        return "fp_" + hashlib.sha256(repr(what).encode()).hexdigest()[:10]

    @property
    def context(self) -> int | None:
        """Tokens that it sees; None: no bound."""
        return context_of(self.model.decoder.config)

    def described(self) -> dict[str, object]:
        """The model as OpenAI's list has it."""
        parent = {} if self.adapter is None else {"parent": self.name.removesuffix(f":{self.adapter}")}
        return {"id": self.name, "object": "model", "created": self.created, "owned_by": "wenloom", **parent,
                "max_model_len": self.context}  # fmt: skip


@dataclass(frozen=True)
class ServedEmbedder:
    """A model that makes vectors of texts, under a name."""

    name: str
    embedder: Embedder
    run: "Callable[[Callable[[], Tensor]], Awaitable[Tensor]]"
    """Does work with it when nothing else does."""
    created: int = field(default_factory=lambda: int(time.time()))

    def described(self) -> dict[str, object]:
        """The model as OpenAI's list has it."""
        return {"id": self.name, "object": "model", "created": self.created, "owned_by": "wenloom",
                "max_model_len": self.embedder.max_tokens}  # fmt: skip


@dataclass(frozen=True)
class ServedTranscriber:
    """A model that writes down what it hears, under a name."""

    name: str
    transcriber: Transcriber
    run: "_Queue"
    """Does one work with it after the other."""
    created: int = field(default_factory=lambda: int(time.time()))

    def described(self) -> dict[str, object]:
        """The model as OpenAI's list has it."""
        return {
            "id": self.name,
            "object": "model",
            "created": self.created,
            "owned_by": "wenloom",
            "max_model_len": None,
        }


class _Queue:
    """A thread in which one work is done after the other."""

    def __init__(self, name: str):
        self._pool = ThreadPoolExecutor(1, name)

    async def __call__(self, work: Callable[[], Made]) -> Made:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)


class Models:
    """Models that are loaded one after the other, while the server answers already.

    Args:
        loaders: what loads each model, by its name.
    """

    def __init__(self, loaders: Mapping[str, Callable[[], Loaded]]):
        self._loaders = dict(loaders)
        self._served: dict[str, ServedModel] = {}
        self._embedders: dict[str, ServedEmbedder] = {}
        self._transcribers: dict[str, ServedTranscriber] = {}
        self._of_writers: dict[str, ServedEmbedder] = {}
        self._engines: list[BackgroundEngine] = []

    async def load(self) -> None:
        """Load them all.

        Raises:
            WenloomError: one cannot be loaded.
        """
        for name, load in list(self._loaders.items()):
            model = await asyncio.to_thread(load)
            if isinstance(model, Embedder):
                self._embedders[name] = ServedEmbedder(name, model, _Queue("wenloom-embedder"))
                del self._loaders[name]
                continue
            if isinstance(model, Transcriber):
                self._transcribers[name] = ServedTranscriber(name, model, _Queue("wenloom-transcriber"))
                del self._loaders[name]
                continue
            engine = BackgroundEngine(model.engine)
            self._engines.append(engine)
            served = ServedModel(name, model, engine)
            await asyncio.to_thread(lambda served=served: served.token_names)
            self._served[name] = served
            for adapter in model.adapters:
                alias = adapter if adapter not in self._loaders and adapter not in self._served else f"{name}:{adapter}"
                self._served[alias] = ServedModel(alias, model, engine, adapter)
            del self._loaders[name]

    def find(self, name: str) -> ServedModel:
        """A model that writes.

        Raises:
            APIError: there is none of that name, it is not loaded yet, or it makes vectors only.
        """
        found = self.any(name)
        if isinstance(found, ServedModel):
            return found
        if isinstance(found, ServedTranscriber):
            raise _hears(found)
        raise APIError(400, f"The model {found.name} makes vectors of texts and writes none: ask /v1/embeddings.", param="model")  # fmt: skip

    def find_embedder(self, name: str) -> ServedEmbedder:
        """What makes vectors of texts; a model that writes can do that, too.

        Raises:
            APIError: there is none of that name, or it is not loaded yet.
        """
        found = self.any(name)
        if isinstance(found, ServedEmbedder):
            return found
        if isinstance(found, ServedTranscriber):
            raise _hears(found)
        if name not in self._of_writers:
            model = found.model
            decoder = model.decoder if found.adapter is None else model.adapters[found.adapter]
            embedder = Embedder(decoder, model.tokenizer)
            self._of_writers[name] = ServedEmbedder(name, embedder, found.engine.between_steps)
        return self._of_writers[name]

    def find_transcriber(self, name: str) -> ServedTranscriber:
        """What writes down recordings.

        Raises:
            APIError: there is none of that name, it is not loaded yet, or it does not hear.
        """
        found = self.any(name)
        if isinstance(found, ServedTranscriber):
            return found
        raise APIError(
            400,
            f"The model {found.name} is no speech recogniser: transcribing takes one of the family whisper.",
            param="model",
        )

    def any(self, name: str) -> ServedModel | ServedEmbedder | ServedTranscriber:
        """
        Raises:
            APIError: there is none of that name, or it is not loaded yet.
        """
        found = self._served.get(name) or self._embedders.get(name) or self._transcribers.get(name)
        if found is not None:
            return found
        if name in self._loaders:
            raise APIError(503, f"the model {name} is being loaded.", code="model_loading", retry_after=1)
        known = ", ".join([*self._served, *self._embedders, *self._transcribers, *self._loaders])
        raise APIError(404, f"The model `{printable(name, 100)}` does not exist; this server has {known}.",
                       param="model", code="model_not_found")  # fmt: skip

    def __iter__(self):
        return iter([*self._served.values(), *self._embedders.values(), *self._transcribers.values()])

    @property
    def writers(self) -> list[ServedModel]:
        """Those that write, adapters aside."""
        return [each for each in self._served.values() if each.adapter is None]

    @property
    def engines(self) -> list[BackgroundEngine]:
        """One for each model that is loaded."""
        return self._engines

    @property
    def ready(self) -> bool:
        """Whether there is one to ask."""
        return bool(self._served or self._embedders or self._transcribers)

    def close(self) -> None:
        """Stop the engines; requests that are under way are cancelled."""
        for engine in self._engines:
            engine.close()


def _hears(found: ServedTranscriber) -> APIError:
    return APIError(
        400,
        f"The model {found.name} writes down recordings and reads no text: ask /v1/audio/transcriptions.",
        param="model",
    )

"""A server with a tiny model, in this process, and the official client."""

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
import uvicorn
from starlette.types import ASGIApp
from tokenizers import AddedToken

from wenloom.api import LanguageModel
from wenloom.checkpoint.folder import write_model_files
from wenloom.serving.app import create_app
from wenloom.serving.models import Models
from wenloom.serving.server import listen
from wenloom.serving.settings import Access, RequestLimits, Running, ServerSettings
from wenloom.tokens.tokenizer import TextTokenizer

from ..conftest import random_decoder, tiny_config

CONTEXT = 256
TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def chat_model(
    tokenizer: TextTokenizer,
    template: str = TEMPLATE,
    context_length: int = CONTEXT,
    control: Sequence[str] = (),
    added: Sequence[str] = (),
    **more: Any,
) -> LanguageModel:
    """A model of random weights that writes whatever, behind a chat template."""
    control = [AddedToken(name, special=True) for name in ("<|im_start|>", "<|im_end|>", *control)]
    chatting = tokenizer.extended(control, {**tokenizer.special_tokens})
    chatting.backend.add_tokens([AddedToken(name, special=False) for name in ("<tool_call>", *added)])
    chatting.chat_template = template
    decoder = random_decoder(tiny_config(vocab_size=chatting.vocab_size, context_length=context_length))
    return LanguageModel(decoder, chatting, **more)


def saved(model: LanguageModel, folder: Path) -> Path:
    """The folder, with this model in it."""
    folder.mkdir(exist_ok=True)
    write_model_files(model.decoder, folder)
    model.tokenizer.save_pretrained(folder)
    return folder


@dataclass
class Served:
    """A server that runs."""

    url: str
    model: LanguageModel
    server: uvicorn.Server
    thread: threading.Thread

    def client(self, key: str = "none", **more: Any) -> openai.OpenAI:
        """The official client."""
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=key, **{"max_retries": 0, "timeout": 60, **more})

    def post(self, path: str, body: Any, **more: Any) -> httpx2.Response:
        """A request as it is written."""
        headers = {"content-type": "application/json", **more.pop("headers", {})}
        return httpx2.post(self.url + path, content=json.dumps(body), headers=headers, timeout=60, **more)

    def wait_until(self, is_so: Callable[[], bool]) -> None:
        """Wait for what other threads bring about.

        Raises:
            AssertionError: they have not within a minute.
        """
        end = time.monotonic() + 60
        while not is_so():
            assert time.monotonic() < end, "it did not come about"
            threading.Event().wait(0.005)


@contextlib.contextmanager
def serving(app: ASGIApp, model: LanguageModel, drain: int = 30) -> Iterator[Served]:
    """Run an app at a port of its own."""
    listening = listen(Access(port=0))
    config = uvicorn.Config(
        app, http="h11", ws="none", log_config=None, log_level="error", timeout_graceful_shutdown=drain
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    served = Served(f"http://127.0.0.1:{listening.getsockname()[1]}", model, server, thread)
    try:
        served.wait_until(lambda: server.started)
        yield served
    finally:
        server.should_exit = True
        thread.join(60)
        assert not thread.is_alive()


LIMITS = RequestLimits(max_concurrent_requests=64, max_total_tokens=4096, max_choices=16)


@pytest.fixture(scope="package")
def served(tokenizer: TextTokenizer) -> Iterator[Served]:
    model = chat_model(tokenizer)
    app = create_app(Models({"tiny": lambda: model}), ServerSettings(limits=LIMITS, running=Running()))
    with serving(app, model) as running:
        yield running


@pytest.fixture(scope="package")
def client(served: Served) -> openai.OpenAI:
    return served.client()

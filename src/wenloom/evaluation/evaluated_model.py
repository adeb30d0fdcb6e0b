"""What suites ask of a model: scores and texts, whether it lies in a folder here or is served elsewhere."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from wenloom.core.endpoint import Endpoint, EndpointError
from wenloom.core.errors import InputError
from wenloom.core.files import sha256_of_file
from wenloom.evaluation.endpoint_scorer import EndpointScorer
from wenloom.evaluation.perplexity import data_hash
from wenloom.evaluation.scorer import Scorer
from wenloom.evaluation.scorers import DecoderScorer
from wenloom.generation.engine import Engine
from wenloom.generation.request import GenerationRequest
from wenloom.model.decoder import Decoder
from wenloom.model.packed import packed
from wenloom.tokens.chat import Message, chat_ids
from wenloom.tokens.tokenizer import TextTokenizer

_MODEL_FILES = ("config.json", "tokenizer.json")
_NO_COMPLETIONS = 404
"""What a server says whose model, or all of it, answers turns alone."""
_MOST_STOPS = 4
"""Texts that end an answer, in OpenAI's API."""


class WrittenText(NamedTuple):
    """What a model wrote after a prompt."""

    text: str
    unseen: int = 0
    """Tokens of the prompt that did not fit."""


class NamedModel(Protocol):
    """How a model is known beside others."""

    @property
    def name(self) -> str:
        """How the user calls it."""
        ...

    @property
    def fingerprint(self) -> str:
        """What tells it from others of its name."""
        ...

    @property
    def n_parameters(self) -> int | None:
        """None where nobody says."""
        ...


class EvaluatedModel(NamedModel, Protocol):
    """The model that is scored."""

    @property
    def dtype(self) -> str:
        """Number type of its weights, where that is known."""
        ...

    @property
    def takes_turns(self) -> bool:
        """Whether it is made for conversations."""
        ...

    def scorer(self) -> Scorer:
        """What scores texts by it, ready for many."""
        ...

    def write(
        self, prompts: Sequence[tuple[int, str]], request: GenerationRequest, as_turns: bool = False
    ) -> list[WrittenText]:
        """What it writes after each prompt.

        Args:
            prompts: with a number each, by which what is drawn is told apart.
            as_turns: each prompt is what a user says.
        """
        ...


class LocalModel(NamedTuple):
    """A model of a folder."""

    name: str
    folder: Path
    decoder: Decoder
    tokenizer: TextTokenizer
    engine: Engine

    @property
    def fingerprint(self) -> str:
        """SHA-256 over weights, configuration and tokenizer."""
        return fingerprint_of(self.folder)

    @property
    def dtype(self) -> str:
        """Number type of the weights."""
        return str(next(self.decoder.parameters()).dtype)

    @property
    def n_parameters(self) -> int | None:
        """All of them."""
        return self.decoder.n_parameters()

    @property
    def takes_turns(self) -> bool:
        """Whether its tokenizer has a chat template."""
        return self.tokenizer.chat_template is not None

    def scorer(self) -> Scorer:
        """See `EvaluatedModel`."""
        return DecoderScorer(packed(self.decoder), self.tokenizer)

    def write(
        self, prompts: Sequence[tuple[int, str]], request: GenerationRequest, as_turns: bool = False
    ) -> list[WrittenText]:
        """See `EvaluatedModel`."""
        jobs = [
            self.engine.submit(chat_ids(self.tokenizer, [Message("user", text)]) if as_turns else text, request, number)
            for number, text in prompts
        ]
        self.engine.run(jobs)
        return [WrittenText(job.result()[0].text, job.unseen) for job in jobs]


class RemoteModel(NamedTuple):
    """A model that is asked over the OpenAI API; one that answers turns alone is given plain prompts as what a user says."""

    endpoint: Endpoint

    @property
    def name(self) -> str:
        """The model's at its server."""
        return self.endpoint.model

    @property
    def fingerprint(self) -> str:
        """A hash of address and name: what stands behind them is not known."""
        return data_hash(f"{self.endpoint.url} {self.endpoint.model}")

    @property
    def dtype(self) -> str:
        """Not known."""
        return EndpointScorer.dtype

    @property
    def n_parameters(self) -> int | None:
        """Not known."""
        return None

    @property
    def takes_turns(self) -> bool:
        """Servers that are asked by turns put the words of the template around them."""
        return True

    def scorer(self) -> Scorer:
        """See `EvaluatedModel`."""
        return EndpointScorer(self.endpoint)

    def write(
        self, prompts: Sequence[tuple[int, str]], request: GenerationRequest, as_turns: bool = False
    ) -> list[WrittenText]:
        """See `EvaluatedModel`.

        Raises:
            InputError: more than four texts that end an answer. EndpointError: see `Endpoint.post`.
        """
        if len(request.stop_strings) > _MOST_STOPS:
            raise InputError(
                f"{len(request.stop_strings)} texts end an answer here; the OpenAI API takes {_MOST_STOPS}."
            )
        options = {"max_tokens": request.max_new_tokens, "temperature": request.temperature if request.do_sample else 0}
        if request.stop_strings:
            options["stop"] = list(request.stop_strings)

        def one(prompt: tuple[int, str]) -> WrittenText:
            number, text = prompt
            drawn = {"seed": number} if request.do_sample else {}
            if not as_turns:
                try:
                    answer = self.endpoint.post("completions", {"prompt": text, **options, **drawn})
                    return WrittenText(_text(answer, ("choices", 0, "text"), self.endpoint.url))
                except EndpointError as error:
                    if error.status != _NO_COMPLETIONS:
                        raise
            body = {"messages": [{"role": "user", "content": text}], **options, **drawn}
            return WrittenText(chat_text(self.endpoint.post("chat/completions", body), self.endpoint.url))

        return self.endpoint.together(one, prompts)


def fingerprint_of(folder: Path) -> str:
    """SHA-256 over a folder's weights, configuration and tokenizer."""
    files = sorted(path for path in folder.iterdir() if path.name in _MODEL_FILES or path.suffix == ".safetensors")
    return data_hash("".join(f"{path.name}{sha256_of_file(path)}" for path in files))


def chat_text(answer: object, url: str) -> str:
    """What a chat completion says.

    Raises:
        InputError: it is none.
    """
    return _text(answer, ("choices", 0, "message", "content"), url)


def _text(answer: object, path: tuple[str | int, ...], url: str) -> str:
    found: object = answer
    try:
        for part in path:
            found = found[part]  # pyright: ignore[reportIndexIssue]
    except (KeyError, IndexError, TypeError):
        raise InputError(
            f"{url}: the answer has no {'.'.join(map(str, path))}, so it is none of the OpenAI form."
        ) from None
    return "" if found is None else str(found)

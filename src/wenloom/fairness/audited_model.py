"""A model under audit: what gives probabilities, what writes and what makes vectors, each loaded when it is needed; or a model that
is served elsewhere, which gives the first two."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import torch

from wenloom.checkpoint.folder import load_decoder, load_model, load_tokenizer
from wenloom.core.errors import InputError
from wenloom.core.hardware import probe
from wenloom.evaluation.evaluated_model import NamedModel, RemoteModel, WrittenText, fingerprint_of
from wenloom.evaluation.perplexity import data_hash
from wenloom.evaluation.scorer import Scorer
from wenloom.evaluation.scorers import scorer_of
from wenloom.generation.engine import Engine
from wenloom.generation.request import GenerationRequest
from wenloom.model.build import Model
from wenloom.model.decoder import Decoder
from wenloom.model.encoder_decoder import EncoderDecoder
from wenloom.model.packed import packed
from wenloom.runtime.embedder import Embedder, load_embedder
from wenloom.runtime.window import view_of
from wenloom.tokens.tokenizer import TextTokenizer

_SLOTS = 32
_AT_ONCE = 64
"""Texts that are handed to the engine, or asked of a server, together."""


class AskedModel(NamedModel, Protocol):
    """What audits ask of a model."""

    @property
    def scorer(self) -> Scorer:
        """What gives texts log-probabilities."""
        ...

    @property
    def why_no_scores(self) -> str | None:
        """Why probabilities of texts say nothing of it; None where they do."""
        ...

    @property
    def embedder(self) -> Embedder:
        """What makes vectors of texts, where it has no reason not to."""
        ...

    @property
    def why_no_vectors(self) -> str | None:
        """Why it has no vectors of texts that could be compared; None where it has."""
        ...

    @property
    def writes(self) -> bool:
        """Whether it continues its prompt."""
        ...

    def write(
        self, prompts: Sequence[str], request: GenerationRequest, on_texts: Callable[[int], None] = lambda n: None
    ) -> list[WrittenText]:
        """What it writes after each prompt.

        Args:
            on_texts: told how many are done.
        """
        ...


@dataclass(frozen=True)
class AuditedModel:
    """A folder, and what it gives.

    Args:
        name: how the user calls it.
        device: auto, cpu, cuda, ...
    """

    name: str
    folder: Path
    device: str = "auto"

    @cached_property
    def model(self) -> Model:
        """In evaluation mode, in the numbers that it is stored in."""
        return load_model(self.folder, probe(self.device).device).eval()

    @cached_property
    def tokenizer(self) -> TextTokenizer:
        """Its tokenizer."""
        return load_tokenizer(self.folder)

    @property
    def scorer(self) -> Scorer:
        """What gives texts log-probabilities.

        Raises:
            InputError: an encoder that cannot fill in masks.
        """
        return self._scorer

    @cached_property
    def _scorer(self) -> Scorer:
        return scorer_of(packed(self.model) if isinstance(self.model, Decoder) else self.model, self.tokenizer)

    @property
    def why_no_scores(self) -> str | None:
        """A model that hears reads no text; of all others they do."""
        hears = isinstance(self.model, EncoderDecoder) and self.model.config.hears
        return "it hears sound, and the texts of an audit are read" if hears else None

    @property
    def embedder(self) -> Embedder:
        """What makes vectors of texts.

        Raises:
            InputError: a model with an encoder and a decoder.
        """
        return self._embedder

    @cached_property
    def _embedder(self) -> Embedder:
        return load_embedder(self.folder, probe(self.device).device, torch.float32)

    @property
    def fingerprint(self) -> str:
        """Of weights, configuration and tokenizer."""
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        return fingerprint_of(self.folder)

    @property
    def n_parameters(self) -> int | None:
        """All of them."""
        return self.model.n_parameters()

    @property
    def why_no_vectors(self) -> str | None:
        """See `AskedModel`."""
        return "one with an encoder and a decoder has two of them" if isinstance(self.model, EncoderDecoder) else None

    @property
    def writes(self) -> bool:
        """Whether it continues its prompt."""
        return isinstance(self.model, Decoder) and not self.model.config.labels

    def write(
        self, prompts: Sequence[str], request: GenerationRequest, on_texts: Callable[[int], None] = lambda n: None
    ) -> list[WrittenText]:
        """See `AskedModel`."""
        assert isinstance(self.model, Decoder)
        return _written(Engine(self.model, self.tokenizer, max_slots=_SLOTS), prompts, request, on_texts)


@dataclass(frozen=True)
class DecodedModel:
    """A model that writes by another rule; the probabilities that it gives texts stay as they are.

    Args:
        how: the rule, for people.
        options: of every request.
        other: folder of the model that it writes in contrast to.
    """

    base: AuditedModel
    how: str
    options: Mapping[str, Any]
    other: Path | None = None

    @property
    def name(self) -> str:
        """The model's, and the rule."""
        return f"{self.base.name} ({self.how})"

    @property
    def fingerprint(self) -> str:
        """Of the model, the rule, and the other model."""
        other = "" if self.other is None else fingerprint_of(self.other)
        return data_hash(f"{self.base.fingerprint} {sorted(self.options.items())} {other}")

    @property
    def n_parameters(self) -> int | None:
        """The model's."""
        return self.base.n_parameters

    @property
    def scorer(self) -> Scorer:
        """The model's."""
        return self.base.scorer

    @property
    def why_no_scores(self) -> str | None:
        """See `AskedModel`."""
        return f"{self.how} acts while a model writes, and changes no probability of a text"

    @property
    def embedder(self) -> Embedder:
        """The model's."""
        return self.base.embedder

    @property
    def why_no_vectors(self) -> str | None:
        """See `AskedModel`."""
        return f"{self.how} acts while a model writes, and changes no vector"

    @property
    def writes(self) -> bool:
        """Whether the model does."""
        return self.base.writes

    def write(
        self, prompts: Sequence[str], request: GenerationRequest, on_texts: Callable[[int], None] = lambda n: None
    ) -> list[WrittenText]:
        """See `AskedModel`.

        Raises:
            InputError: the other model has another vocabulary.
        """
        model = self.base.model
        assert isinstance(model, Decoder)
        other = None if self.other is None else load_decoder(self.other, str(model.embed.weight.device)).eval()
        engine = Engine(model, self.base.tokenizer, draft_model=other, max_slots=_SLOTS)
        return _written(engine, prompts, replace(request, **self.options), on_texts)


def _written(
    engine: Engine, prompts: Sequence[str], request: GenerationRequest, on_texts: Callable[[int], None]
) -> list[WrittenText]:
    """32 texts side by side; of each, how much was out of the model's sight when its last token was written."""
    written: list[WrittenText] = []
    for start in range(0, len(prompts), _AT_ONCE):
        part = prompts[start : start + _AT_ONCE]
        for job in [engine.submit(each, request, start + place) for place, each in enumerate(part)]:
            engine.run([job])
            made = job.result()[0]
            last = view_of(engine.decoder.config, len(job.prompt) + max(0, len(made.tokens) - 1))
            written.append(WrittenText(made.text, last.first))
            on_texts(1)
    return written


@dataclass(frozen=True)
class ServedAuditedModel:
    """A model that is asked over the OpenAI API: it gives probabilities of texts, where its server does, and writes."""

    remote: RemoteModel

    @property
    def name(self) -> str:
        """The model's at its server."""
        return self.remote.name

    @property
    def fingerprint(self) -> str:
        """See `RemoteModel`."""
        return self.remote.fingerprint

    @property
    def n_parameters(self) -> int | None:
        """Not known."""
        return self.remote.n_parameters

    @property
    def scorer(self) -> Scorer:
        """See `AskedModel`."""
        return self._scorer

    @cached_property
    def _scorer(self) -> Scorer:
        return self.remote.scorer()

    @property
    def why_no_scores(self) -> str | None:
        """None: whether its server gives them is seen when it is asked."""
        return None

    @property
    def embedder(self) -> Embedder:
        """
        Raises:
            InputError: always: see `why_no_vectors`.
        """
        raise InputError(f"vectors are compared, and {self.why_no_vectors}.")

    @property
    def why_no_vectors(self) -> str | None:
        """See `AskedModel`."""
        return "those inside a model that is served elsewhere are not seen"

    @property
    def writes(self) -> bool:
        """Whatever is served continues its prompt."""
        return True

    def write(
        self, prompts: Sequence[str], request: GenerationRequest, on_texts: Callable[[int], None] = lambda n: None
    ) -> list[WrittenText]:
        """See `AskedModel`; the request's seed is added to the number of each prompt."""
        written: list[WrittenText] = []
        for start in range(0, len(prompts), _AT_ONCE):
            part = prompts[start : start + _AT_ONCE]
            numbered = [((request.seed or 0) + start + place, each) for place, each in enumerate(part)]
            written += self.remote.write(numbered, request)
            on_texts(len(part))
        return written

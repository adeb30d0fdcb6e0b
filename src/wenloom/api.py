"""Wenloom from Python: models that write, and models that make vectors of texts."""

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wenloom.checkpoint.adapter import with_adapter
from wenloom.checkpoint.folder import load_decoder, load_tokenizer, read_config
from wenloom.checkpoint.hub import resolve
from wenloom.checkpoint.sentence import MODULES
from wenloom.checkpoint.steering import SteeringVector, load_steering
from wenloom.core.console import remark
from wenloom.core.errors import InputError
from wenloom.core.hardware import number_type, probe
from wenloom.evaluation.scorer import Score, Windows
from wenloom.evaluation.scorers import DecoderScorer
from wenloom.generation.engine import Engine
from wenloom.generation.jobs import Continuation, Job
from wenloom.generation.next_tokens import most_probable
from wenloom.generation.request import request_from
from wenloom.model.decoder import Decoder
from wenloom.model.quantize import parse_bits
from wenloom.runtime.embedder import Embedder, load_embedder
from wenloom.tasks.speech.transcriber import Transcriber
from wenloom.tokens.tokenizer import TextTokenizer


@dataclass(frozen=True)
class LanguageModel:
    """A model and its tokenizer.

    ```python
    model = wenloom.load("runs/quickstart")
    print(model.generate("ROMEO:", max_new_tokens=100, seed=1))
    ```
    """

    decoder: Decoder
    tokenizer: TextTokenizer
    draft_model: Decoder | None = None
    """A smaller model with the same vocabulary, for drafts and contrastive decoding."""
    cache_dtype: torch.dtype | None = None
    """Number type of keys and values, see `Engine`."""
    adapters: Mapping[str, Decoder] = field(default_factory=dict)
    """The model with adapters, by the names that requests choose them by."""
    steering: Mapping[str, SteeringVector] = field(default_factory=dict)
    """Steering vectors, by the names that requests choose them by."""

    @functools.cached_property
    def embedder(self) -> Embedder:
        """What makes vectors of texts: the mean over their tokens, brought to length 1."""
        return Embedder(self.decoder, self.tokenizer)

    def embed(self, texts: str | Sequence[str], **options: Any) -> "np.ndarray[Any, np.dtype[np.float32]]":
        """Vectors of texts, an array (texts, D); options as in `Embedder.embed`."""
        return self.embedder.embed(texts, **options)

    @functools.cached_property
    def engine(self) -> Engine:
        """What runs requests, many at once."""
        return Engine(
            self.decoder, self.tokenizer, draft_model=self.draft_model, adapters=self.adapters, max_slots=_MAX_SLOTS,
            steering=self.steering, cache_dtype=self.cache_dtype,
        )  # fmt: skip

    def generate(self, prompt: str = "", **options: Any) -> str:
        """What the model writes after `prompt` (which `echo` repeats); options as in `GenerationRequest`."""
        return "".join(self.stream(prompt, **options))

    def stream(self, prompt: str = "", **options: Any) -> Iterator[str]:
        """What `generate` gives, piece by piece as it is written."""
        request = request_from(options)
        if request.num_return_sequences != 1:
            raise InputError("one call writes one continuation; `complete` gives several.")
        job = self.engine.submit(prompt, request)
        self.say_unseen([job])
        return (event.text for event in self.engine.stream(job) if event.text)

    def complete(self, prompts: str | Sequence[str], **options: Any) -> list[list[Continuation]]:
        """Continuations of many prompts, read and written side by side; per prompt `num_return_sequences` of them.

        With a seed, a prompt's continuations depend on its place in the list, not on the other prompts. One of
        several prompts that fails does so alone: its continuations have the finish reason "error" and say why.

        Raises:
            InputError: the options are wrong, or no prompt can be answered.
        """
        request = request_from(options)
        many = [prompts] if isinstance(prompts, str) else list(prompts)
        jobs = [self.engine.attempt(prompt, request, index) for index, prompt in enumerate(many)]
        try:
            self.say_unseen(jobs)
            self.engine.run(jobs)
        finally:
            for job in jobs:
                if not job.done:
                    self.engine.cancel(job)
        if jobs and all(job.error is not None for job in jobs):
            jobs[0].result()
        return [job.continuations for job in jobs]

    def say_unseen(self, jobs: Sequence[Job]) -> None:
        """Tell of prompts that are longer than the model's context."""
        if some := [job for job in jobs if job.unseen]:
            longest = max(len(job.prompt) for job in some)
            which = "the prompt has" if len(some) == 1 else f"{len(some):,} prompts are too long: up to"
            remark(f"({which} {longest:,} tokens, the model sees {self.decoder.config.context_length:,}: it goes on "
                   'without the beginning; on_overflow "error" refuses this)')  # fmt: skip

    def next(self, prompt: str = "", count: int = 10) -> list[tuple[str, float]]:
        """The most probable next tokens and their probabilities, best first."""
        return [
            (self.tokenizer.decode([each.token]), each.probability)
            for each in most_probable(self.decoder, self.tokenizer.prompt_ids(prompt), count)
        ]

    def score(self, text: str, stride: int | None = None, bos: bool = True) -> Score:
        """The log-probability of a text; see `evaluation.perplexity.score`."""
        return DecoderScorer(self.decoder, self.tokenizer).text(text, Windows(stride, bos))


_MAX_SLOTS = 64
"""Texts that are under way at a time; room for them is taken as they come."""


def makes_vectors(folder: Path) -> bool:
    """Whether a folder's model is for making vectors of texts: an encoder, or whatever is a folder of sentence-transformers.

    Raises:
        CheckpointError: it is not a model.
    """
    return (folder / MODULES).exists() or read_config(folder).kind == "encoder"


def hears(folder: Path) -> bool:
    """Whether a folder's model writes down what it hears.

    Raises:
        CheckpointError: it is not a model.
    """
    return not (folder / MODULES).exists() and read_config(folder).hears


def refuse_of_vectors(folder: Path, given: Mapping[str, object]) -> None:
    """
    Args:
        given: options of models that write, by the names under which they were given.

    Raises:
        InputError: one has a value; a model that makes vectors has no use for it.
    """
    if wrong := next((option for option, value in given.items() if value), None):
        raise InputError(f"{wrong}: {folder} makes vectors of texts; the option is for models that write.")


def load(
    name: str | Path,
    device: str = "auto",
    dtype: str | torch.dtype = "float32",
    draft_model: str | Path | None = None,
    quantize: str | None = None,
    kv_cache: str | torch.dtype | None = None,
    adapters: Sequence[str | Path] | Mapping[str, str | Path] = (),
    steering: Sequence[str | Path] | Mapping[str, str | Path] = (),
) -> LanguageModel | Any:
    """Read a model folder, or a hub model by its name.

    Returns:
        A `LanguageModel`; an `Embedder`, whose `embed` makes vectors, of an encoder and of a folder of sentence-transformers;
        a `Transcriber`, whose `transcribe` writes down recordings, of a folder of the family whisper.
        (`Any` in the type spares callers who know their model a question.)
    """
    folder = resolve(name)
    if hears(folder):
        return Transcriber.load(folder, probe(device).device, number_type(dtype))
    if not makes_vectors(folder):
        return load_writer(folder, device, dtype, draft_model, quantize, kv_cache, adapters, steering)
    given = {
        "draft_model": draft_model,
        "quantize": quantize,
        "kv_cache": kv_cache,
        "adapters": adapters,
        "steering": steering,
    }
    refuse_of_vectors(folder, given)
    return load_embedder(folder, probe(device).device, number_type(dtype))


def load_writer(
    name: str | Path,
    device: str = "auto",
    dtype: str | torch.dtype = "float32",
    draft_model: str | Path | None = None,
    quantize: str | None = None,
    kv_cache: str | torch.dtype | None = None,
    adapters: Sequence[str | Path] | Mapping[str, str | Path] = (),
    steering: Sequence[str | Path] | Mapping[str, str | Path] = (),
) -> LanguageModel:
    """Read a model that writes.

    Args:
        name: a folder, or `owner/model`.
        device: auto, cpu, cuda or mps.
        dtype: float32, bfloat16, float16, or float64 for exact scores.
        draft_model: a smaller model with the same vocabulary, see `LanguageModel.draft_model`.
        quantize: int8 or int4 quantizes the weights while loading, see `model.quantize`.
        kv_cache: number type of keys and values, float32, bfloat16, float16 or int8; None: that of the weights, or
            bfloat16 where these are quantized.
        adapters: folders of adapters; a request chooses one by its folder's name, as in
            `model.generate(prompt, adapter="poems")`. A mapping gives them other names.
        steering: files of steering vectors; a request chooses one by its file's name without .safetensors, as in
            `model.generate(prompt, steer={"calm": 2.0})`. A mapping gives them other names.

    Raises:
        InputError: an unknown number type or quantization, two adapters or vectors of one name, or no such file.
        CheckpointError: see `checkpoint.folder.load_decoder`, `checkpoint.adapter.load_adapter`,
            `checkpoint.steering.load_steering` and `checkpoint.hub.resolve`.
    """
    if isinstance(adapters, str | Path):
        adapters = [adapters]
    vectors = {name: load_steering(Path(file)) for name, file in _by_name(steering).items()}
    folder = resolve(name)
    where, kind = probe(device).device, number_type(dtype)
    second = None if draft_model is None else load_decoder(resolve(draft_model), where, kind)
    decoder = load_decoder(folder, where, kind, None if quantize is None else parse_bits(quantize))
    cache_dtype = None if kv_cache is None else torch.int8 if kv_cache == "int8" else number_type(kv_cache, "kv_cache")
    if isinstance(adapters, Mapping):
        named = {name: resolve(path) for name, path in adapters.items()}
    else:
        named = {path.name: path for path in map(resolve, adapters)}
    if len(named) < len(adapters):
        raise InputError("adapters are chosen by the names of their folders: give them different names.")
    adapted = {each: with_adapter(decoder, path) for each, path in named.items()}
    return LanguageModel(decoder, load_tokenizer(folder), second, cache_dtype, adapted, vectors)


def _by_name(files: Sequence[str | Path] | Mapping[str, str | Path]) -> dict[str, str | Path]:
    """Files of steering vectors by their names."""
    if isinstance(files, Mapping):
        return dict(files)
    listed = [files] if isinstance(files, str | Path) else list(files)
    named = {Path(each).name.removesuffix(".safetensors"): each for each in listed}
    if len(named) < len(listed):
        raise InputError("steering vectors are chosen by the names of their files: give them different names.")
    return named

"""What decodes in `generation.py`: one class for each engine, all driven token by token by the same clock.

An engine reads prompts and gives the next token of every text under way at each call of `step`. Times are taken of every
single step; no figure is a difference of two runs.
"""

import ctypes
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from rounds import report_round, seconds_of

NEW, PROMPT, PREFILLS, STREAMS, PREFIX, SLOTS = 96, 64, (512, 4096), 16, 1000, 512
"""Tokens written after a prompt of so many; prompts whose reading is timed; texts at once; a prefix that is known; room a text."""


class DecodingEngine(Protocol):
    """A model that continues texts."""

    def begin(self, prompts: Sequence[Sequence[int]]) -> None:
        """Read prompts, forgetting those before; each has its first token then."""
        ...

    def step(self) -> None:
        """Give each text its next token, the most likely one."""
        ...

    def tokens(self) -> list[int]:
        """What the first text was given so far."""
        ...


class Wenloom:
    """The engine of `wenloom generate` and `serve`."""

    batches = True

    def __init__(self, folder: Path, kind: str):
        import torch

        from wenloom.checkpoint.folder import load_decoder
        from wenloom.generation.engine import Engine
        from wenloom.runtime.native import compiler

        dtype = torch.bfloat16 if kind == "bf16" else torch.float32
        self._decoder = load_decoder(folder, dtype=dtype, bits={"int8": 8, "int4": 4}.get(kind))  # pyright: ignore
        self._engine, self._jobs = Engine(self._decoder, prefix_bytes=0), []
        self.begin([[7] * 16])
        self.first_token = time.perf_counter()
        compiler.library(None)  # waits for the compiled step

    def begin(self, prompts: Sequence[Sequence[int]]) -> None:
        from wenloom.generation.request import GenerationRequest

        for job in self._jobs:
            self._engine.cancel(job)
        request = GenerationRequest(do_sample=False, max_new_tokens=10**6, eos_token_id=())
        self._jobs = [self._engine.submit(list(ids), request) for ids in prompts]
        while any(not job.result()[0].tokens for job in self._jobs):
            self._engine.step()

    def step(self) -> None:
        self._engine.step()

    def tokens(self) -> list[int]:
        return self._jobs[0].result()[0].tokens

    def prefix_gain(self, prompt: list[int]) -> float:
        """How many times sooner the first token comes where the prompt's beginning is known."""
        from wenloom.generation.engine import Engine

        self._engine = Engine(self._decoder, chunk=PREFIX)
        self._jobs = []
        cold = seconds_of(lambda: self.begin([prompt]))
        return cold / statistics.median(
            seconds_of(lambda last=last: self.begin([[*prompt, last]])) for last in range(5, 10)
        )


class Transformers:
    """`transformers`, by its own cache, one forward pass a token."""

    batches = False

    def __init__(self, folder: Path, kind: str):
        import torch
        from transformers import AutoModelForCausalLM

        self._torch = torch
        dtype = torch.bfloat16 if kind == "bf16" else torch.float32
        self._model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
        self._tokens: list[int] = []
        self._cache: Any = None
        self.begin([[7] * 16])
        self.first_token = time.perf_counter()

    def begin(self, prompts: Sequence[Sequence[int]]) -> None:
        (ids,) = prompts
        self._cache, self._tokens = None, []
        self._read(list(ids))

    def step(self) -> None:
        self._read(self._tokens[-1:])

    def _read(self, ids: list[int]) -> None:
        with self._torch.inference_mode():
            tensor = self._torch.tensor([ids])
            found = self._model(tensor, past_key_values=self._cache, use_cache=True, logits_to_keep=1)
        self._cache = found.past_key_values
        self._tokens.append(int(found.logits[0, -1].argmax()))

    def tokens(self) -> list[int]:
        return self._tokens


class LlamaCpp:
    """llama.cpp through its C interface: as many sequences in a batch as there are texts, which is what its server does."""

    batches = True

    def __init__(self, folder: Path, kind: str):
        import llama_cpp as library  # pyright: ignore[reportMissingImports]

        self._library = library
        library.llama_log_set(_silent(library), ctypes.c_void_p(0))
        library.llama_backend_init()
        path = folder / f"model-{kind}.gguf"
        self._model = library.llama_model_load_from_file(str(path).encode(), library.llama_model_default_params())
        self._context, self._made_for = None, (0, 0)
        self._vocabulary = library.llama_vocab_n_tokens(library.llama_model_get_vocab(self._model))
        self._batch = library.llama_batch_init(2**13, 0, 1)
        self._lengths: list[int] = []
        self._last: list[int] = []
        self._tokens: list[int] = []
        self.begin([[7] * 16])
        self.first_token = time.perf_counter()

    def begin(self, prompts: Sequence[Sequence[int]]) -> None:
        library = self._library
        wanted = (len(prompts), max(SLOTS, max(map(len, prompts)) + NEW + 8))
        if self._made_for != wanted:
            if self._context is not None:
                library.llama_free(self._context)
            settings = library.llama_context_default_params()
            settings.n_seq_max, settings.n_ctx = wanted[0], wanted[0] * wanted[1]
            settings.n_batch = settings.n_ubatch = 512
            settings.n_threads = settings.n_threads_batch = 2
            self._context, self._made_for = library.llama_init_from_model(self._model, settings), wanted
        library.llama_memory_clear(library.llama_get_memory(self._context), True)
        self._lengths, self._last, self._tokens = [0] * len(prompts), [0] * len(prompts), []
        for text, ids in enumerate(prompts):
            for start in range(0, len(ids), 512):
                part = list(ids[start : start + 512])
                self._decode([(token, text) for token in part], wanted=[len(part) - 1])
            self._last[text] = self._best(-1)
        self._tokens.append(self._last[0])

    def step(self) -> None:
        texts = range(len(self._lengths))
        self._decode([(self._last[text], text) for text in texts], wanted=texts)
        self._last = [self._best(text) for text in texts]
        self._tokens.append(self._last[0])

    def _decode(self, rows: list[tuple[int, int]], wanted: Sequence[int]) -> None:
        batch = self._batch
        batch.n_tokens = len(rows)
        for row, (token, text) in enumerate(rows):
            batch.token[row], batch.pos[row], batch.n_seq_id[row] = token, self._lengths[text], 1
            batch.seq_id[row][0], batch.logits[row] = text, row in wanted
            self._lengths[text] += 1
        if self._library.llama_decode(self._context, batch) != 0:
            raise RuntimeError("llama_decode")

    def _best(self, row: int) -> int:
        logits = self._library.llama_get_logits_ith(self._context, row)
        return int(np.ctypeslib.as_array(logits, shape=(self._vocabulary,)).argmax())

    def tokens(self) -> list[int]:
        return self._tokens


def _silent(library: Any) -> Any:
    silent = library.llama_log_callback(lambda _level, _text, _data: None)
    LlamaCpp.kept_alive = silent  # pyright: ignore[reportAttributeAccessIssue]
    return silent


class CTranslate2:
    """CTranslate2's generator, whose iterator gives tokens one by one."""

    batches = False

    def __init__(self, folder: Path, kind: str):
        import ctranslate2  # pyright: ignore[reportMissingImports]

        made = folder / f"ct2-{kind}"
        if not made.exists():
            from ctranslate2.converters import TransformersConverter  # pyright: ignore[reportMissingImports]

            precision = "int8" if kind == "int8" else "float32"
            TransformersConverter(str(folder)).convert(str(made), quantization=precision)
        self._model = ctranslate2.Generator(str(made), device="cpu", intra_threads=2)
        table: dict[str, int] = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
        self._words = {number: word for word, number in table.items()}
        self._tokens: list[int] = []
        self.begin([[7] * 16])
        self.first_token = time.perf_counter()

    def begin(self, prompts: Sequence[Sequence[int]]) -> None:
        (ids,) = prompts
        words = [self._words[each] for each in ids]
        self._steps = self._model.generate_tokens(words, max_length=10**4, sampling_topk=1, end_token=[])
        self._tokens = []
        self.step()

    def step(self) -> None:
        self._tokens.append(next(self._steps).token_id)

    def tokens(self) -> list[int]:
        return self._tokens


ENGINES: dict[str, Callable[[Path, str], Any]] = {
    "wenloom": Wenloom, "wenloom_gpt2": Wenloom, "hf": Transformers, "llamacpp": LlamaCpp, "ct2": CTranslate2,
}  # fmt: skip


def prompt(vocabulary: int, length: int, seed: int = 0) -> list[int]:
    """Drawn tokens, none of them among the first, which are special in many vocabularies."""
    return np.random.default_rng(seed).integers(300, vocabulary, length).tolist()


def step_seconds(engine: DecodingEngine, prompts: Sequence[Sequence[int]]) -> float:
    """Median over single steps, the first few left out."""
    engine.begin(prompts)
    return statistics.median([seconds_of(engine.step) for _ in range(NEW)][4:])


def measure(folder: Path, contestant: str) -> tuple[dict[str, float], dict[str, Any]]:
    """All figures of an engine, in tokens a second."""
    family, kind = contestant.split("-")
    settings = json.loads((folder / "config.json").read_text())
    vocabulary, context = settings["vocab_size"], settings.get("max_position_embeddings") or settings["n_positions"]
    started = time.perf_counter()
    engine = ENGINES[family](folder, kind)
    more: dict[str, Any] = {"ready": engine.first_token - started}
    figures = {"decode": 1 / step_seconds(engine, [prompt(vocabulary, PROMPT)])}
    more["tokens"] = engine.tokens()[:8]
    for length in PREFILLS:
        if length + NEW <= context:
            text = [prompt(vocabulary, length)]
            engine.begin(text)
            times = [seconds_of(partial(engine.begin, text)) for _ in range(3)]
            figures[f"prefill {length}"] = length / statistics.median(times)
    if engine.batches:
        lengths = np.linspace(16, 200, STREAMS).astype(int)
        texts = [prompt(vocabulary, length, seed) for seed, length in enumerate(lengths)]
        figures["streams"] = STREAMS / step_seconds(engine, texts)
    if isinstance(engine, Wenloom):
        more["prefix"] = engine.prefix_gain(prompt(vocabulary, PREFIX))
    return figures, more


if __name__ == "__main__":
    contestant, model_folder = sys.argv[1:]
    report_round(lambda: measure(Path(model_folder), contestant))

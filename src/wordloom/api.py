"""Wordloom from Python: a small interface of its own, and the one transformers users know."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wordloom.checkpoint.folder import GENERATION, load_decoder, save_model
from wordloom.checkpoint.hub import resolve
from wordloom.core.errors import InputError
from wordloom.core.hardware import probe
from wordloom.evaluation.perplexity import Score, score
from wordloom.generation.decode import decode
from wordloom.generation.next_tokens import most_probable
from wordloom.generation.request import GenerationRequest
from wordloom.generation.stream import text_pieces
from wordloom.model.cache import KVCache
from wordloom.model.config import ModelConfig
from wordloom.model.decoder import Decoder
from wordloom.tokens.tokenizer import TextTokenizer


@dataclass(frozen=True)
class LanguageModel:
    """A model and its tokenizer.

    ```python
    model = wordloom.load("runs/quickstart")
    print(model.generate("ROMEO:", max_new_tokens=100, seed=1))
    ```
    """

    decoder: Decoder
    tokenizer: TextTokenizer

    def generate(self, prompt: str = "", **options: Any) -> str:
        """What the model writes after `prompt` (which is not repeated); options as in `GenerationRequest`."""
        return "".join(self.stream(prompt, **options))

    def stream(self, prompt: str = "", **options: Any) -> Iterator[str]:
        """The same, piece by piece as it is written."""
        request = _request(options)
        if request.num_return_sequences != 1:
            raise InputError("one call writes one continuation; call again with another seed for more.")
        ids = self.prompt_ids(prompt)
        tokens = (column[0] for column in decode(self.decoder, [ids], request))
        return text_pieces(self.tokenizer, ids, (token for token in tokens if token is not None), request.stop)

    def next(self, prompt: str = "", count: int = 10) -> list[tuple[str, float]]:
        """The most probable next tokens and their probabilities, best first."""
        return [
            (self.tokenizer.decode([each.token]), each.probability)
            for each in most_probable(self.decoder, self.prompt_ids(prompt), count)
        ]

    def score(self, text: str, stride: int | None = None, bos: bool = True) -> Score:
        """The log-probability of a text; see `evaluation.perplexity.score`."""
        return score(self.decoder, self.tokenizer, text, stride, bos)

    def prompt_ids(self, prompt: str) -> list[int]:
        """Token ids of a prompt; an empty one is the BOS token.

        Raises:
            InputError: an empty prompt for a tokenizer without BOS token.
        """
        ids = self.tokenizer.encode(prompt)
        if not ids and self.tokenizer.bos_token_id is None:
            raise InputError("this tokenizer has no BOS token to begin with: give a prompt.")
        return ids or [self.tokenizer.bos_token_id]  # pyright: ignore[reportReturnType]


def load(name: str | Path, device: str = "auto", dtype: str | torch.dtype = "float32") -> LanguageModel:
    """Read a model folder, or a hub model by its name.

    Args:
        name: a folder, or `owner/model`.
        device: auto, cpu, cuda or mps.
        dtype: float32, bfloat16, float16, or float64 for exact scores.

    Raises:
        CheckpointError: see `checkpoint.folder.load_decoder` and `checkpoint.hub.resolve`.
    """
    folder = resolve(name)
    decoder = load_decoder(folder, probe(device).device, _dtype(dtype))
    return LanguageModel(decoder, TextTokenizer.from_pretrained(folder))


def _request(options: dict[str, Any]) -> GenerationRequest:
    if unknown := sorted(options.keys() - GenerationRequest.__dataclass_fields__.keys()):
        raise InputError(f"generation has no option {', '.join(unknown)}.")
    stop = options.get("stop", ())
    return GenerationRequest(**{**options, "stop": (stop,) if isinstance(stop, str) else tuple(stop)})


def _dtype(name: str | torch.dtype) -> torch.dtype:
    if isinstance(name, torch.dtype):
        return name
    known = {"float64": torch.float64, "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if name not in known:
        raise InputError(f"dtype {name!r}: known are {', '.join(known)}.")
    return known[name]


@dataclass(frozen=True)
class CausalLMOutput:
    """What calling a `CausalLM` gives."""

    logits: Tensor
    """Shape (batch, tokens, vocabulary)."""
    loss: Tensor | None = None
    """Mean cross-entropy, where labels were given."""
    past_key_values: KVCache | None = None
    """The cache, where one was asked for."""


class CausalLM(nn.Module):
    """A decoder with the calling conventions of transformers' `...ForCausalLM`."""

    def __init__(self, decoder: Decoder, generation_defaults: dict[str, Any] | None = None):
        super().__init__()
        self.decoder = decoder
        self._defaults = generation_defaults or {}

    @property
    def config(self) -> ModelConfig:
        """The shape of the model."""
        return self.decoder.config

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Number type of the weights."""
        return next(self.parameters()).dtype

    def num_parameters(self) -> int:
        """Number of weights, tied ones counted once."""
        return self.decoder.n_parameters()

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: KVCache | None = None,
        labels: Tensor | None = None,
        use_cache: bool = False,
    ) -> CausalLMOutput:
        """Logits, and with labels the loss.

        Args:
            input_ids: shape (batch, tokens).
            attention_mask: 1 for tokens, 0 for padding.
            position_ids: default: counted from the first column, padding or not, as transformers does.
            past_key_values: a `KVCache` from an earlier call.
            labels: usually `input_ids` themselves; label i is predicted from the tokens before it, -100
                does not count.
            use_cache: return a cache to go on from.
        """
        cache = past_key_values if past_key_values is not None else KVCache(self.config.n_layers) if use_cache else None
        logits = self.decoder(input_ids, attention_mask, position_ids, cache)
        loss = None
        if labels is not None:
            loss = F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten(), ignore_index=-100)
        return CausalLMOutput(logits, loss, cache)

    @torch.inference_mode()
    def generate(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        *,
        max_length: int | None = None,
        max_new_tokens: int | None = None,
        do_sample: bool | None = None,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        num_return_sequences: int | None = None,
        eos_token_id: int | list[int] | None = None,
        pad_token_id: int | None = None,
        stop_strings: str | list[str] | None = None,
        tokenizer: TextTokenizer | None = None,
        use_cache: bool = True,
        seed: int | None = None,
    ) -> Tensor:
        """Continue every row of `input_ids`, with transformers' names and defaults.

        Greedy unless `do_sample=True`; 20 new tokens unless `max_length` (prompt included) or
        `max_new_tokens` says otherwise. What is left out comes from generation_config.json, then from
        transformers' defaults (temperature 1, top_k 50). Without `seed` the draw follows
        `torch.manual_seed`.

        Args:
            input_ids: shape (batch, tokens); None begins with the BOS token.
            attention_mask: 0 marks padding, on either side. Default: padding is where the pad token stands.
            stop_strings: texts that end a row; needs `tokenizer`. They are kept, as transformers does.

        Returns:
            Token ids, shape (batch * num_return_sequences, tokens): the input and what was written, ended
            rows filled up with the pad token (or end token where there is none).

        Raises:
            InputError: an option is out of range, or the prompt fills `max_length` already.
        """
        config, defaults = self.config, self._defaults
        if input_ids is None:
            if config.bos_token_id is None:
                raise InputError("this model has no BOS token to begin with: give input_ids.")
            input_ids = torch.tensor([[config.bos_token_id]], device=self.device)
        pad = next((p for p in (pad_token_id, config.pad_token_id) if p is not None), None)
        if attention_mask is None:
            is_padding = pad is not None and pad not in config.eos_token_ids and pad != config.bos_token_id
            attention_mask = (input_ids != pad).long() if is_padding else torch.ones_like(input_ids)
        if max_new_tokens is None:
            total, width = max_length or defaults.get("max_length"), input_ids.shape[1]
            max_new_tokens = int(total - width if total else defaults.get("max_new_tokens", 20))
            if max_new_tokens < 1:
                raise InputError(f"the prompt has {width} tokens already: give a larger max_length, or max_new_tokens.")

        def given(value: Any, name: str, default: Any) -> Any:
            return next((each for each in (value, defaults.get(name)) if each is not None), default)

        sample = given(do_sample, "do_sample", False)
        drawing = {
            "temperature": float(given(temperature, "temperature", 1.0)),
            "top_k": given(top_k, "top_k", 50) or None,
            "top_p": given(top_p, "top_p", None),
            "seed": int(torch.randint(2**62, ())) if seed is None else seed,
        }
        request = GenerationRequest(
            max_new_tokens=max_new_tokens,
            do_sample=sample,
            num_return_sequences=given(num_return_sequences, "num_return_sequences", 1),
            use_cache=use_cache,
            top_p=None,
        )
        request = replace(request, **drawing) if sample else request
        if eos_token_id is not None:
            many = eos_token_id if isinstance(eos_token_id, list) else [eos_token_id]
            request = replace(request, eos_token_ids=tuple(many))
        stops = [stop_strings] if isinstance(stop_strings, str) else stop_strings or []
        if stops and tokenizer is None:
            raise InputError("stop_strings needs tokenizer=, to know the text of the tokens.")

        prompts = [row[mask.bool()].tolist() for row, mask in zip(input_ids, attention_mask, strict=True)]
        n_rows = len(prompts) * request.num_return_sequences
        written: list[list[int]] = [[] for _ in range(n_rows)]
        ended = [False] * n_rows
        for column in decode(self.decoder, prompts, request):
            for row, token in enumerate(column):
                if token is None or ended[row]:
                    continue
                written[row].append(token)
                if stops and tokenizer is not None:
                    text = tokenizer.decode(written[row], skip_special_tokens=True)
                    ended[row] = any(stop in text for stop in stops)
            if all(ended):
                break
        endings = config.eos_token_ids if request.eos_token_ids is None else request.eos_token_ids
        filler = pad if pad is not None else next(iter(endings), 0)
        longest = max(map(len, written))
        filled = [row + [filler] * (longest - len(row)) for row in written]
        repeated = input_ids.repeat_interleave(request.num_return_sequences, 0)
        return torch.cat((repeated, torch.tensor(filled, device=input_ids.device)), 1)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write config.json, generation_config.json and the weights into a folder, each in one piece."""
        save_model(self.decoder, Path(folder))


class AutoModelForCausalLM:
    """Loads models under the name transformers users know."""

    @staticmethod
    def from_pretrained(
        name: str | Path,
        *,
        dtype: str | torch.dtype | None = None,
        torch_dtype: str | torch.dtype | None = None,
        device: str = "cpu",
    ) -> CausalLM:
        """Read a model folder, or a hub model by its name; safetensors only, never remote code.

        Args:
            dtype, torch_dtype: number type of the weights; default float32.
        """
        folder = resolve(name)
        kind = next((each for each in (dtype, torch_dtype) if each not in (None, "auto")), torch.float32)
        path = folder / GENERATION
        defaults = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        return CausalLM(load_decoder(folder, device, _dtype(kind or torch.float32)), defaults).eval()


class AutoTokenizer:
    """Loads tokenizers under the name transformers users know."""

    @staticmethod
    def from_pretrained(name: str | Path) -> TextTokenizer:
        """Read the tokenizer of a folder, or of a hub model by its name."""
        return TextTokenizer.from_pretrained(resolve(name))

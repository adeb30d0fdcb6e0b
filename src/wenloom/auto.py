"""Models and tokenizers with the calling conventions that transformers users know."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wenloom.checkpoint.folder import load_decoder, load_tokenizer, save_model
from wenloom.checkpoint.generation import generation_options
from wenloom.checkpoint.hub import resolve
from wenloom.core.console import remark
from wenloom.core.errors import InputError
from wenloom.core.hardware import number_type
from wenloom.generation.engine import Engine
from wenloom.generation.options import Sampling
from wenloom.generation.request import GenerationRequest, request_from
from wenloom.generation.request_types import WrongTypeError, shown, whole
from wenloom.model.cache import KVCache
from wenloom.model.config import ModelConfig
from wenloom.model.decoder import Decoder
from wenloom.tokens.tokenizer import TextTokenizer

_MAX_SLOTS = 64
"""Texts that are under way at a time; room for them is taken as they come."""


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

    def generate(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        *,
        max_length: int | None = None,
        max_new_tokens: int | None = None,
        pad_token_id: int | None = None,
        tokenizer: TextTokenizer | None = None,
        assistant_model: "CausalLM | None" = None,
        **options: Any,
    ) -> Tensor:
        """Continue every row of `input_ids`, with transformers' names and defaults.

        Greedy unless `do_sample=True`; 20 new tokens unless `max_length` (prompt included) or
        `max_new_tokens` says otherwise. What is left out comes from generation_config.json, then from
        transformers' defaults (temperature 1, top_k 50). Without `seed` the draw follows
        `torch.manual_seed`. Several sequences of greedy search, which would all be the same, mean beam search.

        Args:
            input_ids: shape (batch, tokens); None begins with the BOS token.
            attention_mask: 0 marks padding, on either side. Default: padding is where the pad token stands.
            tokenizer: for stop strings (which are kept, as transformers does), grammars and words.
            assistant_model: a smaller model that drafts (5 tokens at a time unless `num_assistant_tokens`).
            options: as in `GenerationRequest`.

        Returns:
            Token ids, shape (batch * num_return_sequences, tokens): the input and what was written, ended
            rows filled up with the pad token (or end token where there is none).

        Raises:
            InputError: an option is unknown, out of range or at odds with another, or the prompt fills
                `max_length` already.
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
            total, width = _number("max_length", max_length or defaults.get("max_length") or 0), input_ids.shape[1]
            max_new_tokens = total - width if total else _number("max_new_tokens", defaults.get("max_new_tokens", 20))
            if max_new_tokens < 1:
                raise InputError(f"the prompt has {width} tokens already: give a larger max_length, or max_new_tokens.")
        request = _as_transformers(options, defaults, max_new_tokens, assistant_model is not None)
        draft_model = None if assistant_model is None else assistant_model.decoder
        width = max(_MAX_SLOTS, request.num_beams)
        engine = Engine(self.decoder, tokenizer, draft_model=draft_model, max_slots=width, prefix_bytes=0)
        prompts = [row[mask.bool()].tolist() for row, mask in zip(input_ids, attention_mask, strict=True)]
        jobs = [engine.submit(prompt, request, index) for index, prompt in enumerate(prompts)]
        engine.run(jobs)
        written = [each.tokens for job in jobs for each in job.result()]
        filler = pad if pad is not None else next(iter(engine.vocabulary.endings(request)), 0)
        longest = max(map(len, written))
        filled = [row + [filler] * (longest - len(row)) for row in written]
        repeated = input_ids.repeat_interleave(request.num_return_sequences, 0)
        return torch.cat((repeated, torch.tensor(filled, device=input_ids.device)), 1)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write config.json, generation_config.json and the weights into a folder, each in one piece."""
        save_model(self.decoder, Path(folder))


def _number(name: str, value: Any) -> int:
    try:
        return whole(value)
    except WrongTypeError as error:
        raise InputError(f"{name} {error}, got {shown(value)}.") from None


def _as_transformers(
    options: dict[str, Any], defaults: dict[str, Any], max_new_tokens: int, drafted: bool
) -> GenerationRequest:
    """A request with transformers' defaults instead of ours."""
    given = {name: value for name, value in options.items() if value is not None}
    if not given.get("do_sample", defaults.get("do_sample", False)):  # a model's defaults for drawing do not hold
        drawing = Sampling.__dataclass_fields__.keys() - ({"top_k"} if "penalty_alpha" in given else set())
        defaults = {name: value for name, value in defaults.items() if name not in drawing}
        mine: dict[str, Any] = {"do_sample": False}
    else:
        mine = {"do_sample": True, "temperature": 1.0, "top_k": 50, "top_p": 1.0, "seed": int(torch.randint(2**62, ()))}
        if "mirostat_tau" in given:
            mine["top_k"] = 0
    if drafted:
        mine["num_assistant_tokens"] = 5
    wanted = {**mine, **defaults, **given, "max_new_tokens": max_new_tokens, "max_length": None}
    n = wanted.get("num_return_sequences", 1)
    if not wanted["do_sample"] and n > 1 and "num_beams" not in given and "num_beams" not in defaults:
        remark(f"num_return_sequences={n} without do_sample: beam search with {n} beams.")
        wanted["num_beams"] = n
    return request_from(wanted)


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
        defaults = generation_options(folder, GenerationRequest.__dataclass_fields__.keys())
        return CausalLM(load_decoder(folder, device, number_type(kind or torch.float32)), defaults).eval()


class AutoTokenizer:
    """Loads tokenizers under the name transformers users know."""

    @staticmethod
    def from_pretrained(name: str | Path) -> TextTokenizer:
        """Read the tokenizer of a folder, or of a hub model by its name."""
        return load_tokenizer(resolve(name))

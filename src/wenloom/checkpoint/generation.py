"""generation_config.json: the tokens that begin and end texts, and how a model's author would have it write."""

import functools
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

from wenloom.checkpoint.families.fields import ConfigFields, shown
from wenloom.checkpoint.families.reference import generation_defaults
from wenloom.core.console import remark
from wenloom.core.errors import CheckpointError, printable
from wenloom.core.foreign import read_json_object
from wenloom.model.config import ModelConfig

GENERATION = "generation_config.json"
_OF_THE_MODEL = frozenset(["bos_token_id", "pad_token_id", "eos_token_id", "decoder_start_token_id"])
"""Tokens, which are part of the model's configuration here."""
_NOT_OF_TEXT = frozenset(
    ["transformers_version", "_from_model_config", "use_cache", "output_attentions", "output_hidden_states",
     "output_scores", "output_logits", "return_dict_in_generate", "cache_implementation", "cache_config",
     "compile_config", "disable_compile", "max_cache_len", "low_memory", "continuous_batching_config",
     "trust_remote_code", "assistant_confidence_threshold", "assistant_early_exit", "assistant_lookbehind",
     "num_assistant_tokens_schedule", "target_lookbehind", "prefill_chunk_size", "is_assistant"]
)  # fmt: skip
"""What changes how fast texts are written or what is told about them, not which."""


def with_token_ids(config: ModelConfig, path: Path) -> ModelConfig:
    """The configuration with the tokens that a generation_config.json names in place of those of config.json.

    Numbers beyond the vocabulary, which transformers' defaults leave in small models, are left out with a remark.

    Raises:
        CheckpointError: it is not JSON object, or what it names is not a token.
    """
    config = _in_vocabulary(config, path.with_name("config.json"))
    if not path.exists():
        return config
    fields = ConfigFields(read_json_object(path, CheckpointError), str(path))
    ids = {name: value for name, value in fields.token_ids().items() if value not in (None, ())}
    start = fields.token_id("decoder_start_token_id")
    if config.encoder is not None:
        encoder = _in_vocabulary(replace(config.encoder, **ids), path)
        config = replace(
            config, encoder=encoder, decoder_start_token_id=config.decoder_start_token_id if start is None else start
        )
    return _in_vocabulary(replace(config, **ids), path)


def _in_vocabulary(config: ModelConfig, path: Path) -> ModelConfig:
    """The configuration without tokens that no text can hold."""
    strange: dict[str, Any] = {}
    for name in ("bos_token_id", "pad_token_id"):
        if (token := getattr(config, name)) is not None and token >= config.vocab_size:
            _say_no_token(path, name, token, config.vocab_size)
            strange[name] = None
    for token in config.eos_token_ids:
        if token >= config.vocab_size:
            _say_no_token(path, "eos_token_id", token, config.vocab_size)
            strange["eos_token_ids"] = tuple(each for each in config.eos_token_ids if each < config.vocab_size)
    if (config.decoder_start_token_id or 0) >= config.vocab_size:
        raise CheckpointError(
            f'{path}: field "decoder_start_token_id": {config.decoder_start_token_id} is not in the vocabulary of '
            f"{config.vocab_size:,} tokens."
        )
    return replace(config, **strange) if strange else config


@functools.cache
def _say_no_token(path: Path, name: str, token: int, vocab_size: int) -> None:
    remark(f"{path}: {name} {token} is not in the vocabulary of {vocab_size:,} tokens: left out.")


def generation_options(folder: Path, known: Collection[str]) -> dict[str, Any]:
    """What a model's author would have of those who write with it; without a generation_config.json what config.json
    says of it, as in transformers.

    Args:
        known: names of the options that the caller understands.

    Raises:
        CheckpointError: it cannot be read, or asks for something that transformers does and the caller does not.
    """
    path, reference = folder / GENERATION, generation_defaults()
    if path.exists():
        raw = read_json_object(path, CheckpointError)
    else:
        path = folder / "config.json"
        raw = read_json_object(path, CheckpointError) if path.exists() else {}
        raw = {name: value for name, value in raw.items() if name in reference}
    asked = {name: value for name, value in raw.items()
             if value is not None and name not in _OF_THE_MODEL and name not in _NOT_OF_TEXT}  # fmt: skip
    for name, value in asked.items():
        if name in reference and name not in known and value != reference[name]:
            raise CheckpointError(
                f'{path}: field "{name}": asks for {shown(value)}, which transformers follows and Wenloom does not have.'
            )
    if unknown := tuple(sorted(name for name in asked if name not in reference and name not in known)):
        _say_unknown(path, unknown)
    return {name: value for name, value in asked.items() if name in known}


@functools.cache
def _say_unknown(path: Path, names: tuple[str, ...]) -> None:
    listed = ", ".join(printable(name, 60) for name in names[:8])
    remark(f"{path}: ignored, as transformers does: {listed}.")

"""A model's shape as the fields of a GGUF file, both ways."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from wenloom.checkpoint.families import FAMILIES
from wenloom.checkpoint.families.rope import rotary_part
from wenloom.checkpoint.gguf.architectures import ARCHITECTURES, OF_FAMILY, Architecture
from wenloom.checkpoint.gguf.fields import GgufFields, NamedFields
from wenloom.checkpoint.gguf.pairs import read_pair, write_pair
from wenloom.checkpoint.gguf.positions import read_scaling, write_scaling
from wenloom.core.errors import CheckpointError, InputError, printable
from wenloom.core.foreign import reading
from wenloom.model.config import ModelConfig, leaves, name_for_users, reshaped
from wenloom.model.parts import Rope

_SIZES = {
    "block_count": "n_layers", "context_length": "context_length", "embedding_length": "d_model",
    "feed_forward_length": "d_mlp", "attention.head_count": "n_heads", "attention.head_count_kv": "n_kv_heads",
    "attention.key_length": "d_head", "attention.value_length": "d_head", "vocab_size": "vocab_size",
}  # fmt: skip
"""Fields of every architecture, and ours."""
_EXPERTS = {"expert_count": "count", "expert_used_count": "active", "expert_feed_forward_length": "d_mlp"}
"""Those of mixtures of experts, and ours."""
_REQUIRED = ("block_count", "context_length", "embedding_length", "feed_forward_length", "attention.head_count")
_WINDOW, _PATTERN = "attention.sliding_window", "attention.sliding_window_pattern"
_NEUTRAL: dict[str, Any] = {
    "expert_count": 0, "expert_used_count": 0, "attention.max_alibi_bias": 8.0,
    "attention.clamp_kqv": 0.0, "tensor_data_layout": "jploski", "rope.scaling.yarn_beta_fast": 32.0,
    "rope.scaling.yarn_beta_slow": 1.0,
}  # fmt: skip
"""Fields that say, with these values, what is the case anyhow."""
_NOT_OF_THE_FUNCTION = (
    "family", "dropout", "initializer_range", "bos_token_id", "eos_token_ids", "pad_token_id",
)  # fmt: skip


def read_shape(
    fields: GgufFields,
    shapes: Mapping[str, tuple[int, ...]],
    factors: Callable[[str], np.ndarray | None],
    tokens: Mapping[str, Any],
    where: Any,
) -> ModelConfig:
    """The shape of the model.

    Args:
        shapes: of all tensors, by name.
        factors: see `positions.read_scaling`.
        tokens: bos_token_id, eos_token_id and pad_token_id, as config.json has them.
        where: the file, for messages.

    Raises:
        CheckpointError: the architecture is not known, or a field is missing, out of bounds or not understood.
    """
    name = fields.architecture
    if name not in ARCHITECTURES:
        raise CheckpointError(
            f'{where}: models of the architecture "{printable(name, 40)}" are not read from GGUF; '
            f"known are {', '.join(ARCHITECTURES)}."
        )
    row, sizes = ARCHITECTURES[name], {key: fields.integer(key) for key in _REQUIRED}
    length, heads, width = sizes["context_length"], sizes["attention.head_count"], sizes["embedding_length"]
    if "token_embd.weight" not in shapes:
        raise CheckpointError(f'{where}: has no tensor "token_embd.weight".')
    first = "enc.blk." if row.is_pair else "blk."
    blocks = {each.removeprefix(first).split(".")[0] for each in shapes if each.startswith(first)}
    if len(blocks) != sizes["block_count"]:
        raise fields.refuse(
            "block_count", f"is {sizes['block_count']:,}, but there are tensors of {len(blocks):,} blocks"
        )
    raw: dict[str, Any] = {"vocab_size": shapes["token_embd.weight"][0], **tokens}
    raw["tie_word_embeddings"] = "output.weight" not in shapes
    if "token_types.weight" in shapes:
        raw["type_vocab_size"] = shapes["token_types.weight"][0]
    for theirs, key in row.names.items():
        if key and (value := fields.value(key)) is not None:
            raw[theirs] = value
    for theirs, key in row.names.items():
        if key == "rope.freq_base":
            raw[theirs] = fields.number(key, 10_000.0)
        elif key == "attention.head_count_kv":
            raw[theirs] = fields.integer(key, heads)
        elif key.startswith("attention.layer_norm"):
            raw[theirs] = fields.number(key)
    raw |= {theirs: f"blk.0.{tensor}" in shapes or f"blk.0.{tensor.replace('attn_q.', 'attn_qkv.')}" in shapes
            for theirs, tensor in row.biases.items()}  # fmt: skip
    raw |= {theirs: cap for theirs, cap in row.caps.items() if theirs not in raw} | dict(row.given)
    d_head = fields.integer("attention.key_length", width // max(1, heads))
    if "num_key_value_heads" in row.names:
        raw["head_dim"] = d_head
    if row.part is not None:
        raw[row.part] = rotary_part(fields.integer("rope.dimension_count", d_head), max(1, d_head))
    if "query_pre_attn_scalar" in row.names:
        is_wide = sizes["block_count"] == row.wide_layers
        raw["query_pre_attn_scalar"] = width // max(1, heads) if is_wide else d_head
    if raw.get("final_logit_softcapping") == 0:
        del raw["final_logit_softcapping"]
    if name == "falcon":
        raw |= _of_falcon(shapes, raw["num_kv_heads"], heads)
    family, more = read_pair(fields, shapes) if row.is_pair else _of_positions(fields, row, raw, factors, sizes)
    raw |= more
    names = {**row.names, "head_dim": "attention.key_length", "sliding_window": _WINDOW, "layer_types": _PATTERN}
    full = {theirs: f"{name}.{key}" for theirs, key in names.items() if key}
    with reading(where, CheckpointError):
        config = FAMILIES[family].read_config(NamedFields({"model_type": family, **raw}, where, full))
    _check_stated(fields, config, length)
    return config


def _of_falcon(shapes: Mapping[str, tuple[int, ...]], n_kv_heads: Any, n_heads: int) -> dict[str, Any]:
    """Which of Falcon's two shapes a model has."""
    has_two = "blk.0.attn_norm_2.weight" in shapes
    return {
        "new_decoder_architecture": has_two or n_kv_heads not in (1, n_heads),
        "num_ln_in_parallel_attn": 2 if has_two else 1,
        "multi_query": n_kv_heads == 1,
    }


def _of_positions(
    fields: GgufFields,
    row: Architecture,
    raw: dict[str, Any],
    factors: Callable[[str], np.ndarray | None],
    sizes: Mapping[str, int],
) -> tuple[str, dict[str, Any]]:
    """The family, and fields of config.json about positions and windows."""
    length, family = sizes["context_length"], row.family
    window = fields.integer(_WINDOW, 4096 if row.name == "gemma2" else 0) if row.interval or row.reads_window else 0
    pattern = fields.value(_PATTERN) if row.interval else None
    if isinstance(pattern, bool):
        pattern = [pattern] * min(sizes["block_count"], 2**16)
    if pattern is not None and not isinstance(pattern, list) and type(pattern) is not int:
        raise fields.refuse(_PATTERN, "must be a truth value for each layer or a whole number")
    if row.name == "olmo2" and window:
        family = "olmo3"
    if row.name == "llama" and window:
        family = "mistral"
    experts: dict[str, Any] = {}
    if row.name == "llama" and fields.integer("expert_count", 0):
        family = "mixtral"
        experts = {"num_local_experts": fields.integer("expert_count"),
                   "num_experts_per_tok": fields.integer("expert_used_count")}  # fmt: skip
    made = row.raw_windows(window, pattern, min(sizes["block_count"], 2**16)) if family != "olmo2" else {}
    made |= experts
    if "rope.freq_base" not in row.names.values():
        return family, made
    name = next(theirs for theirs, key in row.names.items() if key == "rope.freq_base")
    scaling = read_scaling(fields, row, factors, length, raw[name])
    if row.has_local_rope or family == "olmo3":
        theta = raw.pop(name)
        local = fields.number("rope.freq_base_swa", 10_000.0 if row.has_local_rope else theta)
        full = {**(scaling or {"rope_type": "default"}), "rope_theta": theta}
        return family, {
            **made,
            "rope_parameters": {"full_attention": full, "sliding_attention": {"rope_theta": local}},
        }
    if family == "phi3":
        made["original_max_position_embeddings"] = (scaling or {}).get("original_max_position_embeddings", length)
    if (
        family == "gpt_oss"
    ):  # without a word its positions are stretched; llama.cpp rounds, the model was not trained so
        scaling = {**scaling, "truncate": False} if scaling else {"rope_type": "default"}
    return family, {**made, "rope_scaling": scaling}


def _check_stated(fields: GgufFields, config: ModelConfig, length: int) -> None:
    """
    Raises:
        CheckpointError: a field says otherwise than the model that was read, or was not read at all.
    """
    stated: dict[str, Any] = {key: getattr(config, ours) for key, ours in _SIZES.items()}
    stated |= {
        "rope.dimension_count": config.positions.d_rotary,
        "context_length": length,
        "attention.causal": config.causal,
    }
    if config.encoder is not None:
        stated["block_count"] = config.encoder.n_layers
    if config.positions.rope is None:  # some writers state them of models without rotary positions
        stated |= {"rope.dimension_count": config.d_head, "rope.freq_base": 10_000.0}
    if config.mlp.experts is not None:
        stated |= {key: getattr(config.mlp.experts, ours) for key, ours in _EXPERTS.items()}
    for key, value in (_NEUTRAL | stated).items():
        if key in fields and key != "vocab_size" and (found := fields.value(key)) != value:
            raise fields.refuse(
                key, f"{found!r:.40} is not supported, the model that the other fields describe has {value}"
            )
    fields.value("vocab_size")
    if left := fields.left(fields.architecture + "."):
        listed = ", ".join(printable(name, 80) for name in left[:8])
        raise fields.refuse(left[0].removeprefix(fields.architecture + "."),
                            f"is not understood, and may change what the model computes (of this kind: {listed})")  # fmt: skip


def write_shape(config: ModelConfig) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Fields by their full names, and tensors that are no weights.

    Raises:
        InputError: llama.cpp has no such architecture.
    """
    if config.family not in OF_FAMILY or config.labels:
        what = "models that classify texts" if config.labels else f"models of the family {config.family}"
        raise InputError(f"{what} have no place in GGUF; these families do: {', '.join(OF_FAMILY)}.")
    row = ARCHITECTURES[OF_FAMILY[config.family]]
    if not row.groups_queries and config.n_kv_heads != config.n_heads:
        raise InputError(f"llama.cpp's {row.name} has as many heads of keys as of queries, this model "
                         f"{config.n_kv_heads} and {config.n_heads}.")  # fmt: skip
    raw = FAMILIES[config.family].config_json(config)
    made: dict[str, Any] = {key: getattr(config, ours) for key, ours in _SIZES.items()}
    if config.positions.rope is not None:
        made["rope.dimension_count"] = config.positions.d_rotary
    if config.mlp.experts is not None:
        made |= {key: getattr(config.mlp.experts, ours) for key, ours in _EXPERTS.items()
                 if key in row.names.values() or key != "expert_feed_forward_length" or row.name == "gpt-oss"}  # fmt: skip
    for theirs, key in row.names.items():
        if key and key not in made and raw.get(theirs) is not None:
            made[key] = raw[theirs] if isinstance(raw[theirs], bool) else float(raw[theirs])
    if row.interval and config.attention.sliding_window:
        made[_WINDOW] = config.attention.sliding_window
        made[_PATTERN] = [layer in config.attention.sliding_layers for layer in range(config.n_layers)]
    if not config.causal:
        made["attention.causal"] = False
    if row.is_pair:
        made |= write_pair(config)
    scaling, factors = write_scaling(config, row)
    named = {f"{row.name}.{key}": value for key, value in (made | scaling).items()}
    if config.embedding.token_types:
        named["tokenizer.ggml.token_type_count"] = config.embedding.token_types
    return {"general.architecture": row.name, **named}, factors


def check_kept(config: ModelConfig, kept: ModelConfig, architecture: str) -> None:
    """Hold a model's shape against what a reader makes of the fields that were written of it.

    Raises:
        InputError: something is lost: llama.cpp would compute another function.
    """
    row = ARCHITECTURES[architecture]
    same = _with_training_of(kept, config)
    if row.needs_output:
        same = reshaped(same, logits={"tied": config.logits.tied})
    if row.scales_frequencies and config.positions.rope is not None and config.positions.rope.kind == "llama3":
        # the file holds the factors themselves, whatever they were made of
        same = reshaped(same, positions={"rope": config.positions.rope})
    lost = _lost(config, same)
    if config.encoder is not None and same.encoder is not None:
        lost = [f"the encoder's {each}" for each in _lost(config.encoder, same.encoder)] + lost
    if lost:
        said = "; ".join(lost)
        raise InputError(f'GGUF has no words for this model (architecture "{architecture}"): {said}.')


def _with_training_of(kept: ModelConfig, config: ModelConfig) -> ModelConfig:
    """With another's values of fields that do not matter to what is computed."""
    same = replace(kept, **{name: getattr(config, name) for name in _NOT_OF_THE_FUNCTION})
    if same.encoder is None or config.encoder is None:
        return same
    return replace(same, encoder=_with_training_of(same.encoder, config.encoder))


def _lost(config: ModelConfig, same: ModelConfig) -> list[str]:
    """Fields in which two shapes differ, but for the encoder, and both values."""
    return [
        f"{name_for_users(name)} is {_shown(mine)}, llama.cpp would take {_shown(other)}"
        for (name, mine), (_, other) in zip(leaves(config), leaves(same), strict=True)
        if not _is_same(mine, other) and not (isinstance(mine, ModelConfig) and isinstance(other, ModelConfig))
    ]


def _is_same(ours: Any, theirs: Any) -> bool:
    """Equal, but for what is lost of a number with 32 bits."""
    if isinstance(ours, float) and isinstance(theirs, float):
        return bool(np.float32(ours) == np.float32(theirs)) or abs(ours - theirs) <= 1e-6 * abs(ours)
    if isinstance(ours, tuple) and isinstance(theirs, tuple):
        return len(ours) == len(theirs) and all(map(_is_same, ours, theirs))
    if isinstance(ours, Rope) and isinstance(theirs, Rope):
        mine, other = ours.described(), theirs.described()
        return mine.keys() == other.keys() and all(_is_same(mine[name], other[name]) for name in mine)
    return ours == theirs


def _shown(value: Any) -> str:
    if isinstance(value, Rope):
        value = {name: each for name, each in value.described().items() if each is not None}
    return printable(str(value), 120)

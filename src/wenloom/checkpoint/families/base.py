"""What a family is: a map of config fields and a map of tensor names, each read both ways."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from wenloom.core.errors import CheckpointError
from wenloom.model.config import Activation, ModelConfig, Rope

ACTIVATION_NAMES: dict[str, Activation] = {
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_python_tanh": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_accurate": "gelu_tanh",
    "quick_gelu": "quick_gelu",
    "silu": "silu",
    "swish": "silu",
    "relu": "relu",
    "relu2": "relu_squared",
    "tanh": "tanh",
}
"""Hugging Face names of non-linearities to ours; several are one formula in different code."""

HF_ACTIVATIONS: dict[Activation, str] = {
    "gelu": "gelu",
    "gelu_tanh": "gelu_pytorch_tanh",
    "quick_gelu": "quick_gelu",
    "silu": "silu",
    "relu": "relu",
    "relu_squared": "relu2",
    "tanh": "tanh",
}
"""Our names back to the one Hugging Face name that is written."""

BOOKKEEPING = frozenset(
    [
        "model_type",
        "architectures",
        "transformers_version",
        "torch_dtype",
        "dtype",
        "use_cache",
        "_name_or_path",
        "name_or_path",
        "return_dict",
        "output_attentions",
        "output_hidden_states",
        "id2label",
        "label2id",
        "num_labels",
        "problem_type",
        "task_specific_params",
        "gradient_checkpointing",
        "pretraining_tp",
        "transformers.js_config",
        "is_llama_config",
        "chunk_size_feed_forward",
        "classifier_dropout",
        "is_decoder",
        "tokenizer_class",
        "finetuning_task",
        "prefix",
        "sep_token_id",
        "quantization_config",
        "decoder_start_token_id",
        "forced_bos_token_id",
        "forced_eos_token_id",
    ]
)
"""Fields of config.json that do not change what the decoder computes from token ids to logits."""


class ConfigFields:
    """Reads config.json field by field and refuses, by name, what nobody asked for."""

    def __init__(self, raw: dict[str, Any], where: str):
        self._raw, self._where, self._asked = raw, where, set(BOOKKEEPING)

    def refuse(self, field: str, why: str) -> CheckpointError:
        """The error that names one field."""
        return CheckpointError(f'{self._where}: field "{field}": {why}.')

    def __contains__(self, field: str) -> bool:
        """Whether the field is written down, be it as null."""
        return field in self._raw

    def raw(self, field: str) -> Any:
        """The value as it stands, None where absent."""
        self._asked.add(field)
        return self._raw.get(field)

    def integer(self, field: str, default: int | None = None) -> int:
        """A whole number; without a default the field is required."""
        value = self.raw(field)
        value = default if value is None else value
        if value is None:
            raise self.refuse(field, "is missing")
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.refuse(field, f"must be a whole number, got {value!r}")
        return value

    def optional_integer(self, field: str) -> int | None:
        """A whole number or nothing."""
        return None if self.raw(field) is None else self.integer(field)

    def number(self, field: str, default: float) -> float:
        """A number."""
        value = self.raw(field)
        value = default if value is None else value
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise self.refuse(field, f"must be a number, got {value!r}")
        return float(value)

    def flag(self, field: str, default: bool) -> bool:
        """True or false."""
        value = self.raw(field)
        value = default if value is None else value
        if not isinstance(value, bool):
            raise self.refuse(field, f"must be true or false, got {value!r}")
        return value

    def only(self, field: str, *allowed: Any) -> None:
        """A field whose other values change the computation in a way that is not supported."""
        value = self.raw(field)
        if field in self._raw and value not in allowed:
            raise self.refuse(field, f"value {value!r} is not supported (only {', '.join(map(repr, allowed))})")

    def activation(self, field: str, default: str) -> Activation:
        """A non-linearity, translated to our name."""
        value = self.raw(field) or default
        if value not in ACTIVATION_NAMES:
            raise self.refuse(field, f"activation {value!r} is not known (known: {', '.join(ACTIVATION_NAMES)})")
        return ACTIVATION_NAMES[value]

    def token_ids(self) -> dict[str, Any]:
        """bos_token_id, eos_token_ids and pad_token_id as ModelConfig wants them."""
        eos = self.raw("eos_token_id")
        many = eos if isinstance(eos, list) else [] if eos is None else [eos]
        return {
            "bos_token_id": self.optional_integer("bos_token_id"),
            "eos_token_ids": tuple(many),
            "pad_token_id": self.optional_integer("pad_token_id"),
        }

    def labels(self, default: int = 2) -> tuple[str, ...]:
        """The classes of a model that classifies texts; none of a language model."""
        named = self._raw.get("architectures") or [""]
        if not str(named[0]).endswith("ForSequenceClassification"):
            return ()
        names = self._raw.get("id2label")
        if names is None:
            return tuple(f"LABEL_{number}" for number in range(self._raw.get("num_labels") or default))
        if not isinstance(names, dict) or sorted(map(str, names)) != sorted(map(str, range(len(names)))):
            raise self.refuse("id2label", f"must name classes 0, 1, ... one each, got {names!r}")
        return tuple(str(names[str(number)]) for number in range(len(names)))

    def training_only(self, *names: str) -> None:
        """Fields that change what training draws at random, but no logits; not kept."""
        self._asked.update(names)

    def finish(self, encoder_decoder: bool = False) -> None:
        """Refuse what was left unread.

        Raises:
            CheckpointError: names every field that is not understood.
        """
        if encoder_decoder:
            self.only("is_encoder_decoder", True, None)
        for field in ("is_encoder_decoder", "add_cross_attention", "tie_encoder_decoder", "rope_interleaved"):
            if not (encoder_decoder and field == "is_encoder_decoder"):
                self.only(field, False, None)
        left = sorted(name for name, value in self._raw.items() if name not in self._asked and value is not None)
        if left:
            raise CheckpointError(
                f"{self._where}: not understood: {', '.join(left)}. Loading while ignoring a field could "
                "compute something else than the model's author meant, so it is refused."
            )


_ROPE_FIELDS = {
    "factor": "factor",
    "original_max_position_embeddings": "original_context_length",
    "attention_factor": "attention_factor",
    "beta_fast": "beta_fast",
    "beta_slow": "beta_slow",
    "mscale": "mscale",
    "mscale_all_dim": "mscale_all_dim",
    "truncate": "truncate",
    "short_factor": "short_factor",
    "long_factor": "long_factor",
    "low_freq_factor": "low_freq_factor",
    "high_freq_factor": "high_freq_factor",
}
_ROPE_KIND_FIELDS = {
    "default": set(),
    "linear": {"factor"},
    "dynamic": {"factor"},
    "yarn": {
        "factor", "original_max_position_embeddings", "attention_factor", "beta_fast", "beta_slow",
        "mscale", "mscale_all_dim", "truncate",
    },
    "longrope": {
        "factor", "original_max_position_embeddings", "attention_factor", "short_factor", "long_factor",
    },
    "llama3": {"factor", "original_max_position_embeddings", "low_freq_factor", "high_freq_factor"},
}  # fmt: skip
_ROPE_REQUIRED = {
    "linear": {"factor"},
    "dynamic": {"factor"},
    "yarn": {"factor"},
    "longrope": {"short_factor", "long_factor"},
    "llama3": {"factor", "low_freq_factor", "high_freq_factor"},
}


def read_rope(
    fields: ConfigFields, d_head: int, context_length: int, theta: float = 10_000.0, part: float = 1.0
) -> Rope:
    """Rotary settings from `rope_parameters` (transformers 5) or `rope_scaling` and `rope_theta` (before).

    Args:
        theta, part: values from the family's older field names, used where the newer ones are absent.
    """
    theta = fields.number("rope_theta", theta)
    older, newer = fields.raw("rope_scaling"), fields.raw("rope_parameters")
    where = "rope_scaling" if older else "rope_parameters"
    given: dict[str, Any] = dict(older or newer or {})
    kind = given.pop("rope_type", None) or given.get("type", "default")
    given.pop("type", None)
    theta, part = given.pop("rope_theta", None) or theta, given.pop("partial_rotary_factor", None) or part
    if kind not in _ROPE_KIND_FIELDS:
        raise fields.refuse(where, f"rope type {kind!r} is not known (known: {', '.join(_ROPE_KIND_FIELDS)})")
    given = {name: value for name, value in given.items() if value is not None}
    if strange := sorted(given.keys() - _ROPE_KIND_FIELDS[kind] - {"original_max_position_embeddings"}):
        raise fields.refuse(where, f"{', '.join(strange)} not understood for rope type {kind!r}")
    if missing := sorted(_ROPE_REQUIRED.get(kind, set()) - given.keys()):
        raise fields.refuse(where, f"rope type {kind!r} needs {', '.join(missing)}")
    if "original_max_position_embeddings" in _ROPE_KIND_FIELDS[kind]:
        given.setdefault("original_max_position_embeddings", context_length)
    else:
        given.pop("original_max_position_embeddings", None)  # written by some tools for every kind; unused
    d_rotary = int(d_head * part)
    for name in ("short_factor", "long_factor"):
        if name in given:
            if len(given[name]) != d_rotary // 2:
                raise fields.refuse(where, f"{name} needs {d_rotary // 2} numbers, got {len(given[name])}")
            given[name] = tuple(float(value) for value in given[name])
    settings = {_ROPE_FIELDS[name]: value for name, value in given.items()}
    return Rope(d_rotary=d_rotary, theta=float(theta), kind=kind, **settings)


def write_rope(rope: Rope) -> dict[str, Any] | None:
    """The `rope_scaling` field, None for plain rotary positions."""
    if rope.kind == "default":
        return None
    written: dict[str, Any] = {"rope_type": rope.kind}
    for theirs, ours in _ROPE_FIELDS.items():
        value = getattr(rope, ours)
        if theirs in _ROPE_KIND_FIELDS[rope.kind] and value is not None:
            written[theirs] = list(value) if isinstance(value, tuple) else value
    return written


@dataclass(frozen=True)
class TensorMap:
    """One tensor in their file and the one or several of ours that it holds."""

    theirs: str
    ours: tuple[str, ...]
    split: Callable[[Tensor], Sequence[Tensor]] = lambda tensor: (tensor,)
    """Theirs to ours."""
    join: Callable[[Sequence[Tensor]], Tensor] = lambda tensors: tensors[0]
    """Ours to theirs."""


def same(theirs: str, ours: str) -> TensorMap:
    """The same numbers under another name."""
    return TensorMap(theirs, (ours,))


def transposed(theirs: str, ours: str) -> TensorMap:
    """GPT-2 keeps its matrices as (in, out)."""
    return TensorMap(
        theirs, (ours,), lambda tensor: (tensor.T.contiguous(),), lambda tensors: tensors[0].T.contiguous()
    )


def with_bias(make: Callable[[str, str], TensorMap], theirs: str, ours: str, bias: bool) -> list[TensorMap]:
    """A linear layer's weight, and its bias where there is one."""
    maps = [make(f"{theirs}.weight", f"{ours}.weight")]
    return [*maps, same(f"{theirs}.bias", f"{ours}.bias")] if bias else maps


@dataclass(frozen=True)
class Family:
    """One Hugging Face model family."""

    name: str
    """`model_type` in config.json."""
    architecture: str
    """The class transformers builds of a language model, in `architectures`."""
    base_prefix: str
    """Prefix that files saved from the bare model (without its head) leave out."""
    read_config: Callable[[ConfigFields], ModelConfig]
    """config.json to ModelConfig."""
    write_config: Callable[[ModelConfig], dict[str, Any]]
    """ModelConfig to the family's own fields of config.json."""
    tensors: Callable[[ModelConfig], list[TensorMap]]
    """Every tensor of the file."""
    buffers: re.Pattern[str]
    """Names that hold no weights of the model (causal masks, frequencies, heads of another task)."""
    classifier: str | None = None
    """The class that transformers builds of a model with classes; None: it has none of this family."""

    def config_json(self, config: ModelConfig) -> dict[str, Any]:
        """The whole config.json."""
        eos = config.eos_token_ids
        return {
            "architectures": [self.classifier if config.labels else self.architecture],
            "model_type": self.name,
            "vocab_size": config.vocab_size,
            "bos_token_id": config.bos_token_id,
            "eos_token_id": None if not eos else eos[0] if len(eos) == 1 else list(eos),
            "pad_token_id": config.pad_token_id,
            "tie_word_embeddings": config.tie_embeddings,
            "initializer_range": config.initializer_range,
            "torch_dtype": "float32",
            **(
                {
                    "id2label": dict(enumerate(config.labels)),
                    "label2id": {label: number for number, label in enumerate(config.labels)},
                }
                if config.labels
                else {}
            ),
            **self.write_config(config),
        }


def heads_of_decoder(config: ModelConfig) -> list[TensorMap]:
    """What stands over a decoder: an output matrix of its own, or classes."""
    if config.labels:
        return [same("score.weight", "classifier.output.weight")]
    return [] if config.tie_embeddings else [same("lm_head.weight", "head.weight")]


def cat_rows(tensors: Sequence[Tensor]) -> Tensor:
    """Stack matrices or biases along the output dimension."""
    return torch.cat(list(tensors), 0)

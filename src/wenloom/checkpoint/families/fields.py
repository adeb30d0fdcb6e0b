"""Reading a config.json field by field: kinds and ranges of values are checked, what is not understood is named."""

import math
from collections.abc import Mapping
from typing import Any

from wenloom.checkpoint.families.reference import generation_defaults, is_read
from wenloom.core.errors import CheckpointError, printable
from wenloom.model.config import limit
from wenloom.model.parts import Activation

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

_SILENT = frozenset(
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
        "chunk_size_feed_forward",
        "classifier_dropout",
        "initializer_factor",
        "initializer_range",
        "init_std",
        "tokenizer_class",
        "prefix",
        "sep_token_id",
        "quantization_config",
        "decoder_start_token_id",
        "tie_word_embeddings",
    ]
)
"""Fields of config.json that change nothing from token ids to logits, or are looked at by others than the family."""
_CODE = "auto_map"
"""Where a file names code of its own. transformers does not run it either for a family that it knows, unless told to."""


class ConfigFields:
    """Reads config.json field by field; `finish` refuses by name what would change something and nobody asked for.

    Args:
        raw: the content of the file.
        where: the file, for messages.
    """

    def __init__(self, raw: dict[str, Any], where: str):
        self._raw, self._where, self._asked = raw, where, {*_SILENT, *generation_defaults()}
        self.ignored: list[str] = []
        """After `finish`: the fields that the reference implementation does not read either."""

    def ignore(self, field: str) -> None:
        """Note a field that the reference implementation does not read where it stands."""
        self.ignored.append(field)

    def with_value(self, field: str, value: Any) -> "ConfigFields":
        """The same file with another value of one field, for what reads that; what is asked counts here as well."""
        other = ConfigFields(self._raw | {field: value}, self._where)
        other._asked, other.ignored = self._asked, self.ignored
        return other

    def inner(self, field: str, given: Mapping[str, Any], above: Mapping[str, Any]) -> "ConfigFields":
        """The object in a field as a file of its own.

        Args:
            given: what it says where it says nothing.
            above: what it says whatever stands there.

        Raises:
            CheckpointError: the field holds something else.
        """
        raw = self.raw(field)
        raw = {} if raw is None else raw
        if not isinstance(raw, dict):
            raise self.refuse(field, f"must be an object, got {shown(raw)}")
        return ConfigFields({**given, **raw, **above}, f"{self._where}, {field}")

    def refuse(self, field: str, why: str) -> CheckpointError:
        """The error that names one field."""
        return CheckpointError(f'{self._where}: field "{printable(field, 80)}": {why}.')

    def __contains__(self, field: str) -> bool:
        """Whether the field is written down, be it as null."""
        return field in self._raw

    def raw(self, field: str) -> Any:
        """The value as it stands, None where absent."""
        self._asked.add(field)
        return self._raw.get(field)

    def integer(self, field: str, default: int | None = None, least: int = 1, most: int = limit("d_mlp")) -> int:
        """A whole number from `least` to `most`; without a default the field is required."""
        value = self.raw(field)
        value = default if value is None else value
        if value is None:
            raise self.refuse(field, "is missing")
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.refuse(field, f"must be a whole number, got {shown(value)}")
        if not least <= value <= most:
            raise self.refuse(field, f"must be a whole number from {least:,} to {most:,}, got {shown(value)}")
        return value

    def size(self, field: str, ours: str, default: int | None = None) -> int:
        """A size of the model, within the bounds of the field of `ModelConfig` that it becomes."""
        return self.integer(field, default, 1, limit(ours))

    def optional_integer(self, field: str, least: int = 1, most: int = limit("d_mlp")) -> int | None:
        """A whole number or nothing."""
        return None if self.raw(field) is None else self.integer(field, None, least, most)

    def number(self, field: str, default: float, least: float = 0.0, most: float = 1e30) -> float:
        """A finite number from `least` to `most`."""
        value = self.raw(field)
        return checked_number(self, field, default if value is None else value, least, most)

    def share(self, field: str, default: float) -> float:
        """A probability of dropout: from 0 on, less than 1."""
        value = self.number(field, default)
        if value >= 1:
            raise self.refuse(field, f"must be at least 0 and less than 1, got {shown(value)}")
        return value

    def flag(self, field: str, default: bool) -> bool:
        """True or false."""
        value = self.raw(field)
        value = default if value is None else value
        if not isinstance(value, bool):
            raise self.refuse(field, f"must be true or false, got {shown(value)}")
        return value

    def only(self, field: str, *allowed: Any) -> None:
        """A field whose other values change the computation in a way that is not supported."""
        value = self.raw(field)
        fits = any(value is each or (type(value) is type(each) and value == each) for each in allowed)
        if field in self._raw and not fits:
            known = ", ".join(map(repr, allowed))
            raise self.refuse(field, f"value {shown(value)} is not supported (only {known})")

    def activation(self, field: str, default: str) -> Activation:
        """A non-linearity, translated to our name."""
        value = self.raw(field)
        return self.activation_named(field, default if value is None else value)

    def activation_named(self, field: str, name: Any) -> Activation:
        """A non-linearity by a name that was cut out of a field."""
        if not isinstance(name, str) or name not in ACTIVATION_NAMES:
            raise self.refuse(field, f"activation {shown(name)} is not known (known: {', '.join(ACTIVATION_NAMES)})")
        return ACTIVATION_NAMES[name]

    def sizes(
        self,
        names: Mapping[str, str],
        defaults: tuple[int | None, int | None, int | None],
        vocab: int | None = None,
    ) -> dict[str, Any]:
        """The sizes of a model whose heads share its width, as ModelConfig wants them.

        Args:
            names: what the family calls d_model, n_layers and n_heads.
            defaults: of these; None where the file must say.
            vocab: the default of vocab_size.
        """
        width, layers, heads = (names[each] for each in ("d_model", "n_layers", "n_heads"))
        d_model = self.integer(width, defaults[0], most=limit("d_model"))
        n_heads = self.integer(heads, defaults[2], most=limit("n_heads"))
        return {
            "vocab_size": self.integer("vocab_size", vocab, most=limit("vocab_size")),
            "n_layers": self.integer(layers, defaults[1], most=limit("n_layers")),
            "d_model": d_model,
            "n_heads": n_heads,
            "n_kv_heads": n_heads,
            "d_head": self.width_per_head(width, d_model, heads, n_heads),
        }

    def common(self, tied: bool) -> dict[str, Any]:
        """What nearly all families call alike: the output matrix, fresh weights, classes and tokens.

        Args:
            tied: the default of tie_word_embeddings.
        """
        return {
            "logits": {"tied": self.flag("tie_word_embeddings", tied)},
            "initializer_range": self.number("initializer_range", 0.02),
            "labels": self.labels(),
            **self.token_ids(),
        }

    def width_per_head(self, field: str, d_model: int, heads: str, n_heads: int) -> int:
        """d_head of a model whose heads share its width."""
        if d_model % n_heads:
            raise self.refuse(field, f"{d_model} is not a multiple of {heads} ({n_heads})")
        return d_model // n_heads

    def token_id(self, field: str) -> int | None:
        """A token's number or nothing."""
        return self.optional_integer(field, 0, limit("vocab_size") - 1)

    def token_ids(self) -> dict[str, Any]:
        """bos_token_id, eos_token_ids and pad_token_id as ModelConfig wants them."""
        eos = self.raw("eos_token_id")
        many = eos if isinstance(eos, list) else [] if eos is None else [eos]
        if wrong := [each for each in many if not isinstance(each, int) or isinstance(each, bool) or each < 0]:
            raise self.refuse("eos_token_id", f"must be a token's number or several, got {shown(wrong[0])}")
        pad = None if self.raw("pad_token_id") == -1 else self.token_id("pad_token_id")  # how files of Llama 1 say none
        return {"bos_token_id": self.token_id("bos_token_id"), "eos_token_ids": tuple(many), "pad_token_id": pad}

    @property
    def architecture(self) -> str:
        """The class that transformers builds, empty where the file does not say."""
        names = self._raw.get("architectures")
        if names is None or names == []:
            return ""
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise self.refuse("architectures", f"must be a list of names, got {shown(names)}")
        return names[0]

    def has_head(self) -> bool:
        """Whether an encoder has a head for tokens or classes of a text: the file names such a class, or none."""
        known = ("ForMaskedLM", "ForPreTraining", "LMHeadModel", "ForCausalLM", "ForSequenceClassification")
        return not self.architecture or self.architecture.endswith(known)

    def labels(self, default: int = 2) -> tuple[str, ...]:
        """The classes of a model that classifies texts; none of a language model."""
        if not self.architecture.endswith("ForSequenceClassification"):
            return ()
        self.only("problem_type", None, "single_label_classification")
        names, most = self._raw.get("id2label"), limit("labels")
        if names is None:
            return tuple(f"LABEL_{number}" for number in range(self.integer("num_labels", default, 1, most)))
        if not isinstance(names, dict) or not 1 <= len(names) <= most:
            raise self.refuse("id2label", f"must name 1 to {most:,} classes, got {shown(names)}")
        ordered = [names.get(str(number)) for number in range(len(names))]
        if not all(isinstance(name, str | int | float) for name in ordered):
            raise self.refuse("id2label", f"must name classes 0, 1, ... one each, got {shown(names)}")
        return tuple(map(str, ordered))

    def understood(self, *names: str) -> None:
        """Fields that change what training draws at random, or another task's head, but no logits; not kept."""
        self._asked.update(names)

    def finish(self, encoder_decoder: bool = False) -> None:
        """Refuse what was left unread, where the reference implementation reads it.

        Raises:
            CheckpointError: names every field that is not understood.
        """
        if encoder_decoder and self.architecture.endswith("EncoderModel"):
            raise CheckpointError(
                f"{self._where}: holds an encoder only ({self.architecture}); Wenloom reads this family with its decoder."
            )
        self.only("is_encoder_decoder", *((True, None) if encoder_decoder else (False, None)))
        for field in ("add_cross_attention", "tie_encoder_decoder", "rope_interleaved"):
            self.only(field, False, None)
        family = str(self._raw.get("model_type"))
        left = sorted(name for name, value in self._raw.items()
                      if name not in self._asked and value is not None and not _means_nothing(name, value))  # fmt: skip
        unread = [name for name in left if name == _CODE or not is_read(name, family)]
        self.ignored += unread
        if refused := [printable(name, 80) for name in left if name not in unread]:
            raise CheckpointError(
                f"{self._where}: not understood: {', '.join(refused)}. Loading while ignoring a field that transformers "
                "reads could compute something else than the model's author meant, so it is refused."
            )


def _means_nothing(field: str, value: Any) -> bool:
    """Whether a field that the reference reads has a value that changes no logits in a family that does not ask for it:
    which code computes the attention, and that every layer's is over the whole text."""
    if field in ("attn_implementation", "_attn_implementation"):
        return value in ("eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention")
    return field == "layer_types" and isinstance(value, list) and all(kind == "full_attention" for kind in value)


def checked_number(
    fields: ConfigFields, field: str, value: Any, least: float, most: float = 1e30, above: bool = False
) -> float:
    """A finite number from `least` (with `above`: more than it) to `most`.

    Raises:
        CheckpointError: names the field.
    """
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise fields.refuse(field, f"must be a number, got {shown(value)}")
    if not (least < value if above else least <= value) or not value <= most or not math.isfinite(value):
        bound = "more than" if above else "at least"
        raise fields.refuse(field, f"must be {bound} {least:g} and at most {most:g}, got {shown(value)}")
    return float(value)


def shown(value: Any) -> str:
    """A value of a file as a message shows it."""
    return printable(repr(value), 80)

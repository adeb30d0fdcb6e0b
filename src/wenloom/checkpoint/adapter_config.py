"""adapter_config.json of PEFT, read as strictly as config.json: every field is understood, refused or without effect.

What PEFT reads and Wenloom does not compute is refused by name; what PEFT itself does not know changes nothing and is
named in one remark.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from wenloom.core.console import remark
from wenloom.core.errors import CheckpointError, InputError, printable
from wenloom.core.foreign import read_json_object
from wenloom.core.patterns import matches

ADAPTER_CONFIG = "adapter_config.json"

UNDERSTOOD = frozenset(
    [
        "peft_type", "task_type", "r", "lora_alpha", "lora_dropout", "use_dora", "use_rslora", "init_lora_weights",
        "target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "rank_pattern", "alpha_pattern",
        "modules_to_save", "bias", "base_model_name_or_path", "revision",
    ]
)  # fmt: skip
"""Fields that are followed, or refused by their value. `folder.base_of` looks the model up."""
WITHOUT_EFFECT = frozenset(
    [
        "auto_mapping", "peft_version", "inference_mode", "fan_in_fan_out", "megatron_core",
        "loftq_config", "eva_config", "corda_config", "lora_ga_config", "qalora_group_size", "runtime_config",
        "ensure_weight_tying",
    ]
)  # fmt: skip
"""Fields that change no logits of an adapter that is read here.

PEFT corrects `fan_in_fan_out` by the layer it meets; the configurations of initialisations matter only with these,
and those that need one are refused; ties concern embeddings, which are not adapted here.
"""
REFUSED = (
    "megatron_config", "trainable_token_indices", "velora_config", "alora_invocation_tokens", "use_qalora",
    "monteclora_config", "layer_replication", "lora_bias", "target_parameters", "use_bdlora", "arrow_config",
    "kasa_config",
)  # fmt: skip
"""Fields that change what PEFT computes and that are not supported: refused unless false, null or empty."""
_TASKS = ("CAUSAL_LM", "SEQ_2_SEQ_LM", "SEQ_CLS", "FEATURE_EXTRACTION", None)
_PLAIN = ("gaussian", "eva", "orthogonal", "mica")
"""Initialisations that leave the model's own matrices as they are."""


@dataclass(frozen=True)
class PeftLora:
    """An adapter as its file describes it; paths of layers are PEFT's."""

    where: Path
    rank: int
    alpha: float
    dropout: float
    dora: bool
    rank_stabilised: bool
    """Scale by alpha / sqrt(r) (Kalajdzievski 2023) instead of alpha / r."""
    start: Literal["", "pissa", "olora"]
    """An initialisation that takes its part of the matrix out of it: what was learned stands beside the rest."""
    targets: str | tuple[str, ...]
    excluded: str | tuple[str, ...]
    layers: tuple[int, ...]
    layer_lists: tuple[str, ...]
    ranks: dict[str, int]
    alphas: dict[str, float]
    saved: tuple[str, ...]
    """Modules that were learned as a whole."""

    def saves(self, name: str) -> bool:
        """Whether a tensor belongs to a module that was learned as a whole; PEFT goes by how the module's name ends."""
        modules = [name[:at] for at, char in enumerate(name) if char == "."]
        return any(module.endswith(self.saved) for module in modules)

    def selected(self, paths: Sequence[str]) -> set[str]:
        """Which of the layers have an adapter (`check_target_module_exists` of PEFT).

        Raises:
            CheckpointError: an expression is none, or takes too long.
        """
        chosen = set(paths) if self.targets == "all-linear" else self._named("target_modules", self.targets, paths)
        if self.layers:
            numbers = self._numbers(paths)
            chosen = {path for path in chosen if path in self.targets or numbers.get(path) in self.layers}
        return chosen - self._named("exclude_modules", self.excluded, paths)

    def _numbers(self, paths: Sequence[str]) -> dict[str, int]:
        """The number of the layer that each path is in; the first pattern that a path matches decides."""
        patterns = [rf"(?:^|.*?\.){each}\.(?P<idx>\d+)\." for each in self.layer_lists]
        found: dict[str, int] = {}
        for group in self._matches("layers_pattern", patterns or [r".*?\.[^.]*\.(?P<idx>\d+)\."], paths):
            for path, named in group.items():
                found.setdefault(path, int(named["idx"] or 0))
        return found

    def _named(self, field: str, names: str | tuple[str, ...], paths: Sequence[str]) -> set[str]:
        if isinstance(names, str):
            return set(self._matches(field, [names], paths, whole=True)[0])
        known = set(names)
        return {path for path in paths if any(path[at:] in known for at in _starts(path))}

    def _matches(
        self, field: str, patterns: list[str], paths: Sequence[str], whole: bool = False
    ) -> list[dict[str, dict[str, str | None]]]:
        try:
            return matches(patterns, paths, whole)
        except InputError as error:
            raise CheckpointError(f'{self.where}: field "{field}": {error}') from None

    def sizes(self, paths: Sequence[str]) -> dict[str, tuple[int, float]]:
        """Rank and scale of every layer: the first pattern that matches a path decides (`get_pattern_key` of PEFT)."""
        ranks = self._by_pattern("rank_pattern", self.ranks, paths)
        alphas = self._by_pattern("alpha_pattern", self.alphas, paths)
        found = {}
        for path in paths:
            rank, alpha = int(ranks.get(path, self.rank)), alphas.get(path, self.alpha)
            found[path] = rank, alpha / (math.sqrt(rank) if self.rank_stabilised else rank)
        return found

    def _by_pattern(self, field: str, values: dict[str, Any], paths: Sequence[str]) -> dict[str, float]:
        found: dict[str, float] = {}
        groups = self._matches(field, [rf"(.*\.)?({name})$" for name in values], paths)
        for group, value in zip(groups, values.values(), strict=True):
            for path in group:
                found.setdefault(path, value)
        return found


def _starts(path: str) -> list[int]:
    return [0, *(at + 1 for at, char in enumerate(path) if char == ".")]


def read_adapter_config(path: Path) -> PeftLora:
    """Read and check adapter_config.json.

    Raises:
        CheckpointError: no LoRA, a field that changes the computation in a way that is not supported, or a value of
            the wrong kind; names the field.
    """
    fields = _Fields(path)
    raw = fields.raw
    if raw.get("peft_type") != "LORA":
        raise fields.refuse("peft_type", f'value {_shown(raw.get("peft_type"))} is not supported (only "LORA")')
    for name in REFUSED:
        if raw.get(name):
            raise fields.refuse(name, "is not supported")
    fields.only("bias", "none")
    fields.only("task_type", *_TASKS)
    found = PeftLora(
        where=path,
        rank=fields.rank("r", raw.get("r", 8)),
        alpha=fields.positive("lora_alpha", raw.get("lora_alpha", 8)),
        dropout=fields.number("lora_dropout", raw.get("lora_dropout", 0.0)),
        dora=fields.flag("use_dora"),
        rank_stabilised=fields.flag("use_rslora"),
        start=fields.start(),
        targets=fields.names("target_modules"),
        excluded=fields.names("exclude_modules"),
        layers=fields.layers(),
        layer_lists=fields.texts("layers_pattern"),
        ranks={name: fields.rank("rank_pattern", value) for name, value in fields.table("rank_pattern").items()},
        alphas={name: fields.positive("alpha_pattern", value) for name, value in fields.table("alpha_pattern").items()},
        saved=fields.texts("modules_to_save") or (("classifier", "score") if raw.get("task_type") == "SEQ_CLS" else ()),
    )
    if not 0 <= found.dropout < 1:
        raise fields.refuse("lora_dropout", f"must be at least 0 and below 1, got {found.dropout}")
    if not found.targets:
        raise fields.refuse("target_modules", "names no layers")
    if isinstance(found.targets, str) and (raw.get("layers_to_transform") is not None or found.layer_lists):
        raise fields.refuse("target_modules", "is a regular expression, which layers_to_transform does not go with")
    if found.layer_lists and not found.layers:
        raise fields.refuse("layers_pattern", "needs layers_to_transform beside it")
    fields.say_what_is_unknown()
    return found


class _Fields:
    """The fields of one file, each checked where it is asked for."""

    def __init__(self, path: Path):
        self.path, self.raw = path, read_json_object(path, CheckpointError)

    def refuse(self, name: str, why: str) -> CheckpointError:
        """The error that names a field."""
        return CheckpointError(f'{self.path}: field "{name}": {why}.')

    def only(self, name: str, *allowed: Any) -> None:
        """A field of which these values are supported."""
        if self.raw.get(name) not in allowed and name in self.raw:
            raise self.refuse(name, f"value {_shown(self.raw[name])} is not supported")

    def flag(self, name: str) -> bool:
        """True or false; absent or null is false."""
        value = self.raw.get(name)
        if not isinstance(value, bool | None):
            raise self.refuse(name, f"must be true or false, got {_shown(value)}")
        return bool(value)

    def number(self, name: str, value: Any) -> float:
        """A finite number."""
        try:
            if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
                return float(value)
        except OverflowError:
            pass
        raise self.refuse(name, f"must be a number, got {_shown(value)}")

    def positive(self, name: str, value: Any) -> float:
        """A number above 0."""
        if (number := self.number(name, value)) <= 0:
            raise self.refuse(name, f"must be above 0, got {_shown(value)}")
        return number

    def rank(self, name: str, value: Any) -> int:
        """A whole number from 1 on."""
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value < 2**31:
            raise self.refuse(name, f"a rank must be a whole number from 1 on, got {_shown(value)}")
        return value

    def table(self, name: str) -> dict[str, Any]:
        """An object; absent or null is empty."""
        value = self.raw.get(name)
        if not isinstance(value, dict | None):
            raise self.refuse(name, f"must be an object, got {_shown(value)}")
        return value or {}

    def names(self, name: str) -> str | tuple[str, ...]:
        """A regular expression, or names."""
        value = self.raw.get(name)
        if isinstance(value, str):
            return "all-linear" if value.lower() == "all-linear" and name == "target_modules" else value
        return self.texts(name)

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of texts, or one; absent or null is empty."""
        value = self.raw.get(name)
        many = [value] if isinstance(value, str) and value else value or []
        if not isinstance(many, list) or not all(isinstance(each, str) for each in many):
            raise self.refuse(name, f"must be a list of texts, got {_shown(value)}")
        return tuple(many)

    def layers(self) -> tuple[int, ...]:
        """Numbers of layers; empty: all."""
        value = self.raw.get("layers_to_transform")
        many = [] if value is None else value if isinstance(value, list) else [value]
        if not all(isinstance(each, int) and not isinstance(each, bool) and 0 <= each < 10**6 for each in many):
            raise self.refuse("layers_to_transform", f"must be numbers of layers, got {_shown(value)}")
        return tuple(many)

    def start(self) -> Literal["", "pissa", "olora"]:
        """How the adapter was initialised, as far as it matters afterwards."""
        value = self.raw.get("init_lora_weights")
        if isinstance(value, bool | None):
            return ""
        if isinstance(value, str) and value.lower() in ("pissa", "olora"):
            return "pissa" if value.lower() == "pissa" else "olora"
        if isinstance(value, str) and value.lower() in _PLAIN:
            return ""
        raise self.refuse(
            "init_lora_weights",
            f"value {_shown(value)} is not supported: what it took out of the model's matrices cannot be had again from "
            "the file; save the adapter with PEFT's path_initial_model_for_weight_conversion",
        )

    def say_what_is_unknown(self) -> None:
        """One remark on fields that PEFT does not know either."""
        strange = sorted(self.raw.keys() - UNDERSTOOD - WITHOUT_EFFECT - {*REFUSED})
        if strange:
            shown = ", ".join(re.sub(r"\s+", " ", printable(name, 40)) for name in strange[:5])
            more = f" and {len(strange) - 5} more" if len(strange) > 5 else ""
            remark(f"{self.path}: fields that PEFT does not know change nothing: {shown}{more}.")


def _shown(value: Any) -> str:
    return printable(repr(value), 60)

"""Adapters on disk, in the format of PEFT: adapter_config.json and adapter_model.safetensors."""

import copy
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from wenloom.checkpoint.families import FAMILIES
from wenloom.checkpoint.families.base import TensorMap
from wenloom.checkpoint.folder import ADAPTER_CONFIG, read_json
from wenloom.core.errors import CheckpointError, InputError
from wenloom.model.build import Model, with_classes
from wenloom.model.encoder_decoder import EncoderDecoder
from wenloom.model.lora import TARGETS, AdaptedLinear, AdapterConfig, adapt, adapted_layers

ADAPTER_WEIGHTS = "adapter_model.safetensors"
AnyModel = TypeVar("AnyModel", bound=Model)
_PREFIX = "base_model.model."
_LABELS = "labels"
"""The classes of a head that was learned beside the adapter, in the weights' metadata: PEFT keeps their number only."""
_SCORES = ("score.weight", "classifier.weight", "classifier.out_proj.weight")
_TASKS = {"decoder": "CAUSAL_LM", "encoder-decoder": "SEQ_2_SEQ_LM", "encoder": None}


def _fused(model: Model) -> Iterator[tuple[TensorMap, list[AdaptedLinear]]]:
    """Their matrices, and the adapted layers of ours that each holds."""
    layers = {f"{name}.weight": layer for name, layer in adapted_layers(model)}
    for each in FAMILIES[model.config.family].tensors(model.config):
        if all(name in layers for name in each.ours):
            yield each, [layers[name] for name in each.ours]
        elif any(name in layers for name in each.ours):
            some = ", ".join(sorted(name for name in each.ours if name not in layers))
            raise InputError(
                f"{model.config.family} keeps {', '.join(each.ours)} in one matrix: adapt {some} as well, or none."
            )


def _is_transposed(each: TensorMap, n_rows: int) -> bool:
    """Whether their matrix is (in, out)."""
    probe = [torch.zeros(n_rows // len(each.ours), 1) for _ in each.ours]
    return tuple(each.join(probe).shape) == (1, n_rows)


def _joined(each: TensorMap, blocks: list[Tensor]) -> Tensor:
    """Rows as theirs are ordered, in (out, columns)."""
    tensor = each.join(blocks)
    return tensor.T if _is_transposed(each, sum(len(block) for block in blocks)) else tensor


def _parted(each: TensorMap, tensor: Tensor) -> list[Tensor]:
    """The inverse."""
    return list(each.split(tensor.T if _is_transposed(each, len(tensor)) else tensor))


def write_adapter(model: Model, folder: Path, base: str) -> None:
    """Write a model's adapter into an existing folder.

    Where a family keeps several of our matrices in one, their adapters become one of as many times the rank.
    Not atomic: call it inside `files.folder_aside`.

    Args:
        base: path or name of the model that it belongs to.

    Raises:
        InputError: there is no adapter, or part of a matrix of theirs has none.
    """
    tensors: dict[str, Tensor] = {}
    ranks: dict[str, int] = {}
    alphas: dict[str, float] = {}
    names: list[str] = []
    transposed, config = False, None
    for each, layers in _fused(model):
        config = layers[0].config
        path = each.theirs.removesuffix(".weight")
        names.append(path)
        n_rows = sum(layer.out_features for layer in layers)
        transposed |= _is_transposed(each, n_rows)
        rank = sum(layer.rank for layer in layers)
        columns, start = [], 0
        for layer in layers:
            wide = torch.zeros(layer.out_features, rank)
            wide[:, start : start + layer.rank] = layer.lora_b.detach().float().cpu()
            columns.append(wide)
            start += layer.rank
        tensors[f"{_PREFIX}{path}.lora_A.weight"] = torch.cat([layer.lora_a.detach().float().cpu() for layer in layers])
        tensors[f"{_PREFIX}{path}.lora_B.weight"] = _joined(each, columns).contiguous()
        if config.dora:
            lengths = [
                layer.magnitude.detach().float().cpu()[:, None] for layer in layers if layer.magnitude is not None
            ]
            tensors[f"{_PREFIX}{path}.lora_magnitude_vector"] = _joined(each, lengths)[:, 0].contiguous()
        if rank != config.rank:
            ranks[path], alphas[path] = rank, config.alpha * rank / config.rank
    if config is None:
        raise InputError("this model has no adapter to write.")
    heads, metadata = _heads(model), {"format": "pt"}
    if heads:
        state = model.state_dict()
        for each in heads:
            whole = each.join([state[name].detach().float().cpu() for name in each.ours])
            tensors[_PREFIX + each.theirs] = whole.contiguous()
        metadata[_LABELS] = json.dumps(model.config.labels, ensure_ascii=False)
    raw: dict[str, Any] = {
        "peft_type": "LORA",
        "task_type": "SEQ_CLS" if heads else _TASKS[model.config.kind],
        "modules_to_save": sorted({_module(each) for each in heads}) or None,
        "base_model_name_or_path": base,
        "r": config.rank,
        "lora_alpha": config.alpha,
        "lora_dropout": config.dropout,
        "target_modules": sorted({path.rsplit(".", 1)[-1] for path in names})
        if not _is_ambiguous(model, names)
        else names,
        "rank_pattern": ranks,
        "alpha_pattern": alphas,
        "use_dora": config.dora,
        "fan_in_fan_out": transposed,
        "bias": "none",
        "inference_mode": True,
    }
    (folder / ADAPTER_CONFIG).write_text(json.dumps(raw, indent=2) + "\n", encoding="utf-8")
    try:
        save_file(tensors, folder / ADAPTER_WEIGHTS, metadata=metadata)
    except SafetensorError as error:
        raise OSError(0, str(error)) from error


def _is_ambiguous(model: Model, names: list[str]) -> bool:
    """Whether the last parts of the names belong to matrices without an adapter as well."""
    ends = {name.rsplit(".", 1)[-1] for name in names}
    all_names = [each.theirs.removesuffix(".weight") for each in FAMILIES[model.config.family].tensors(model.config)]
    return any(name.rsplit(".", 1)[-1] in ends and name not in names for name in all_names)


def _heads(model: Model) -> list[TensorMap]:
    """The tensors that give classes, which are learned as a whole beside an adapter."""
    return [each for each in FAMILIES[model.config.family].tensors(model.config)
            if all(name.startswith("classifier.") for name in each.ours)]  # fmt: skip


def _module(head: TensorMap) -> str:
    """The module of theirs that a head's tensor belongs to."""
    first, _, rest = head.theirs.partition(".")
    return first if first in ("classifier", "pre_classifier", "score") else f"{first}.{rest.split('.')[0]}"


def _beside(place: Tensor, tensor: Tensor) -> torch.nn.Parameter:
    """The tensor as a parameter on the device of what it replaces; of a model without weights (meta), where it is."""
    device = tensor.device if place.device.type == "meta" else place.device
    return torch.nn.Parameter(tensor.contiguous().clone().to(device))


def _with_head(model: Model, found: dict[str, Tensor], labels: tuple[str, ...], where: Path) -> Model:
    """The model with the classes that an adapter brings, whose weights are taken out of what was found.

    Raises:
        CheckpointError: they are missing, or of another shape.
    """
    if model.config.labels != labels:
        model = with_classes(model, labels, torch.Generator().manual_seed(0))
    own = dict(model.named_parameters())
    for each in _heads(model):
        try:
            for name, part in zip(each.ours, each.split(found.pop(each.theirs)), strict=True):
                if own[name].shape != part.shape:
                    raise KeyError(name)
                place = model.get_submodule(name.rpartition(".")[0])
                setattr(place, name.rpartition(".")[2], _beside(own[name], part))
        except KeyError:
            raise CheckpointError(
                f'{where}: the weights for "{each.theirs}" are missing or of another shape.'
            ) from None
    return model


def load_adapter(model: Model, folder: Path) -> Model:
    """Put an adapter beside a model's matrices, in place; one that brings classes of its own gives the model these, and
    then it is another model with the same weights.

    Raises:
        CheckpointError: it is no LoRA adapter, has options that are not supported, or belongs to another model.
    """
    path = folder / ADAPTER_CONFIG
    raw = read_json(path)
    if raw.get("peft_type") != "LORA":
        raise CheckpointError(f'{path}: peft_type {raw.get("peft_type")!r} is not supported (only "LORA").')
    for name in (
        "layer_replication",
        "trainable_token_indices",
        "target_parameters",
        "exclude_modules",
    ):
        if raw.get(name):
            raise CheckpointError(f'{path}: "{name}" is not supported.')
    if raw.get("bias", "none") != "none":
        raise CheckpointError(f'{path}: trained biases ("bias": {raw["bias"]!r}) are not supported.')
    try:
        with safe_open(folder / ADAPTER_WEIGHTS, "pt") as file:
            found = {name.removeprefix(_PREFIX): file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            labels = (file.metadata() or {}).get(_LABELS)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{folder / ADAPTER_WEIGHTS}: cannot be read ({error}).") from None
    if raw.get("modules_to_save"):
        scores = next((found[name] for name in _SCORES if name in found), None)
        if scores is None or isinstance(model, EncoderDecoder):
            raise CheckpointError(f'{path}: "modules_to_save" is supported for the classes of a text only.')
        names = tuple(json.loads(labels)) if labels else tuple(f"LABEL_{number}" for number in range(len(scores)))
        model = _with_head(model, found, names, folder)
    rank, alpha = int(raw.get("r", 8)), float(raw.get("lora_alpha", 8))
    if raw.get("use_rslora"):
        alpha *= rank**0.5
    config = AdapterConfig(rank, alpha, float(raw.get("lora_dropout", 0.0)), TARGETS, bool(raw.get("use_dora")))
    _adapt_where_there_are_weights(model, config, found)
    for each, layers in _fused(model):
        their = each.theirs.removesuffix(".weight")
        try:
            a, b = found.pop(f"{their}.lora_A.weight"), found.pop(f"{their}.lora_B.weight")
            parts = _parted(each, b)
            lengths = [None] * len(layers)
            if config.dora:
                lengths = [part[:, 0] for part in _parted(each, found.pop(f"{their}.lora_magnitude_vector")[:, None])]
            own_rank = len(a)
            own_alpha = _pattern(raw.get("alpha_pattern"), their, alpha)
            for layer, part, length in zip(layers, parts, lengths, strict=True):
                layer.rank, layer.scale = own_rank, own_alpha / own_rank
                layer.lora_a = _beside(layer.lora_a, a)
                layer.lora_b = _beside(layer.lora_b, part)
                if length is not None:
                    layer.magnitude = _beside(layer.lora_a, length)
                if a.shape[1] != layer.in_features or part.shape != (layer.out_features, own_rank):
                    raise RuntimeError("shape")
        except (KeyError, RuntimeError):
            raise CheckpointError(f'{folder}: the weights for "{their}" are missing or of another shape.') from None
    if found:
        raise CheckpointError(f"{folder}: belongs to another model: it has none of {sorted(found)[0]}.")
    return model


def with_adapter(model: AnyModel, folder: Path) -> AnyModel:
    """A model with an adapter beside the same weights: both can be used, and the weights are in memory once.

    Raises:
        CheckpointError: see `load_adapter`.
    """
    shared = {id(each): each for each in (*model.parameters(), *model.buffers())}
    adapted = copy.deepcopy(model, shared)
    if load_adapter(adapted, folder) is not adapted:
        raise CheckpointError(f"{folder}: brings classes of its own: load it as a model.")
    return adapted.eval()


def _pattern(patterns: dict[str, Any] | None, path: str, default: float) -> float:
    for name, value in (patterns or {}).items():
        if path == name or path.endswith("." + name):
            return float(value)
    return default


def _adapt_where_there_are_weights(model: Model, config: AdapterConfig, found: dict[str, Tensor]) -> None:
    wanted = {
        name.removesuffix(".weight")
        for each in FAMILIES[model.config.family].tensors(model.config)
        if f"{each.theirs.removesuffix('.weight')}.lora_A.weight" in found
        for name in each.ours
    }
    targets = tuple(sorted({name.rsplit(".", 1)[-1] for name in wanted} & set(TARGETS)))
    if not targets:
        raise CheckpointError("the adapter has no weights for this model's blocks.")
    adapt(model, replace(config, targets=targets))
    for name, layer in list(adapted_layers(model)):
        if name not in wanted:
            model.set_submodule(name, layer.linear)

"""Adapters on disk, in the format of PEFT: adapter_config.json and adapter_model.safetensors."""

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from wenloom.checkpoint.adapter_config import ADAPTER_CONFIG, PeftLora, read_adapter_config
from wenloom.checkpoint.families import FAMILIES
from wenloom.checkpoint.families.base import TensorMap
from wenloom.core.errors import CheckpointError, InputError, printable
from wenloom.core.foreign import reading
from wenloom.model.build import Model, with_classes
from wenloom.model.encoder_decoder import EncoderDecoder
from wenloom.model.lora import TARGETS, AdaptedLinear, AdapterConfig, adapted_layers, freeze, whole_matrix
from wenloom.model.quantize import QuantizedLinear

ADAPTER_WEIGHTS = "adapter_model.safetensors"
AnyModel = TypeVar("AnyModel", bound=Model)
_PREFIX = "base_model.model."
_LABELS = "labels"
"""The classes of a head that was learned beside the adapter, in the weights' metadata: PEFT keeps their number only."""
_SCORES = ("score.weight", "classifier.weight", "classifier.out_proj.weight")
_ADAPTABLE = re.compile(r"\bblocks\.\d+\.(attention|cross|mlp)\.|^transform\.weight$")
"""Our matrices that may have an adapter: those of the blocks, and the dense layer under the head of an encoder."""
_FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
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
        assert len({layer.scale for layer in layers}) == 1  # they were made or read together
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
        if rank != config.rank or layers[0].scale != config.alpha / config.rank:
            ranks[path], alphas[path] = rank, layers[0].scale * rank
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
    file = read_adapter_config(folder / ADAPTER_CONFIG)
    path = folder / ADAPTER_WEIGHTS
    with reading(path, CheckpointError):
        found, labels = _stored(folder)
        if file.saved:
            model = _with_classes(model, found, labels, file)
        if any(adapted_layers(model)):
            raise CheckpointError(f"{folder}: the model has an adapter already: merge it first.")
        layers = _layers_with_weights(model, file, found)
        freeze(model)
        sizes = file.sizes(list(layers))
        for their, each in layers.items():
            _place(model, each, their, found, file, *sizes[their])
    if found:
        raise CheckpointError(f"{path}: belongs to another model: it has none of {printable(min(found), 80)}.")
    return model


def _stored(folder: Path) -> tuple[dict[str, Tensor], str | None]:
    """The tensors of an adapter under the names of the layers, and the text that names its classes.

    Raises:
        CheckpointError: they are pickled, absent, of a kind that holds no weights, or not finite.
    """
    path = folder / ADAPTER_WEIGHTS
    if not path.exists() and (pickled := sorted(folder.glob("adapter_model.*"))):
        raise CheckpointError(
            f"{pickled[0]}: is pickled, which can run code when read. Convert it once, where you trust it: "
            "peft's PeftModel.from_pretrained(...).save_pretrained(...) writes safetensors."
        )
    with safe_open(path, "pt") as file:
        found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        labels = (file.metadata() or {}).get(_LABELS)
    for name, tensor in found.items():
        if tensor.dtype not in _FLOATS:
            raise CheckpointError(
                f'{path}: tensor "{printable(name, 80)}" is of {tensor.dtype}, which holds no weights.'
            )
        if not name.startswith(_PREFIX):
            raise CheckpointError(f'{path}: tensor "{printable(name, 80)}" is not named as PEFT does ({_PREFIX}...).')
        if not torch.isfinite(tensor).all():
            raise CheckpointError(f'{path}: tensor "{printable(name, 80)}" holds values that are no finite numbers.')
    return {name.removeprefix(_PREFIX): tensor.float() for name, tensor in found.items()}, labels


def _with_classes(model: Model, found: dict[str, Tensor], labels: str | None, file: PeftLora) -> Model:
    """The model with the classes that an adapter brings.

    Raises:
        CheckpointError: it brings something else that was learned as a whole.
    """
    scores = next((found[name] for name in _SCORES if name in found), None)
    if scores is None or scores.dim() != 2 or isinstance(model, EncoderDecoder):
        saved = printable(", ".join(file.saved), 80)
        raise CheckpointError(
            f'{file.where}: field "modules_to_save": {saved}: is supported for the classes of a text only.'
        )
    names = [f"LABEL_{number}" for number in range(len(scores))]
    if labels is not None:
        names = json.loads(labels)
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names) or len(names) != len(scores):
            raise CheckpointError(
                f'{file.where.parent / ADAPTER_WEIGHTS}: "{_LABELS}" does not name {len(scores)} classes.'
            )
    return _with_head(model, found, tuple(names), file.where.parent)


def _layers_with_weights(model: Model, file: PeftLora, found: dict[str, Tensor]) -> dict[str, TensorMap]:
    """The matrices of theirs that have an adapter, by their paths; what the file selects and what it holds agree.

    Raises:
        CheckpointError: it selects more or fewer layers than it holds weights for.
    """
    family = FAMILIES[model.config.family]
    bare = not any(name.startswith(family.base_prefix) for name in found)  # learned without a head
    prefix = family.base_prefix if bare else ""
    modules = dict(model.named_modules())
    layers: dict[str, TensorMap] = {}
    for each in family.tensors(model.config):
        if all(isinstance(modules.get(name.removesuffix(".weight")), nn.Linear | QuantizedLinear) and _ADAPTABLE.search(name)
               for name in each.ours):  # fmt: skip
            layers[each.theirs.removesuffix(".weight").removeprefix(prefix)] = each
    chosen = file.selected(list(layers))
    held = {path for path in layers if f"{path}.lora_A.weight" in found or f"{path}.lora_B.weight" in found}
    if not chosen and not held:
        raise CheckpointError(f"{file.where.parent}: the adapter has no weights for this model's blocks.")
    if extra := sorted(held - chosen):
        raise CheckpointError(
            f'{file.where}: does not select "{extra[0]}", for which {ADAPTER_WEIGHTS} holds weights that PEFT would drop.'
        )
    if missing := sorted(chosen - held):
        raise CheckpointError(f'{file.where.parent}: the weights for "{missing[0]}" are missing.')
    return {path: each for path, each in layers.items() if path in chosen}


def _place(
    model: Model, each: TensorMap, their: str, found: dict[str, Tensor], file: PeftLora, rank: int, scale: float
) -> None:
    """Put the weights of one matrix of theirs beside the one or several of ours that it holds.

    Raises:
        CheckpointError: they are missing or of another shape.
    """
    linears: list[nn.Linear | QuantizedLinear] = []
    for name in each.ours:
        linear = model.get_submodule(name.removesuffix(".weight"))
        assert isinstance(linear, nn.Linear | QuantizedLinear)
        linears.append(linear)
    n_in, n_out = linears[0].in_features, sum(linear.out_features for linear in linears)
    wanted: dict[str, tuple[int, ...]] = {"lora_A.weight": (rank, n_in), "lora_B.weight": (n_out, rank)}
    if file.dora:
        wanted["lora_magnitude_vector"] = (n_out,)
    tensors = []
    for name, shape in wanted.items():
        tensor = found.pop(f"{their}.{name}", None)
        if tensor is None or tuple(tensor.shape) != shape:
            has = "is missing" if tensor is None else f"has shape {tuple(tensor.shape)}"
            raise CheckpointError(
                f'{file.where.parent / ADAPTER_WEIGHTS}: tensor "{their}.{name}" {has}; the model and '
                f"{ADAPTER_CONFIG} ask for {shape}."
            )
        tensors.append(tensor)
    a, b, *lengths = tensors
    if file.start:
        taken_a, taken_b = _taken_out(
            _joined(each, [whole_matrix(linear, torch.float32) for linear in linears]), file, each, rank, scale
        )
        a, b = torch.cat([a, taken_a]), torch.cat([b, -taken_b], dim=1)
    magnitudes = [part[:, 0] for part in _parted(each, lengths[0][:, None])] if lengths else [None] * len(linears)
    config = AdapterConfig(file.rank, file.alpha, file.dropout, TARGETS, file.dora)
    for name, linear, part, length in zip(each.ours, linears, _parted(each, b), magnitudes, strict=True):
        layer = AdaptedLinear(linear, config, len(a))
        layer.scale = scale
        layer.lora_a, layer.lora_b = _beside(layer.lora_a, a), _beside(layer.lora_b, part)
        if length is not None:
            layer.magnitude = _beside(layer.lora_a, length)
        model.set_submodule(name.removesuffix(".weight"), layer)


def _taken_out(whole: Tensor, file: PeftLora, each: TensorMap, rank: int, scale: float) -> tuple[Tensor, Tensor]:
    """What an initialisation took out of W, shape (out, in), as a further A and B: W - scale B A is what PEFT keeps.

    PiSSA (Meng et al. 2024): the first r singular values and vectors; OLoRA (Büyükakyüz 2024): of the QR decomposition.

    Raises:
        CheckpointError: OLoRA of a matrix that the family keeps transposed, which PEFT decomposes the wrong way round.
    """
    if file.start == "olora":
        if _is_transposed(each, len(whole)):
            raise CheckpointError(f'{file.where}: field "init_lora_weights": olora is not supported for this family.')
        q, r = torch.linalg.qr(whole)
        return r[:rank], q[:, :rank]
    u, values, v = torch.linalg.svd(whole, full_matrices=False)
    root = (values[:rank] / scale).sqrt()
    return root[:, None] * v[:rank], u[:, :rank] * root


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

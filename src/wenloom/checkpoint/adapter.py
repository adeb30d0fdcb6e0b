"""Adapters on disk, in the format of PEFT: adapter_config.json and adapter_model.safetensors."""

import copy
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from wenloom.checkpoint.adapter_config import ADAPTER_CONFIG, PeftLora, read_adapter_config
from wenloom.checkpoint.adapter_head import LABELS, beside, head_tensors, module_of, with_stored_classes
from wenloom.checkpoint.families import FAMILIES
from wenloom.checkpoint.families.base import TensorMap
from wenloom.checkpoint.weights import stored_tensors, write_tensors
from wenloom.core.errors import CheckpointError, InputError, printable
from wenloom.core.foreign import reading
from wenloom.model.build import Model
from wenloom.model.lora import ATTENTION, TARGETS, AdaptedLinear, AdapterConfig, adapted_layers, freeze, weight_of
from wenloom.model.quantize import QuantizedLinear

ADAPTER_WEIGHTS = "adapter_model.safetensors"
AnyModel = TypeVar("AnyModel", bound=Model)
STACKED = ("gpt_oss",)
"""Families that keep the matrices of all experts in one tensor, of which an adapter has no place in a file."""
_PREFIX = "base_model.model."
_ADAPTABLE = re.compile(r"\bblocks\.\d+\.(attention|cross|mlp)\.|^(transform|classifier\.dense)\.weight$")
"""Our matrices that may have an adapter: those of the blocks, and the dense layer under the head of an encoder."""
_PART = re.compile(r"\.(?:lora_|base_layer\.)")
"""What follows the name of an adapted layer in the name of a tensor."""
_FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
_TASKS = {"decoder": "CAUSAL_LM", "encoder-decoder": "SEQ_2_SEQ_LM", "encoder": None}


def _fused(model: Model) -> Iterator[tuple[TensorMap, list[AdaptedLinear]]]:
    """Their matrices, and the adapted layers of ours that each holds."""
    layers = {f"{name}.weight": layer for name, layer in adapted_layers(model)}
    for each in FAMILIES[model.config.family].modules(model.config):
        if model.config.family in STACKED and ".experts." in each.ours[0] and any(name in layers for name in each.ours):
            raise InputError(
                f"{model.config.family} keeps all experts in one tensor: adapt {', '.join(ATTENTION)} only."
            )
        if all(name in layers for name in each.ours):
            yield each, [layers[name] for name in each.ours]
        elif any(name in layers for name in each.ours):
            some = ", ".join(sorted(name for name in each.ours if name not in layers))
            raise InputError(
                f"{model.config.family} keeps {', '.join(each.ours)} in one matrix: adapt {some} as well, or none."
            )


def _is_transposed(each: TensorMap, rows: Sequence[int]) -> bool:
    """Whether their matrix is (in, out).

    Args:
        rows: how many each matrix of ours has.
    """
    return tuple(each.join([torch.zeros(n, 1) for n in rows]).shape) == (1, sum(rows))


def _joined(each: TensorMap, blocks: list[Tensor]) -> Tensor:
    """Rows as theirs are ordered, in (out, columns)."""
    tensor = each.join(blocks)
    return tensor.T if _is_transposed(each, [len(block) for block in blocks]) else tensor


def _parted(each: TensorMap, tensor: Tensor, rows: Sequence[int]) -> list[Tensor]:
    """The inverse."""
    return list(each.split(tensor.T if _is_transposed(each, rows) else tensor))


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
        transposed |= _is_transposed(each, [layer.out_features for layer in layers])
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
    heads, metadata = head_tensors(model), {"format": "pt"}
    if heads:
        state = model.state_dict()
        for each in heads:
            whole = each.join([state[name].detach().float().cpu() for name in each.ours])
            tensors[_PREFIX + each.theirs] = whole.contiguous()
        metadata[LABELS] = json.dumps(model.config.labels, ensure_ascii=False)
    raw: dict[str, Any] = {
        "peft_type": "LORA",
        "task_type": "SEQ_CLS" if heads else _TASKS[model.config.kind],
        "modules_to_save": sorted({module_of(each) for each in heads}) or None,
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
    write_tensors(tensors, folder / ADAPTER_WEIGHTS, metadata)


def _is_ambiguous(model: Model, names: list[str]) -> bool:
    """Whether the last parts of the names belong to matrices without an adapter as well."""
    ends = {name.rsplit(".", 1)[-1] for name in names}
    all_names = [each.theirs.removesuffix(".weight") for each in FAMILIES[model.config.family].modules(model.config)]
    return any(name.rsplit(".", 1)[-1] in ends and name not in names for name in all_names)


def load_adapter(model: Model, folder: Path, base_files: Sequence[Path] = ()) -> Model:
    """Put an adapter beside a model's matrices, in place; one that brings classes of its own gives the model these, and
    then it is another model with the same weights.

    Args:
        base_files: where the model's tensors are stored; classes may need one of them that the model has no use for.

    Raises:
        CheckpointError: it is not a LoRA adapter, has options that are not supported, or belongs to another model.
    """
    file = read_adapter_config(folder / ADAPTER_CONFIG)
    path = folder / ADAPTER_WEIGHTS
    with reading(path, CheckpointError):
        found, labels = _stored(folder)
        if file.saved:
            model = with_stored_classes(model, found, labels, file, path, base_files)
        if any(adapted_layers(model)):
            raise CheckpointError(f"{folder}: the model has an adapter already: merge it first.")
        layers = _layers_with_weights(model, file, found)
        freeze(model)
        sizes = file.sizes(list(layers))
        for their, each in layers.items():
            _place(model, each, their, found, file, *sizes[their])
    if found:
        raise _left_over(min(found), model, path)
    return model


def _left_over(name: str, model: Model, path: Path) -> CheckpointError:
    """What is wrong with a tensor that no layer took."""
    family, shown = FAMILIES[model.config.family], printable(name, 80)
    theirs = {each.theirs for each in family.modules(model.config)} | {*family.names_of_head}
    layer = _PART.split(name)[0]
    if {f"{layer}.weight", f"{family.base_prefix}{layer}.weight"} & theirs:
        return CheckpointError(
            f'{path}: adapts "{printable(layer, 80)}"; Wenloom adapts the matrices of attention and MLP only. Merge it '
            "once with PEFT's merge_and_unload() and save the model."
        )
    if {name, family.base_prefix + name} & theirs:
        return CheckpointError(
            f'{path}: brings the whole matrix "{shown}" beside the adapter; of such Wenloom reads the classes of a text '
            "only. Merge it once with PEFT's merge_and_unload() and save the model."
        )
    return CheckpointError(f"{path}: belongs to another model: it has none of {shown}.")


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
    with ExitStack() as stack:
        stored = stored_tensors([path], stack)
        found = {name: each.read() for name, each in stored.items()}
        labels = next((each.metadata.get(LABELS) for each in stored.values()), None)
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
    for each in family.modules(model.config):
        if all(isinstance(modules.get(name.removesuffix(".weight")), nn.Linear | QuantizedLinear) and _ADAPTABLE.search(name)
               and not file.saves(each.theirs) for name in each.ours):  # fmt: skip
            layers[each.theirs.removesuffix(".weight").removeprefix(prefix)] = each
    chosen = file.selected(list(layers))
    held = {path for path in layers if f"{path}.lora_A.weight" in found or f"{path}.lora_B.weight" in found}
    if not chosen and not held and found:
        raise _left_over(min(found), model, file.where.with_name(ADAPTER_WEIGHTS))
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
    rows = [linear.out_features for linear in linears]
    n_in, n_out = linears[0].in_features, sum(rows)
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
        whole = _joined(each, [weight_of(linear, torch.float32) for linear in linears])
        taken_a, taken_b = _taken_out(whole, file, _is_transposed(each, rows), rank, scale)
        a, b = torch.cat([a, taken_a]), torch.cat([b, -taken_b], dim=1)
    magnitudes = [part[:, 0] for part in _parted(each, lengths[0][:, None], rows)] if lengths else [None] * len(linears)
    config = AdapterConfig(file.rank, file.alpha, file.dropout, TARGETS, file.dora)
    for name, linear, part, length in zip(each.ours, linears, _parted(each, b, rows), magnitudes, strict=True):
        layer = AdaptedLinear(linear, config, len(a))
        layer.scale = scale
        layer.lora_a, layer.lora_b = beside(layer.lora_a, a), beside(layer.lora_b, part)
        if length is not None:
            layer.magnitude = beside(layer.lora_a, length)
        model.set_submodule(name.removesuffix(".weight"), layer)


def _taken_out(whole: Tensor, file: PeftLora, is_transposed: bool, rank: int, scale: float) -> tuple[Tensor, Tensor]:
    """What an initialisation took out of W, shape (out, in), as a further A and B: W - scale B A is what PEFT keeps.

    PiSSA (Meng et al. 2024): the first r singular values and vectors; OLoRA (Büyükakyüz 2024): of the QR decomposition.

    Raises:
        CheckpointError: OLoRA of a matrix that the family keeps transposed, which PEFT decomposes the wrong way round.
    """
    if file.start == "olora":
        if is_transposed:
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

"""The classes of a text that an adapter brings: a head that was learned as a whole beside it (`modules_to_save`)."""

import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import torch
from torch import Tensor

from wenloom.checkpoint.adapter_config import PeftLora
from wenloom.checkpoint.families import FAMILIES
from wenloom.checkpoint.families.base import TensorMap
from wenloom.checkpoint.layout import by_full_name
from wenloom.checkpoint.weights import stored_tensors
from wenloom.core.errors import CheckpointError, printable
from wenloom.model.build import Model, with_classes
from wenloom.model.encoder_decoder import EncoderDecoder
from wenloom.model.lora import adapted_layers

LABELS = "labels"
"""The names of the classes, in the metadata of the weights: PEFT keeps their number only."""
_SCORES = ("score.weight", "classifier.weight", "classifier.out_proj.weight")


def head_tensors(model: Model) -> list[TensorMap]:
    """The tensors that give classes and are learned as a whole beside an adapter."""
    adapted = tuple(f"{name}." for name, _ in adapted_layers(model))
    return [each for each in FAMILIES[model.config.family].modules(model.config)
            if all(name.startswith("classifier.") and not name.startswith(adapted) for name in each.ours)]  # fmt: skip


def module_of(head: TensorMap) -> str:
    """The module of theirs that a head's tensor belongs to."""
    first, _, rest = head.theirs.partition(".")
    return first if first in ("classifier", "pre_classifier", "score") else f"{first}.{rest.split('.')[0]}"


def beside(place: Tensor, tensor: Tensor) -> torch.nn.Parameter:
    """The tensor as a parameter on the device of what it replaces; of a model without weights (meta), where it is."""
    device = tensor.device if place.device.type == "meta" else place.device
    return torch.nn.Parameter(tensor.contiguous().clone().to(device))


def with_stored_classes(
    model: Model,
    found: dict[str, Tensor],
    labels: str | None,
    file: PeftLora,
    weights: Path,
    base_files: Sequence[Path],
) -> Model:
    """The model with the classes that an adapter brings, whose tensors are taken out of what was found.

    Args:
        labels: their names as JSON; None: those of the model if it has as many, else numbers.
        weights: the adapter's file of tensors.
        base_files: where the model's tensors are stored, for what stands between its body and the classes there.

    Raises:
        CheckpointError: it brings something else that was learned as a whole, or not all of the head can be had.
    """
    scores = next((found[name] for name in _SCORES if name in found), None)
    if scores is None or scores.dim() != 2 or isinstance(model, EncoderDecoder):
        saved = printable(", ".join(file.saved), 80)
        raise CheckpointError(
            f'{file.where}: field "modules_to_save": {saved}: is supported for the classes of a text only.'
        )
    names = model.config.labels
    if len(names) != len(scores):
        names = tuple(f"LABEL_{number}" for number in range(len(scores)))
    if labels is not None:
        listed = json.loads(labels)
        if not isinstance(listed, list) or not all(isinstance(name, str) for name in listed) or len(listed) != len(scores):  # fmt: skip
            raise CheckpointError(f'{weights}: "{LABELS}" does not name {len(scores)} classes.')
        names = tuple(listed)
    if model.config.labels != names:
        model = with_classes(model, names, torch.Generator().manual_seed(0))
    own = dict(model.named_parameters())
    for each in head_tensors(model):
        whole = found.pop(each.theirs) if each.theirs in found else _of_base(each.theirs, model, weights, base_files)
        parts = _parts(each, whole)
        if [part.shape for part in parts] != [own[name].shape for name in each.ours]:
            raise CheckpointError(f'{weights}: tensor "{each.theirs}" is of another shape than the model\'s.')
        for name, part in zip(each.ours, parts, strict=True):
            module, _, last = name.rpartition(".")
            setattr(model.get_submodule(module), last, beside(own[name], part))
    return model


def _parts(each: TensorMap, whole: Tensor) -> Sequence[Tensor]:
    try:
        return each.split(whole)
    except RuntimeError:
        return ()


def _of_base(name: str, model: Model, weights: Path, base_files: Sequence[Path]) -> Tensor:
    """A tensor of the head that the adapter leaves to the model it belongs to: the pooler of BERT.

    Raises:
        CheckpointError: that has none, so that nobody knows what the classes were learned with.
    """
    with ExitStack() as stack:
        stored = {}
        if base_files:
            found = stored_tensors(base_files, stack)
            stored = by_full_name(found, FAMILIES[model.config.family], base_files[0].parent)
        if name not in stored:
            raise CheckpointError(
                f'{weights}: tensor "{name}" of the head is neither here nor in the model that the adapter belongs to: '
                "PEFT draws another at each load. Train again with its module named in modules_to_save."
            )
        return stored[name].read_weights().float()

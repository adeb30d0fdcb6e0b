"""Which tensors a folder holds: by their family's full names, with what other tools leave out, repeat or add."""

import functools
import math
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from wenloom.checkpoint.families.base import Family
from wenloom.checkpoint.families.fields import shown
from wenloom.checkpoint.mxfp4 import unpacked
from wenloom.checkpoint.weights import Stored
from wenloom.core.console import remark
from wenloom.core.errors import CheckpointError, printable
from wenloom.model.config import ModelConfig, reshaped

_HEADS = ("lm_head.", "embed_out.", "score.", "classifier.", "pre_classifier.", "cls.", "vocab_", "final_logits_bias",
          "qa_outputs.", "classification_head.", "multiple_choice_head.")  # fmt: skip
"""How the names of what stands over a model's body begin."""
_WRAPPERS = {
    "_orig_mod.": "torch.compile",
    "module.": "DataParallel or DistributedDataParallel",
    "base_model.model.": "PEFT",
}
"""Prefixes that no family has, and what gives the name of every tensor one; transformers does not know them either."""
_NORM_NAMES = re.compile(r"(?<=LayerNorm\.)(gamma|beta)$")


def is_same(tensor: Tensor, other: Stored) -> bool:
    if tuple(tensor.shape) != other.shape:
        return False
    its = other.read_weights()
    equal = torch.equal(tensor, its.to(tensor.dtype))
    other.release(its)
    return equal


def by_full_name(found: Mapping[str, Stored], family: Family, folder: Path) -> dict[str, Stored]:
    """Tensors by their full and present names.

    Files saved from the bare model, as the original GPT-2 was, leave the family's prefix out; old files call the
    weight and bias of a LayerNorm gamma and beta. Tensors in MXFP4 stand under the name of what they hold.
    """
    for prefix, writer in _WRAPPERS.items():
        if found and all(name.startswith(prefix) for name in found):
            raise CheckpointError(
                f'{folder}: the names of all tensors begin with "{prefix}": they were saved from within {writer}. Save '
                "the model inside it with save_pretrained."
            )
    stored: dict[str, Stored] = {}
    for name, tensor in found.items():
        newer = family.renamed(_NORM_NAMES.sub(lambda older: {"gamma": "weight", "beta": "bias"}[older[0]], name))
        if newer is None:
            _say_other_parts(folder)
            continue
        full = (
            newer
            if newer.startswith((family.base_prefix, *_HEADS, *family.head_prefixes))
            else family.base_prefix + newer
        )
        if full in stored:
            raise CheckpointError(f'{folder}: the weights hold "{shown(full)}" twice, as "{shown(name)}" too.')
        stored[full] = tensor
    return unpacked(stored, folder) if any(name.endswith("_blocks") for name in stored) else stored


def check_counts(config: ModelConfig, stored: Mapping[str, Stored], folder: Path) -> None:
    """Before anything is made for every layer and expert that a config.json asks for.

    Raises:
        CheckpointError: there are fewer tensors than layers, or fewer weights than experts.
    """
    n_layers = config.n_layers + (0 if config.encoder is None else config.encoder.n_layers)
    if n_layers > len(stored):
        raise CheckpointError(f"{folder}: config.json asks for {n_layers:,} layers, the weights are of fewer.")
    if config.mlp.experts is not None and n_layers * config.mlp.experts.count > sum(
        math.prod(t.shape) for t in stored.values()
    ):
        raise CheckpointError(
            f"{folder}: config.json asks for {config.mlp.experts.count:,} experts, the weights are of fewer."
        )


def as_stored(
    config: ModelConfig, family: Family, stored: Mapping[str, Stored], folder: Path, needs_head: bool = True
) -> ModelConfig:
    """The shape as the weights have it, where transformers believes them more than config.json: an output matrix
    beside a different embedding is used though `tie_word_embeddings` is true, and an encoder is loaded without the
    head that it lacks.

    Args:
        needs_head: whether a decoder must have an output matrix; else it is built as if that were the embedding.

    Raises:
        CheckpointError: there are fewer tensors than layers.
    """
    check_counts(config, stored, folder)
    if config.kind == "encoder" and config.output != "classes":
        tied = reshaped(config, logits={"tied": True})
        names = [
            {each.theirs for each in family.tensors(reshaped(tied, head={"present": has}))} for has in (True, False)
        ]
        there = [any(each in stored for each in family.names(name, True)) for name in names[0] - names[1]]
        config = reshaped(config, head={"present": all(there) if any(there) else False})
        if not config.head.present and needs_head:
            _say_headless(config.family)
    is_spared = family.is_always_tied or (not needs_head and config.kind == "decoder")
    if is_spared and not any(name in stored for name in family.names_of_head):
        config = reshaped(config, logits={"tied": True})
    if config.logits.tied and config.output == "tokens":
        for embedding, names in family.copies.items():
            head = next((name for name in family.names_of_head if name in names and name in stored), None)
            if head and embedding in stored and not is_same(stored[embedding].read_weights(), stored[head]):
                _say_untied(folder, head)
                return reshaped(config, logits={"tied": False})
    return config


@functools.cache
def _say_other_parts(folder: Path) -> None:
    """Once a process."""
    remark(f"{folder}: the part that sees pictures is left out: the model is read, and saved, as one of text.")


@functools.cache
def _say_untied(folder: Path, head: str) -> None:
    """Once a process."""
    remark(f'{folder}: "{head}" differs from the embedding, so it is used, though tie_word_embeddings is true.')


@functools.cache
def _say_headless(family: str) -> None:
    """Once a process, whose own checkpoints have none either."""
    remark(
        f"A model of the family {family} without a head for tokens: gives hidden states, and can be tuned to classify."
    )


def missing(
    name: str, config: ModelConfig, family: Family, stored: Mapping[str, Stored], folder: Path
) -> CheckpointError:
    """The error about a tensor that is not there, in terms of what the folder is."""
    if name == family.head:
        return CheckpointError(
            f'{folder}: has no output matrix ("{name}"): it was saved from a model without a head for tokens, which '
            "can neither write nor score texts, or config.json says wrongly that it is not the embedding "
            "(tie_word_embeddings: false). Take the folder of the language model, or mend that field."
        )
    if config.encoder is not None and not any("decoder." in other for other in stored):
        return CheckpointError(f"{folder}: holds the encoder of {config.family} only; Wenloom needs its decoder too.")
    return CheckpointError(f'{folder}: tensor "{name}" is missing from the weights.')


def check_left(names: list[str], family: Family, folder: Path) -> None:
    """What nobody asked for: heads of other tasks are left out with a remark, all else is refused."""
    heads = [name for name in names if name.startswith((*_HEADS, *family.head_prefixes))]
    if strange := [shown(name) for name in names if name not in heads]:
        more = f" and {len(strange) - 3} more" if len(strange) > 3 else ""
        raise CheckpointError(
            f"{folder}: the weights hold tensors that config.json does not explain: {', '.join(strange[:3])}{more}."
        )
    if heads:
        _say_unused(folder, tuple(sorted({name.split(".")[0] for name in heads})))


@functools.cache
def _say_unused(folder: Path, heads: tuple[str, ...]) -> None:
    """Once a process."""
    remark(f"{folder}: the head of another task is left out ({', '.join(map(printable, heads))}).")

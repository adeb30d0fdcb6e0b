"""Quantized weights of a folder, whatever wrote them: which tensors make up which matrix."""

import functools
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from wenloom.checkpoint.families.base import Family
from wenloom.checkpoint.layout import check_counts
from wenloom.checkpoint.mxfp4 import is_mxfp4
from wenloom.checkpoint.quantized.awq import read_awq
from wenloom.checkpoint.quantized.bitsandbytes import LOADERS, read_bitsandbytes
from wenloom.checkpoint.quantized.compressed import read_compressed
from wenloom.checkpoint.quantized.fields import refusal
from wenloom.checkpoint.quantized.fp8 import read_fp8
from wenloom.checkpoint.quantized.gptq import read_gptq
from wenloom.checkpoint.quantized.quantization import Quantization
from wenloom.checkpoint.replacing import CONFIG, place_of
from wenloom.checkpoint.weights import Stored
from wenloom.core.console import remark
from wenloom.core.errors import CheckpointError, printable
from wenloom.core.foreign import read_json_object
from wenloom.core.quantities import show_bytes
from wenloom.model.config import ModelConfig
from wenloom.model.quantize import Bits

READERS: Mapping[str, Callable[[Mapping[str, Any], str], Quantization]] = {
    "gptq": read_gptq,
    "awq": read_awq,
    "compressed-tensors": read_compressed,
    "fp8": read_fp8,
    "fbgemm_fp8": read_fp8,
    "bitsandbytes": read_bitsandbytes,
}
"""By `quant_method`. MXFP4 of gpt-oss is read in `checkpoint.mxfp4`."""
_INNER = re.compile(r"blocks\.\d+\.(attention|mlp)(\.experts\.\d+)?\.(query|key|value|output|gate|up|down)\.weight")


def quantization_of(folder: Path) -> Quantization | None:
    """How the weights of a folder are quantized; None where they are not.

    Raises:
        CheckpointError: they are quantized in a way that is not read; names the field.
    """
    where = str(place_of(folder) / CONFIG)
    config = read_json_object(place_of(folder) / CONFIG, CheckpointError)
    reads = f"quantized weights of {', '.join(READERS)}, and mxfp4 of gpt_oss"
    for field in ("compression_config", "sparsity_config"):  # of older versions of compressed-tensors
        if config.get(field) is not None:
            raise refusal(where, field, config[field], reads)
    found = config.get("quantization_config")
    if found is None or is_mxfp4(config):
        return None
    if not isinstance(found, Mapping):
        raise refusal(where, "quantization_config", found, reads)
    method = found.get("quant_method")
    if method is None and any(found.get(each) for each in LOADERS):
        method = "bitsandbytes"
    if not isinstance(method, str) or method not in READERS:
        raise refusal(where, "quant_method", method, reads)
    return READERS[method](found, where)


def gathered(
    stored: Mapping[str, Stored],
    quantization: Quantization | None,
    config: ModelConfig,
    family: Family,
    where: Path,
    wide: torch.dtype = torch.bfloat16,
) -> dict[str, Stored]:
    """Tensors of a folder, the quantized ones under the name of the matrix that they make up.

    Args:
        wide: number type of weights that are widened.

    Raises:
        CheckpointError: a part of a matrix is missing or damaged, or one is quantized against what config.json says.
    """
    if quantization is None:
        return dict(stored)
    check_counts(config, stored, where)
    endings = _endings(quantization)
    kinds = {each for form in quantization.formats for each in form.kinds}
    left_out = tuple(f".{each}" for each in quantization.left_out)
    found = {name: tensor for name, tensor in stored.items() if not name.endswith(left_out)}
    layers: dict[str, None] = {}
    for name in found:
        ending = next((each for each in endings if name.endswith(f".{each}")), None)
        if ending is None and name.endswith(".weight") and found[name].dtype in kinds:
            ending = "weight"
        if ending is not None:
            layers[name.removesuffix(f".{ending}")] = None
    maps = family.tensors(config)
    if quantization.names_all:
        inner = (each.theirs.removesuffix(".weight") for each in maps if _INNER.fullmatch(each.ours[0]))
        layers |= {name: None for name in inner if quantization.format_of(name) is not None}
    for layer in layers:
        _gather(layer, found, quantization, family, where, wide)
    for name in _idle_biases(layers, found, {each.theirs for each in maps}):
        del found[name]
    return found


def _gather(
    layer: str, found: dict[str, Stored], quantization: Quantization, family: Family, where: Path, wide: torch.dtype
) -> None:
    """Put a matrix in the place of its parts."""
    its_format, shown = quantization.format_of(layer), printable(layer, 100)
    if its_format is None:
        raise CheckpointError(
            f'{where}: tensor "{shown}.weight" is quantized, but config.json lists "{shown}" as one that is not '
            "(ignore, modules_to_not_convert), or does not name it."
        )
    for ending in its_format.parts:
        if f"{layer}.{ending}" not in found:
            raise CheckpointError(f'{where}: tensor "{shown}.{ending}" is missing from the weights.')
    names = [each for each in (*its_format.parts, *its_format.optional) if f"{layer}.{each}" in found]
    parts = {each: found.pop(f"{layer}.{each}") for each in names}
    if f"{layer}.weight" in found:
        raise CheckpointError(f'{where}: the weights hold "{shown}.weight" twice, whole and quantized.')
    flipped = family.keeps_transposed and f"{layer}.weight" != family.head
    found[f"{layer}.weight"] = its_format.matrix(layer, parts, flipped, wide)


def _idle_biases(layers: Mapping[str, None], found: Mapping[str, Stored], known: set[str]) -> Iterator[str]:
    """Biases of zeros that the model does not have: old tools for GPTQ give every layer one."""
    for name in [f"{layer}.bias" for layer in layers]:
        if name in found and name not in known and not found[name].read_weights().any():
            yield name


@functools.cache
def say_quantized(
    folder: Path,
    label: str,
    rounds_activations: bool,
    became: tuple[tuple[bool, int], ...],
    wide: torch.dtype,
    bits: Bits | None,
) -> None:
    """What became of quantized matrices, once a process.

    Args:
        label: how they are quantized.
        rounds_activations: whether those who made them round what goes into the products, too.
        became: of each, whether it is kept in its bits, and how many weights it has.
        wide: number type of the others,
        bits: or how many bits their weights get.
    """
    if not became:
        remark(f"{folder}: config.json says that weights are quantized ({label}), but all of them are whole.")
        return
    others = [weights for is_kept, weights in became if not is_kept]
    said = []
    if others:
        to = f"widened to {str(wide).removeprefix('torch.')}, which takes {show_bytes(sum(others) * wide.itemsize)}"
        kept = f" ({len(became) - len(others):,} are kept in their bits)" if len(others) < len(became) else ""
        said += [
            f"{len(others):,} matrices are {to if bits is None else f'quantized anew to int{bits}'}{kept}",
            "figures are those of the quantized weights",
        ]
    if rounds_activations:
        said.append("activations are left whole")
    if said:
        remark(f"{folder}: quantized ({label}): {'; '.join(said)}.")


def is_part(name: str, quantization: Quantization | None) -> bool:
    """Whether a tensor is a part of a quantized matrix, or tells of activations."""
    return quantization is not None and name.endswith(
        tuple(f".{each}" for each in _endings(quantization) | {*quantization.left_out})
    )


def _endings(quantization: Quantization) -> set[str]:
    """How names of parts end, but for the one that whole matrices have too."""
    return {each for form in quantization.formats for each in (*form.parts, *form.optional)} - {"weight"}

"""A model is a Hugging Face folder: reading one, writing one."""

import functools
import json
import math
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wenloom.checkpoint.adapter import load_adapter
from wenloom.checkpoint.adapter_config import ADAPTER_CONFIG, read_adapter_config
from wenloom.checkpoint.families import DECLINED, FAMILIES
from wenloom.checkpoint.families.base import Family, TensorMap
from wenloom.checkpoint.families.fields import ConfigFields, shown
from wenloom.checkpoint.generation import GENERATION, with_token_ids
from wenloom.checkpoint.hub import resolve
from wenloom.checkpoint.layout import as_stored, by_full_name, check_left, is_same, missing
from wenloom.checkpoint.quantized.matrix import KeptMatrix, QuantizedMatrix
from wenloom.checkpoint.quantized.reading import gathered, is_part, quantization_of, say_quantized
from wenloom.checkpoint.quantized.writing import quantization_config, quantized_state
from wenloom.checkpoint.replacing import CONFIG, place_of, replaced
from wenloom.checkpoint.weights import FLOATING, SHARD_BYTES, stored_tensors, weight_files, write_weights
from wenloom.core.console import remark
from wenloom.core.errors import CheckpointError, InputError, printable
from wenloom.core.foreign import read_json_object, reading
from wenloom.core.memory import LargePages
from wenloom.model.build import Model, build
from wenloom.model.config import ModelConfig
from wenloom.model.decoder import Decoder
from wenloom.model.lora import merge
from wenloom.model.quantize import (
    Bits,
    QuantizedLinear,
    bits_of_layers,
    quantize,
    quantize_head,
    quantize_weight,
    require_unquantized,
)
from wenloom.tokens.folder import has_tokenizer
from wenloom.tokens.tokenizer import TextTokenizer


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        CheckpointError: not there, not JSON or not an object; says where.
    """
    return read_json_object(path, CheckpointError)


def read_config(folder: Path) -> ModelConfig:
    """The model's shape from config.json and its end tokens from generation_config.json.

    Raises:
        CheckpointError: the folder is not a model, its family is unknown, or a field is not understood.
    """
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: no such folder." if not folder.exists() else f"{folder}: is not a folder.")
    path = place_of(folder) / CONFIG
    if is_adapter(folder):
        return read_config(base_of(folder))
    if not path.exists():
        raise CheckpointError(f"{folder}: is not a model folder (it has no {CONFIG}).")
    raw = read_json(path)
    family, fields = _family(raw.get("model_type"), path), ConfigFields(raw, str(path))
    with reading(path, CheckpointError):
        try:
            config = family.read_config(fields)
        except InputError as error:
            raise CheckpointError(f"{path}: {error}") from None
    if fields.ignored:
        _say_ignored(path, tuple(fields.ignored))
    return with_token_ids(config, path.with_name(GENERATION))


@functools.cache
def _say_ignored(path: Path, names: tuple[str, ...]) -> None:
    """Once a process."""
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    listed = ", ".join(printable(name, 60) for name in names[:8])
    remark(f"{path}: ignored, as transformers does: {listed}{more}.")


def shape_of(folder: Path) -> tuple[ModelConfig, str | None]:
    """The shape of a model as its weights have it, and what is wrong with these, if anything.

    Raises:
        CheckpointError: see `read_config`.
    """
    config = read_config(folder)
    try:
        with ExitStack() as stack:
            family, place = FAMILIES[config.family], place_of(folder)
            named = by_full_name(stored_tensors(weight_files(place), stack), family, folder)
            stored = gathered(named, quantization_of(folder), config, family, folder)
            return as_stored(config, family, stored, folder), None
    except CheckpointError as error:
        return config, str(error)


def weights_of(folder: Path) -> tuple[list[Path], list[str], str | None]:
    """A folder's files of weights, the kinds of floating-point numbers in them, and what they are quantized to.

    Raises:
        CheckpointError: they cannot be opened.
    """
    place = place_of(folder)
    files, quantization = weight_files(place), quantization_of(folder)
    with ExitStack() as stack:
        kinds = sorted({tensor.dtype for tensor in stored_tensors(files, stack).values()} & {*FLOATING})
    return files, kinds, None if quantization is None else quantization.label


def is_model(folder: Path) -> bool:
    """Whether a folder holds a model of its own."""
    return (place_of(folder) / CONFIG).exists()


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter, and no model of its own."""
    return (folder / ADAPTER_CONFIG).exists() and not is_model(folder)


def base_of(folder: Path) -> Path:
    """The folder of the model that an adapter belongs to, which may be an adapter's, too; of another folder, itself.

    Raises:
        CheckpointError: it names none, one that cannot be had, or in the end itself.
    """
    if not is_adapter(folder):
        return folder
    base = each = _named_base(folder)
    seen = {folder.resolve()}
    while is_adapter(each):
        if each.resolve() in seen:
            raise CheckpointError(f"{folder / ADAPTER_CONFIG}: names itself as its model (base_model_name_or_path).")
        seen.add(each.resolve())
        each = _named_base(each)
    return base


def load_tokenizer(folder: Path) -> TextTokenizer:
    """The tokenizer of a model's folder; that of its model for an adapter without one, as PEFT writes it.

    Raises:
        CheckpointError: there is none, or it is damaged.
    """
    has_none = is_adapter(folder) and not has_tokenizer(folder)
    return TextTokenizer.from_pretrained(base_of(folder) if has_none else folder)


def _named_base(folder: Path) -> Path:
    path = folder / ADAPTER_CONFIG
    raw = read_json_object(path, CheckpointError)
    name, revision = raw.get("base_model_name_or_path"), raw.get("revision")
    if not isinstance(name, str) or not 0 < len(name) < 4096:
        raise CheckpointError(f"{path}: does not name its model (base_model_name_or_path).")
    with reading(path, CheckpointError, f'its model "{printable(name, 80)}" cannot be looked up'):
        if revision not in (None, "main") and not Path(name).expanduser().exists():
            raise CheckpointError(
                f'{path}: asks for revision "{printable(str(revision), 40)}" of {printable(name, 80)}: download that '
                "and name its folder in base_model_name_or_path."
            )
        return resolve(name)


def _family(name: object, where: Path | str) -> Family:
    if isinstance(name, str) and name in DECLINED:
        raise CheckpointError(f"{where}: models of the family {name} are not read: {DECLINED[name]}.")
    if not isinstance(name, str) or name not in FAMILIES:
        raise CheckpointError(
            f"{where}: family (model_type) {shown(name)} is not known; known are {', '.join(FAMILIES)}."
        )
    return FAMILIES[name]


def load_decoder(
    folder: Path, device: str = "cpu", dtype: torch.dtype = torch.float32, bits: Bits | None = None
) -> Decoder:
    """Read a decoder-only model, see `load_model`.

    Args:
        bits: quantize its linear layers to so many, see `model.quantize`: one after the other as they are read, so that the
            memory of a single one is all that unquantized weights take.

    Raises:
        InputError: it is of another kind, or quantized already by Wenloom.
    """
    if (kind := read_config(folder).kind) != "decoder":
        raise InputError(f"{folder}: is an {kind} model; this needs one that continues a text (a decoder).")
    as_it_is_read = bits is not None and not is_adapter(folder)  # else once the base holds the adapter
    model = _load(folder, device, dtype, bits=bits) if as_it_is_read else load_model(folder, device, dtype)
    assert isinstance(model, Decoder)
    return model if bits is None or as_it_is_read else quantize(model, bits)


def load_model(folder: Path, device: str = "cpu", dtype: torch.dtype = torch.float32, needs_head: bool = True) -> Model:
    """Read a model.

    Args:
        folder: a Hugging Face folder of one of the known families, or one with an adapter in PEFT's format, whose
            model is read and changed by it.
        device: where the weights go.
        dtype: what they are converted to.
        needs_head: whether a decoder must have an output matrix; none, where only its hidden states are asked for.

    Returns:
        The model in evaluation mode.

    Raises:
        CheckpointError: see `read_config`; or weights are missing, unexpected, misshapen, truncated or pickled.
    """
    if is_adapter(folder):
        base, has_classes = base_of(folder), bool(read_adapter_config(folder / ADAPTER_CONFIG).saved)
        model = _load(base, device, dtype, needs_head and not has_classes)
        return merge(load_adapter(model, folder, weight_files(place_of(base)))).eval()
    return _load(folder, device, dtype, needs_head)


def _load(folder: Path, device: str, dtype: torch.dtype, needs_head: bool = True, bits: Bits | None = None) -> Model:
    """Read a model of its own.

    Args:
        needs_head: whether a decoder must have an output matrix; none, where classes take its place.
        bits: see `load_decoder`.
    """
    config = read_config(folder)
    family = _family(config.family, folder)
    place = place_of(folder)
    quantization = quantization_of(folder)
    if bits is not None and quantization is not None and quantization.own:
        raise InputError(f"{folder}: its weights are quantized already.")
    weights: dict[str, Tensor] = {}
    pages = LargePages()
    rounded_layers: dict[str, QuantizedLinear] = {}

    def put(layer: QuantizedLinear, path: str) -> None:
        model.set_submodule(path, layer)
        layer.packed, layer.scale = pages.keep(layer.packed, device=device), pages.keep(layer.scale, device=device)
        weights.update({f"{path}.packed": layer.packed, f"{path}.scale": layer.scale})
        rounded_layers[f"{path}.bias"] = layer

    with ExitStack() as stack:
        named = by_full_name(stored_tensors(weight_files(place), stack), family, folder)
        stored = gathered(named, quantization, config, family, folder, dtype)
        config = as_stored(config, family, stored, folder, needs_head)
        with torch.device("meta"):
            model = build(config)
        expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
        layers = bits_of_layers(model, bits or 8) if isinstance(model, Decoder) else {}
        chosen = layers if bits is not None else {}
        used: set[str] = set()
        became: list[tuple[bool, int]] = []  # quantized matrices: whether in their bits, and of how many weights
        for each in family.tensors(config):
            found = [name for name in family.names(each.theirs, config.logits.tied) if name in stored]
            if not found and each.theirs in family.optional:
                weights |= {name: torch.zeros(expected[name], dtype=dtype, device=device) for name in each.ours}
                continue
            if not found:
                raise missing(each.theirs, config, family, stored, folder)
            used.update(found)
            source = stored[found[0]]
            copies = found[1:] if config.logits.tied or each.theirs.endswith("weight") else []
            paths = [ours.removesuffix(".weight") for ours in each.ours]
            if isinstance(source, QuantizedMatrix):
                whole = source.kept_or_widened(not copies and {*paths} <= layers.keys() | {"head"})
                became.append((isinstance(whole, KeptMatrix), math.prod(source.shape)))
                if isinstance(whole, KeptMatrix):
                    parts = zip(paths, _split(each, whole.q, expected, folder), each.split(whole.scale), strict=True)
                    for path, q, scale in parts:
                        put(QuantizedLinear(q, scale[:, 0] if whole.bits == 8 else scale, None, whole.bits), path)
                    source.release()
                    continue
            else:
                whole = source.read_weights()
            if other := next((name for name in copies if not is_same(whole, stored[name])), None):
                raise CheckpointError(
                    f"{folder}: the weights hold two tensors where {config.family} has one, and they differ: "
                    f'"{found[0]}" and "{other}".'
                )
            for ours, path, tensor in zip(each.ours, paths, _split(each, whole, expected, folder), strict=True):
                if (its_bits := chosen.get(path)) is None:
                    weights[ours] = pages.take(tensor, dtype, device)
                else:
                    put(QuantizedLinear(*quantize_weight(tensor, its_bits), None, its_bits), path)
            source.release(whole)
        check_left(sorted(name for name in stored.keys() - used if not family.buffers.search(name)), family, folder)
    for name, layer in rounded_layers.items():
        if name in weights:
            layer.bias = torch.nn.Parameter(weights[name], requires_grad=False)
    model.load_state_dict(weights, assign=True)
    is_ours = bits is not None or (quantization is not None and quantization.own is not None)
    if is_ours and isinstance(model, Decoder) and not isinstance(model.head, QuantizedLinear):
        quantize_head(model, pages)
    if quantization is not None:
        say_quantized(folder, quantization.label, quantization.rounds_activations, tuple(became), dtype, bits)
    return model.eval() if bits is None else model.eval().requires_grad_(False)


def _split(each: TensorMap, tensor: Tensor, expected: dict[str, tuple[int, ...]], folder: Path) -> list[Tensor]:
    """Our tensors of one of theirs, with the shapes checked."""
    try:
        parts = list(each.split(tensor))
    except RuntimeError:
        parts = []
    wanted = [expected[name] for name in each.ours]
    if [tuple(part.shape) for part in parts] != wanted:
        shapes = " + ".join(map(str, wanted))
        raise CheckpointError(
            f'{folder}: tensor "{each.theirs}" has shape {tuple(tensor.shape)}, but config.json asks for {shapes}.'
        )
    return parts


def hf_state(decoder: Model) -> Iterator[tuple[str, Tensor]]:
    """The model's weights under the names and in the layout of its family, one at a time.

    Raises:
        InputError: they are quantized.
    """
    require_unquantized(decoder, "saving writes unquantized weights")
    state = decoder.state_dict()
    for each in FAMILIES[decoder.config.family].tensors(decoder.config):
        yield each.theirs, each.join([state[name].detach() for name in each.ours]).contiguous().cpu()


def stored_dtype(folder: Path) -> torch.dtype:
    """The number type of a folder's weights, the widest where there are several; of an adapter, its model's.

    Raises:
        CheckpointError: see `load_model`.
    """
    if is_adapter(folder):
        return stored_dtype(base_of(folder))
    quantization = quantization_of(folder)
    with ExitStack() as stack:
        stored = stored_tensors(weight_files(place_of(folder)), stack)
        found = {tensor.dtype for name, tensor in stored.items() if not is_part(name, quantization)}
    known = {"F64": torch.float64, "F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}
    return functools.reduce(torch.promote_types, {known[name] for name in found & set(known)} or {torch.float32})


def write_model_files(
    decoder: Model,
    folder: Path,
    shard_bytes: int = SHARD_BYTES,
    bits: Bits | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Write config.json, generation_config.json and the weights into an existing folder.

    Not atomic: call it inside `files.folder_aside`.

    Args:
        bits: quantize the weights of the blocks to so many, see `checkpoint.quantized.writing`.
        dtype: number type of the other weights then; None: as they are.

    Raises:
        InputError: quantized weights of this family have no format.
    """
    config = decoder.config
    raw = FAMILIES[config.family].config_json(config)
    state = hf_state(decoder)
    if bits is not None:
        if not isinstance(decoder, Decoder):
            raise InputError(f"quantized weights of a model of the family {config.family} have no format.")
        state = quantized_state(decoder, bits, dtype).items()
        raw["quantization_config"] = quantization_config(config, bits)
    (folder / CONFIG).write_text(json.dumps(raw, indent=2) + "\n", encoding="utf-8")
    names = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")
    generation = {name: raw[name] for name in names if raw.get(name) is not None}
    (folder / GENERATION).write_text(json.dumps(generation, indent=2) + "\n", encoding="utf-8")
    write_weights(state, folder, shard_bytes)


def save_model(decoder: Model, folder: Path) -> None:
    """Write a model into a folder that may hold other files and another model, which it replaces.

    A kill leaves the old model, the new one, or a folder that is refused, see `replacing.replaced`.

    Raises:
        WenloomError: the disk refused; a model that was there is untouched.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with replaced(folder) as aside:
        write_model_files(decoder, aside)

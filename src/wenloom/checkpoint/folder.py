"""A model is a Hugging Face folder: reading one, writing one."""

import functools
import json
import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from wenloom.checkpoint.families import FAMILIES
from wenloom.checkpoint.families.base import ConfigFields, Family, TensorMap
from wenloom.checkpoint.hub import resolve
from wenloom.checkpoint.quantized import quantization_config, quantized_state, read_rounding, take_layer
from wenloom.core.errors import CheckpointError, InputError, printable
from wenloom.core.files import folder_aside, publish
from wenloom.core.foreign import read_json_object, reading
from wenloom.core.memory import LargePages
from wenloom.model.build import Model, build
from wenloom.model.config import ModelConfig
from wenloom.model.decoder import Decoder
from wenloom.model.lora import merge
from wenloom.model.quantize import Bits, QuantizedLinear, round_head

WEIGHTS, INDEX, CONFIG, GENERATION = (
    "model.safetensors",
    "model.safetensors.index.json",
    "config.json",
    "generation_config.json",
)
ADAPTER_CONFIG = "adapter_config.json"
_HEADS = ("lm_head.", "embed_out.", "score.", "classifier.", "pre_classifier.", "cls.", "vocab_", "final_logits_bias")
"""How the names of what stands over a model's body begin."""
SHARD_BYTES = 5 * 2**30
"""Weights are cut into files of at most this size, as transformers does."""


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        CheckpointError: not there, not JSON or not an object; says where.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error}).") from None
    except json.JSONDecodeError as error:
        raise CheckpointError(f"{path}, line {error.lineno}: not valid JSON ({error.msg}).") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: holds {type(value).__name__}, expected an object.")
    return value


def read_config(folder: Path) -> ModelConfig:
    """The model's shape from config.json and its end tokens from generation_config.json.

    Raises:
        CheckpointError: the folder is no model, its family is unknown, or a field is not understood.
    """
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: no such folder." if not folder.exists() else f"{folder}: is no folder.")
    path = folder / CONFIG
    if is_adapter(folder) and not path.exists():
        return read_config(base_of(folder))
    if not path.exists():
        raise CheckpointError(f"{folder}: is no model folder (it has no {CONFIG}).")
    raw = read_json(path)
    generation = read_json(folder / GENERATION) if (folder / GENERATION).exists() else {}
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        if generation.get(name) is not None:
            raw[name] = generation[name]
    family = _family(raw.get("model_type"), path)
    try:
        return family.read_config(ConfigFields(raw, str(path)))
    except InputError as error:
        raise CheckpointError(f"{path}: {error}") from None


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter."""
    return (folder / ADAPTER_CONFIG).exists()


def base_of(folder: Path) -> Path:
    """The folder of the model that an adapter belongs to; that may have been an adapter's, too.

    Raises:
        CheckpointError: it names none, one that cannot be had, or in the end itself.
    """
    base = each = _named_base(folder)
    seen = {folder.resolve()}
    while is_adapter(each) and not (each / CONFIG).exists():
        if each.resolve() in seen:
            raise CheckpointError(f"{folder / ADAPTER_CONFIG}: names itself as its model (base_model_name_or_path).")
        seen.add(each.resolve())
        each = _named_base(each)
    return base


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
    if name not in FAMILIES:
        raise CheckpointError(f'{where}: family (model_type) "{name}" is not known; known are {", ".join(FAMILIES)}.')
    return FAMILIES[str(name)]


def load_decoder(folder: Path, device: str = "cpu", dtype: torch.dtype = torch.float32) -> Decoder:
    """Read a decoder-only model, see `load_model`.

    Raises:
        InputError: it is of another kind.
    """
    if (kind := read_config(folder).kind) != "decoder":
        raise InputError(f"{folder}: is an {kind} model; this needs one that goes on with a text (a decoder).")
    model = load_model(folder, device, dtype)
    assert isinstance(model, Decoder)
    return model


def load_model(folder: Path, device: str = "cpu", dtype: torch.dtype = torch.float32) -> Model:
    """Read a model.

    Args:
        folder: a Hugging Face folder of one of the known families, or one with an adapter in PEFT's format, whose
            model is read and changed by it.
        device: where the weights go.
        dtype: what they are converted to.

    Returns:
        The model in evaluation mode.

    Raises:
        CheckpointError: see `read_config`; or weights are missing, unexpected, misshapen, truncated or pickled.
    """
    config = read_config(folder)
    if is_adapter(folder) and not (folder / CONFIG).exists():
        from wenloom.checkpoint.adapter import load_adapter  # reads models' names, which are known here

        return merge(load_adapter(load_model(base_of(folder), device, dtype), folder)).eval()
    family = _family(config.family, folder)
    with torch.device("meta"):
        model = build(config)
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    weights: dict[str, Tensor] = {}
    pages = LargePages()
    rounded_layers: dict[str, QuantizedLinear] = {}
    rounding = read_rounding(read_json(folder / CONFIG), str(folder / CONFIG))
    with ExitStack() as stack:
        stored = _stored_tensors([stack.enter_context(_opened(path)) for path in _weight_files(folder)], family)
        for each in family.tensors(config):
            layer = rounding and take_layer(stored, each, expected[each.ours[0]], rounding, folder)
            if layer is not None:
                path = each.ours[0].removesuffix(".weight")
                model.set_submodule(path, layer)
                buffers = {"packed": layer.packed, "scale": layer.scale}
                weights |= {f"{path}.{name}": pages.keep(buffer, device=device) for name, buffer in buffers.items()}
                rounded_layers[f"{path}.bias"] = layer
                continue
            if each.theirs not in stored:
                raise CheckpointError(f'{folder}: tensor "{each.theirs}" is missing from the weights.')
            file, name = stored.pop(each.theirs)
            parts = _split(each, file.get_tensor(name), expected, folder)
            for ours, tensor in zip(each.ours, parts, strict=True):
                weights[ours] = pages.keep(tensor, dtype, device)
        tied = ("lm_head.weight", "embed_out.weight") if config.tie_embeddings else ()
        if left := sorted(name for name in stored if name not in tied and not family.buffers.search(name)):
            more = f" and {len(left) - 3} more" if len(left) > 3 else ""
            raise CheckpointError(
                f"{folder}: the weights hold tensors that config.json does not explain: {', '.join(left[:3])}{more}."
            )
    for name, layer in rounded_layers.items():
        if name in weights:
            layer.bias = torch.nn.Parameter(weights[name], requires_grad=False)
    model.load_state_dict(weights, assign=True)
    if rounding is not None and isinstance(model, Decoder) and not isinstance(model.head, QuantizedLinear):
        round_head(model, pages)
    return model.eval()


def _stored_tensors(files: list[Any], family: Family) -> dict[str, tuple[Any, str]]:
    """Where each tensor is: its full name to (file, name in the file).

    Files saved from the bare model, as the original GPT-2 was, leave the family's prefix out.
    """
    names = {name: file for file in files for name in file.keys()}  # noqa: SIM118 - safe_open is no dict
    prefix = "" if any(name.startswith(family.base_prefix) for name in names) else family.base_prefix
    stored = {}
    for name, file in names.items():
        newer = _NORM_NAMES.sub(lambda older: {"gamma": "weight", "beta": "bias"}[older[0]], name)
        stored[newer if newer.startswith(_HEADS) else prefix + newer] = file, name
    return stored


_NORM_NAMES = re.compile(r"(?<=LayerNorm\.)(gamma|beta)$")
"""What old files call the weight and bias of a LayerNorm."""


def _split(each: TensorMap, tensor: Tensor, expected: dict[str, tuple[int, ...]], folder: Path) -> list[Tensor]:
    """Theirs to ours, with the shapes checked."""
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


def _opened(path: Path) -> Any:
    try:
        return safe_open(path, "pt")
    except FileNotFoundError:
        raise CheckpointError(f"{path}: named in {INDEX} but not there.") from None
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path}: is damaged or cut short ({path.stat().st_size:,} bytes; {error}). Copy or download it again."
        ) from None


def _weight_files(folder: Path) -> list[Path]:
    if (folder / INDEX).exists():
        weight_map = read_json(folder / INDEX).get("weight_map")
        if not isinstance(weight_map, dict):
            raise CheckpointError(f'{folder / INDEX}: has no "weight_map".')
        names = sorted(set(weight_map.values()))
        if strange := [name for name in names if Path(str(name)).name != name]:
            raise CheckpointError(f"{folder / INDEX}: names a file outside the folder: {strange[0]}.")
        return [folder / name for name in names]
    if (folder / WEIGHTS).exists():
        return [folder / WEIGHTS]
    pickles = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth", "*.ckpt") for path in folder.glob(pattern))
    if pickles:
        raise CheckpointError(
            f"{folder}: weights are pickled ({pickles[0]}), which can run code when read. Convert them once, where "
            "you trust them: transformers' AutoModelForCausalLM.from_pretrained(...).save_pretrained(...) writes safetensors."
        )
    raise CheckpointError(f"{folder}: has a {CONFIG} but no weights ({WEIGHTS}).")


def hf_state(decoder: Model) -> Iterator[tuple[str, Tensor]]:
    """The model's weights under the names and in the layout of its family, one at a time."""
    state = decoder.state_dict()
    for each in FAMILIES[decoder.config.family].tensors(decoder.config):
        yield each.theirs, each.join([state[name].detach() for name in each.ours]).contiguous().cpu()


def stored_dtype(folder: Path) -> torch.dtype:
    """The number type of a folder's weights, the widest where there are several; of an adapter, its model's.

    Raises:
        CheckpointError: see `load_model`.
    """
    if is_adapter(folder) and not (folder / CONFIG).exists():
        return stored_dtype(base_of(folder))
    with ExitStack() as stack:
        opened = [stack.enter_context(_opened(path)) for path in _weight_files(folder)]
        found = {file.get_slice(name).get_dtype() for file in opened for name in file.keys()}  # noqa: SIM118
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
        bits: round the weights of the blocks to so many, see `checkpoint.quantized`.
        dtype: number type of the other weights then; None: as they are.

    Raises:
        InputError: rounded weights of this family have no format.
    """
    config = decoder.config
    raw = FAMILIES[config.family].config_json(config)
    state = hf_state(decoder)
    if bits is not None:
        if not isinstance(decoder, Decoder):
            raise InputError(f"rounded weights of a model of the family {config.family} have no format.")
        state = quantized_state(decoder, bits, dtype).items()
        raw["quantization_config"] = quantization_config(bits)
    (folder / CONFIG).write_text(json.dumps(raw, indent=2) + "\n", encoding="utf-8")
    names = ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")
    generation = {name: raw[name] for name in names if raw.get(name) is not None}
    (folder / GENERATION).write_text(json.dumps(generation, indent=2) + "\n", encoding="utf-8")

    shards: list[dict[str, Tensor]] = [{}]
    room = shard_bytes
    for name, tensor in state:
        if tensor.nbytes > room and shards[-1]:
            shards.append({})
            room = shard_bytes
        shards[-1][name] = tensor
        room -= tensor.nbytes
    if len(shards) == 1:
        _save(shards[0], folder / WEIGHTS)
        return
    weight_map = {}
    for number, shard in enumerate(shards, 1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors"
        _save(shard, folder / file)
        weight_map |= dict.fromkeys(shard, file)
    total = sum(tensor.nbytes for shard in shards for tensor in shard.values())
    index = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def save_model(decoder: Model, folder: Path) -> None:
    """Write a model into a folder that may hold other files; each file appears in one piece, the weights last.

    Raises:
        WenloomError: the disk refused; a model that was there is untouched.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with folder_aside(folder / ".saving") as aside:
        write_model_files(decoder, aside)
    for file in sorted((folder / ".saving").iterdir()):
        publish(file, folder)
    shutil.rmtree(folder / ".saving")


def _save(tensors: dict[str, Tensor], path: Path) -> None:
    try:
        save_file(tensors, path, metadata={"format": "pt"})
    except SafetensorError as error:  # what the disk refused comes back under this name
        raise OSError(0, str(error)) from error

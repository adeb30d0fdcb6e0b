"""Folders of sentence-transformers: a model, and how the vectors of its tokens become one of the text.

`modules.json` lists what follows each other: a Transformer, a Pooling, then any of Dense, LayerNorm, Normalize and Dropout, each
with a folder of its own. `sentence_bert_config.json` bounds the tokens of a text, `config_sentence_transformers.json` has prompts.
"""

import json
import math
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import nn

from wenloom.checkpoint.folder import read_json
from wenloom.checkpoint.weights import stored_tensors, weight_files, write_tensors
from wenloom.core.errors import CheckpointError, printable
from wenloom.core.files import write_atomically
from wenloom.core.foreign import read_json as read_any_json
from wenloom.model.pooling import ACTIVATIONS, POOLING_MODES, Dense, PoolingMode, UnitLength

MODULES, SETTINGS, PROMPTS = "modules.json", "sentence_bert_config.json", "config_sentence_transformers.json"
_OTHER_SETTINGS = (
    "sentence_roberta_config.json",
    "sentence_distilbert_config.json",
    "sentence_xlm-roberta_config.json",
)
"""Names that the settings have in folders of old versions."""
Similarity = Literal["cosine", "dot", "euclidean", "manhattan"]
"""How vectors are compared, by sentence-transformers' names."""
_OLD_MODES: dict[str, PoolingMode] = {
    "pooling_mode_cls_token": "cls", "pooling_mode_max_tokens": "max", "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens", "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}  # fmt: skip
_KNOWN = ("Transformer", "Pooling", "Dense", "LayerNorm", "Normalize", "Dropout")
_WIDEST = 2**20


@dataclass(frozen=True)
class SentenceConfig:
    """How a model embeds texts."""

    pooling: tuple[PoolingMode, ...] = ("mean",)
    include_prompt: bool = True
    """Whether the tokens of a prompt are pooled like others."""
    head: nn.Sequential = field(default_factory=lambda: nn.Sequential(UnitLength()))
    """What follows the pooling."""
    max_tokens: int | None = None
    """Of a text, what stands around it counted; None: as many as the model takes."""
    lowercase: bool = False
    prompts: Mapping[str, str] = field(default_factory=dict)
    """What is put before a text, by name."""
    default_prompt: str | None = None
    """The prompt that is used where none is named."""
    similarity: Similarity = "cosine"
    is_written: bool = False
    """Whether a folder says all this; else it is what holds where none does."""

    @property
    def normalizes(self) -> bool:
        """Whether vectors have length 1."""
        return len(self.head) > 0 and isinstance(self.head[-1], UnitLength)


def transformer_folder(folder: Path) -> Path:
    """Where the model itself is: folders of old versions have it in one of their own.

    Raises:
        CheckpointError: see `read_sentence_config`.
    """
    return next((path for kind, path in _modules(folder) if kind == "Transformer"), folder)


def read_sentence_config(folder: Path) -> SentenceConfig:
    """What a folder says; where it has no modules.json, the mean over tokens, brought to length 1.

    Raises:
        CheckpointError: a file is damaged, or asks for what is not offered; says which and what.
    """
    modules = _modules(folder)
    if not modules:
        return SentenceConfig()
    pooling: tuple[PoolingMode, ...] = ()
    include_prompt, head, place = True, list[nn.Module](), folder
    for kind, path in modules:
        if kind == "Transformer":
            place = path
        elif kind == "Pooling":
            pooling, include_prompt = _pooling(path / "config.json")
        elif kind != "Dropout":
            head.append(_layer(kind, path))
    if not pooling:
        raise CheckpointError(f"{folder / MODULES}: has no Pooling: vectors of tokens are not pooled.")
    settings = next((place / name for name in (SETTINGS, *_OTHER_SETTINGS) if (place / name).exists()), None)
    table = {} if settings is None else read_json(settings)
    longest, lowercase = table.get("max_seq_length"), table.get("do_lower_case", False)
    if not (longest is None or (type(longest) is int and longest > 0)) or not isinstance(lowercase, bool):
        raise CheckpointError(f"{settings}: max_seq_length must be a number of tokens, do_lower_case true or false.")
    if isinstance(modalities := table.get("modality_config"), dict) and "message" in modalities:
        raise CheckpointError(f"{settings}: texts go through a chat template (modality_config: message), which is not offered; without modality_config the bare text is embedded.")  # fmt: skip
    prompts, default, similarity = _prompts(folder / PROMPTS)
    return SentenceConfig(pooling, include_prompt, nn.Sequential(*head).eval(), longest, lowercase, prompts, default, similarity, True)  # fmt: skip


def _modules(folder: Path) -> list[tuple[str, Path]]:
    """Kinds and folders of what follows each other; nothing, where no modules.json is."""
    file = folder / MODULES
    if not file.exists():
        return []
    listed, found = read_any_json(file, CheckpointError), list[tuple[str, Path]]()
    if not isinstance(listed, list) or not listed:
        raise CheckpointError(f"{file}: must hold a list of modules.")
    for number, each in enumerate(listed):
        kind, path = (each.get(name) if isinstance(each, dict) else None for name in ("type", "path"))
        name = kind.rpartition(".")[2] if isinstance(kind, str) else ""
        if name not in _KNOWN:
            raise CheckpointError(f"{file}: module {number} is of type {printable(str(kind), 80)}; known are {', '.join(_KNOWN)}.")  # fmt: skip
        if not isinstance(path, str) or path != Path(path).name or "\\" in path or "\0" in path:
            raise CheckpointError(f'{file}: module {number}: "path" must name a folder beside it.')
        found.append((name, folder / path))
    return found


def _pooling(file: Path) -> tuple[tuple[PoolingMode, ...], bool]:
    table = read_json(file)
    old = {name: value for name, value in table.items() if name.startswith("pooling_mode_")}
    given = table.get("pooling_mode", [name for name, value in old.items() if value] if old else "mean")
    names = [given] if isinstance(given, str) else given
    if not isinstance(names, list) or not names:
        raise CheckpointError(f"{file}: pools by nothing; known are {', '.join(POOLING_MODES)}.")
    modes: list[PoolingMode] = []
    for name in names:
        mode: PoolingMode | None = next(
            (each for each in POOLING_MODES if each == _OLD_MODES.get(str(name), name)), None
        )
        if mode is None:
            raise CheckpointError(f"{file}: pools by {printable(str(name), 60)}; known are {', '.join(POOLING_MODES)}.")
        modes.append(mode)
    if "pooling_mode" not in table:  # switches have no order of their own
        modes.sort(key=POOLING_MODES.index)
    include = table.get("include_prompt", True)
    if not isinstance(include, bool):
        raise CheckpointError(f"{file}: include_prompt must be true or false.")
    return tuple(modes), include


def _layer(kind: str, path: Path) -> nn.Module:
    """A module behind the pooling, with its weights."""
    table = read_json(path / "config.json") if (path / "config.json").exists() else {}
    for name in ("module_input_name", "module_output_name"):
        if table.get(name) not in (None, "sentence_embedding"):
            raise CheckpointError(f"{path / 'config.json'}: {name} {printable(str(table[name]), 60)}: only vectors of texts (sentence_embedding) are known.")  # fmt: skip
    if kind == "Normalize":
        return UnitLength()
    names = ("dimension",) if kind == "LayerNorm" else ("in_features", "out_features")
    sizes = [size for name in names if type(size := table.get(name)) is int and 0 < size < _WIDEST]
    if len(sizes) < len(names):
        raise CheckpointError(f"{path / 'config.json'}: {' and '.join(names)} must be numbers of dimensions.")
    with torch.device("meta"):
        if kind == "LayerNorm":
            made: nn.Module = nn.LayerNorm(sizes[0])
        else:
            activation = str(table.get("activation_function", "Tanh")).rpartition(".")[2]
            if activation not in ACTIVATIONS:
                raise CheckpointError(f"{path / 'config.json'}: activation_function {printable(activation, 60)}; known are {', '.join(ACTIVATIONS)}.")  # fmt: skip
            made = Dense(
                sizes[0], sizes[1], table.get("bias", True) is True, activation, table.get("use_residual") is True
            )
    prefix = "norm." if kind == "LayerNorm" else ""
    with ExitStack() as stack:
        stored = stored_tensors(weight_files(path), stack)
        wanted = {name: tensor.shape for name, tensor in made.state_dict().items()}
        if {prefix + name: tuple(shape) for name, shape in wanted.items()} != {
            name: each.shape for name, each in stored.items()
        }:
            shown = ", ".join(f"{prefix}{name} {tuple(shape)}" for name, shape in wanted.items())
            raise CheckpointError(f"{path}: the weights are not those that config.json asks for ({shown}).")
        made.load_state_dict({name: stored[prefix + name].read_weights().float() for name in wanted}, assign=True)
    return made


def _prompts(file: Path) -> tuple[dict[str, str], str | None, Similarity]:
    table = read_json(file) if file.exists() else {}
    prompts, default = table.get("prompts") or {}, table.get("default_prompt_name")
    if not isinstance(prompts, dict) or not all(isinstance(text, str | None) for text in prompts.values()):
        raise CheckpointError(f"{file}: prompts must be texts by name.")
    prompts = {name: text or "" for name, text in prompts.items()}
    if default is not None and default not in prompts:
        raise CheckpointError(f"{file}: default_prompt_name {printable(str(default), 60)} is none of the prompts ({', '.join(prompts)}).")  # fmt: skip
    similarity = table.get("similarity_fn_name") or "cosine"
    if similarity not in get_args(Similarity):
        raise CheckpointError(f"{file}: similarity_fn_name {printable(str(similarity), 60)}; known are {', '.join(get_args(Similarity))}.")  # fmt: skip
    return prompts, default, similarity


def write_sentence_config(config: SentenceConfig, width: int, folder: Path) -> None:
    """Write the files by which sentence-transformers embeds with the model of a folder as we do.

    Args:
        width: of a token's vector.

    Raises:
        OSError, WenloomError: the disk refused.
    """
    files: dict[str, Any] = {}
    listed = [("", "Transformer"), ("1_Pooling", "Pooling")]
    modes = {name: mode in config.pooling for name, mode in _OLD_MODES.items()}
    order = tuple(mode for mode in POOLING_MODES if mode in config.pooling)
    if order != config.pooling:  # switches, which all versions read, have no order
        modes = {"pooling_mode": list(config.pooling)}
    files["1_Pooling/config.json"] = {
        "word_embedding_dimension": width,
        **modes,
        "include_prompt": config.include_prompt,
    }
    for number, layer in enumerate(config.head, 2):
        kind = "Normalize" if isinstance(layer, UnitLength) else type(layer).__name__
        place = f"{number}_{kind}"
        listed.append((place, kind))
        files[f"{place}/config.json"] = _table(layer)
    files[MODULES] = [{"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{kind}"}
                      for number, (path, kind) in enumerate(listed)]  # fmt: skip
    files[SETTINGS] = {"max_seq_length": config.max_tokens, "do_lower_case": config.lowercase}
    files[PROMPTS] = {"prompts": dict(config.prompts), "default_prompt_name": config.default_prompt,
                      "similarity_fn_name": config.similarity}  # fmt: skip
    for name, content in files.items():
        write_atomically(folder / name, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    for (place, _), layer in zip(listed[2:], config.head, strict=True):
        prefix = "norm." if isinstance(layer, nn.LayerNorm) else ""
        weights = {prefix + name: tensor.cpu().contiguous() for name, tensor in layer.state_dict().items()}
        if weights:
            write_tensors(weights, folder / place / "model.safetensors")


def _table(layer: nn.Module) -> dict[str, Any]:
    if isinstance(layer, Dense):
        kind = type(layer.activation)
        residual = {"use_residual": True} if layer.has_residual else {}
        return {"in_features": layer.linear.in_features, "out_features": layer.linear.out_features,
                "bias": layer.linear.bias is not None, "activation_function": f"{kind.__module__}.{kind.__name__}", **residual}  # fmt: skip
    return {"dimension": math.prod(layer.normalized_shape)} if isinstance(layer, nn.LayerNorm) else {}

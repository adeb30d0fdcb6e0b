"""A GGUF file as a model and its tokenizer."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from wenloom.checkpoint.gguf.architectures import ARCHITECTURES
from wenloom.checkpoint.gguf.fields import GgufFields
from wenloom.checkpoint.gguf.numbers import read_numbers
from wenloom.checkpoint.gguf.positions import FACTORS
from wenloom.checkpoint.gguf.reader import GgufFile, StoredTensor, open_gguf
from wenloom.checkpoint.gguf.shape import read_shape
from wenloom.checkpoint.gguf.tensors import tensor_maps
from wenloom.checkpoint.gguf.vocabulary import GgufVocabulary, read_tokenizer
from wenloom.core.console import remark
from wenloom.core.errors import CheckpointError, printable
from wenloom.core.progress import progress
from wenloom.model.build import Model, build
from wenloom.model.config import ModelConfig
from wenloom.model.pooling import PoolingMode
from wenloom.tokens.tokenizer import TextTokenizer

_PLAIN = {"F64": torch.float64, "F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}


class Imported(NamedTuple):
    """What a GGUF file holds."""

    model: Model
    tokenizer: TextTokenizer
    kinds: dict[str, int]
    """How many numbers are kept in which kind, the most common kind first."""
    pooling: PoolingMode | None
    """How vectors of tokens become one of a text, of a model that embeds."""


POOLING: dict[int, PoolingMode | None] = {0: None, 1: "mean", 2: "cls", 3: "lasttoken"}
"""The field pooling_type."""


def read_gguf(path: Path, dtype: torch.dtype | None = None) -> Imported:
    """Read a GGUF file, or several that are one model cut into parts.

    Args:
        path: the file, or any of the parts, which lie beside each other.
        dtype: number type of the weights; None: that of the file where most of its numbers are kept in one (F32, F16, BF16),
            else bfloat16, to which quantized numbers are widened.

    Raises:
        CheckpointError: it is damaged, or holds something that Wenloom does not read; says which byte, field or tensor.
    """
    with ExitStack() as stack:
        file = open_gguf(path, stack)
        fields = GgufFields(file.fields, path)
        vocabulary = GgufVocabulary(fields, path)
        text = read_tokenizer(vocabulary)
        shapes = {name: stored.shape for name, stored in file.tensors.items()}
        ids = {f"{role}_id": vocabulary.roles.get(role) for role in ("bos_token", "pad_token")}
        ends = vocabulary.ends()
        tokens = {**ids, "eos_token_id": ends[0] if len(ends) == 1 else list(ends) or None}
        number = fields.integer("pooling_type", 0)
        if number not in POOLING:
            raise fields.refuse("pooling_type", f"{number} is not supported (only {', '.join(map(str, POOLING))})")
        config = read_shape(fields, shapes, lambda name: factors_of(file, name), tokens, path)
        if len(vocabulary.tokens) > config.vocab_size:
            raise CheckpointError(
                f"{path}: has {len(vocabulary.tokens):,} tokens, and {config.vocab_size:,} rows for them (token_embd.weight)."
            )
        if left := [name for name in fields.left("") if not name.startswith(_SAYS_NOTHING)]:
            remark(f"{path}: ignored: {', '.join(printable(name, 60) for name in left[:8])}.")
        kinds = _kinds_of(file)
        most = next(iter(kinds), "")
        if most not in _PLAIN:
            remark(f"{path}: quantized ({', '.join(kind for kind in kinds if kind not in _PLAIN)}); its numbers are widened to "
                   f"{str(dtype or torch.bfloat16).removeprefix('torch.')} (--dtype).")  # fmt: skip
        model = _read_weights(file, config, fields.architecture, dtype or _PLAIN.get(most, torch.bfloat16))
    text.model_max_length = config.context_length
    return Imported(model, text, kinds, POOLING[number])


_SAYS_NOTHING = ("general.", "split.", "quantize.")
"""How fields begin that say where a file comes from, not what it computes."""


def _kinds_of(file: GgufFile) -> dict[str, int]:
    counted: Counter[str] = Counter()
    for stored in file.tensors.values():
        counted[stored.kind.name] += int(np.prod(stored.shape, dtype=np.int64))
    return dict(counted.most_common())


def factors_of(file: GgufFile, name: str) -> np.ndarray | None:
    """The numbers of a tensor that holds factors of frequencies, None where there is none.

    Raises:
        CheckpointError: it cannot be read, or they are not above 0.
    """
    if name not in file.tensors:
        return None
    stored = file.tensors[name]
    if len(stored.shape) != 1:
        raise CheckpointError(f'{stored.path}: tensor "{name}" has shape {stored.shape}; factors stand in a row.')
    made = read_numbers(stored, torch.float32).numpy()
    if not (made > 0).all():
        raise CheckpointError(f'{stored.path}: tensor "{name}" holds factors of frequencies that are not above 0.')
    return made


def _read_weights(file: GgufFile, config: ModelConfig, architecture: str, dtype: torch.dtype) -> Model:
    """The model of a file.

    Args:
        config: its shape, see `shape.read_shape`.
        dtype: number type of the weights, to which quantized ones are widened.

    Raises:
        CheckpointError: a tensor is missing, has another shape or a kind that is not read, or nothing takes it.
    """
    row = ARCHITECTURES[architecture]
    with torch.device("meta"):
        model = build(config)
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    joins = "blk.0.attn_qkv.weight" in file.tensors
    maps = tensor_maps(row, config, expected, joins, row.joins_gate and "blk.0.ffn_gate.weight" not in file.tensors)
    _check_names(file, {each.theirs for each in maps})
    weights: dict[str, Tensor] = {}
    sizes = {name: int(np.prod(stored.shape, dtype=np.int64)) for name, stored in file.tensors.items()}
    with progress("Reading", sum(sizes[each.theirs] for each in maps), "weights") as bar:
        for each in maps:
            stored = file.tensors[each.theirs]
            for ours, part in zip(each.ours, _parts(stored, each.split, each.ours, expected, dtype), strict=True):
                weights[ours] = part.contiguous()
            bar.advance(sizes[each.theirs])
    model.load_state_dict(weights, assign=True)
    return model.eval()


def _check_names(file: GgufFile, wanted: set[str]) -> None:
    if gone := sorted(wanted - file.tensors.keys()):
        raise CheckpointError(f'{file.path}: has no tensor "{gone[0]}"; {len(gone):,} of {len(wanted):,} are missing.')
    if left := sorted(file.tensors.keys() - wanted - {*FACTORS}):
        listed = ", ".join(printable(name, 60) for name in left[:6])
        raise CheckpointError(
            f"{file.path}: holds {len(left):,} tensors that a model of this architecture does not have here: {listed}."
        )


def _parts(
    stored: StoredTensor,
    split: Callable[[Tensor], Sequence[Tensor]],
    ours: tuple[str, ...],
    expected: Mapping[str, tuple[int, ...]],
    dtype: torch.dtype,
) -> list[Tensor]:
    """Our tensors of one of the file's, with the shapes checked before any number is read."""
    wanted = [expected[name] for name in ours]
    with torch.device("meta"):
        try:
            shapes = [tuple(part.shape) for part in split(torch.empty(stored.shape))]
        except RuntimeError:
            shapes = []
    if shapes != wanted:
        raise CheckpointError(
            f'{stored.path}: tensor "{printable(stored.name, 100)}" has shape {stored.shape}, but the fields ask for '
            f"{' + '.join(map(str, wanted))}."
        )
    return list(split(read_numbers(stored, dtype)))

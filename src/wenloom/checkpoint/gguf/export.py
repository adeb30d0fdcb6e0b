"""A model folder as a GGUF file."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from wenloom.checkpoint.gguf.architectures import ARCHITECTURES, Architecture
from wenloom.checkpoint.gguf.encoders import plain_encoder
from wenloom.checkpoint.gguf.fields import GgufFields
from wenloom.checkpoint.gguf.folder import POOLING
from wenloom.checkpoint.gguf.kinds import NUMBERS, TENSORS
from wenloom.checkpoint.gguf.quantizing import WRITTEN, blocks_of, fitting
from wenloom.checkpoint.gguf.shape import check_kept, read_shape, write_shape
from wenloom.checkpoint.gguf.tensors import tensor_maps
from wenloom.checkpoint.gguf.tokens import write_tokenizer
from wenloom.checkpoint.gguf.writer import TensorToWrite, write_gguf
from wenloom.core.console import remark
from wenloom.core.errors import InputError
from wenloom.core.files import file_aside
from wenloom.model.build import Model
from wenloom.model.encoder import Encoder
from wenloom.model.pooling import PoolingMode
from wenloom.model.quantize import require_unquantized
from wenloom.tokens.tokenizer import TextTokenizer

_WIDE = ("token_embd.weight", "output.weight")
"""Matrices that are kept in 8 bits where the others have 4: each token has its own row, and errors go straight to the logits."""
_EXACT = ("position_embd.weight", "token_types.weight", ".attn_rel_b.weight", ".ffn_gate_inp.weight", ".bias")
"""How names of tensors end that llama.cpp wants in 32 bits."""


def export_gguf(
    model: Model,
    text: TextTokenizer,
    out: Path,
    kind: str = "Q8_0",
    name: str = "",
    pooling: Sequence[PoolingMode] = (),
) -> dict[str, int]:
    """Write a model and its tokenizer as one GGUF file, which llama.cpp, Ollama and LM Studio run.

    The file appears when it is complete. The shape is held against what a reader makes of the fields that were written, so
    that nothing is lost without a word.

    Args:
        kind: numbers of the matrices, one of `quantizing.WRITTEN`; vectors are kept in 32 bits, and embedding and output matrix
            in 8 where the others have 4.
        name: what the model is called in lists (general.name).
        pooling: how vectors of tokens become one of a text; none of a model that does not embed.

    Returns:
        How many numbers are kept in which kind.

    Raises:
        InputError: GGUF or llama.cpp has no words for the model or for its tokenizer; says for what.
        WenloomError: the disk refused.
    """
    if kind not in WRITTEN:
        raise InputError(f"type {kind!r}: known are {', '.join(WRITTEN)}.")
    require_unquantized(model, "a GGUF file is made of unquantized weights")
    if isinstance(model, Encoder):
        model = plain_encoder(model)
    config = model.config
    fields, factors = write_shape(config)
    row = ARCHITECTURES[fields["general.architecture"]]
    fields |= write_tokenizer(text, config)
    fields |= {"general.type": "model", "general.quantization_version": 2, "general.file_type": WRITTEN[kind],
               **({"general.name": name} if name else {})}  # fmt: skip
    tensors = _tensors(model, row, kind)
    tensors += [_plain(key, values) for key, values in factors.items()]
    shapes = {each.name: each.shape for each in tensors}
    kept = read_shape(GgufFields(_as_read(fields), out), shapes, factors.get, {}, out)
    check_kept(config, kept, row.name)
    if pooling:
        number = next((number for number, mode in POOLING.items() if list(pooling) == [mode]), None)
        if number is None:
            raise InputError(
                f"llama.cpp has no pooling of this kind ({' and '.join(pooling)}): it knows mean, cls and lasttoken."
            )
        fields[f"{row.name}.pooling_type"] = number
    if odd := sorted({each.kind for each in tensors} - {kind, "F32"} - ({"Q8_0"} if kind.startswith("Q4") else set())):
        numbers = TENSORS[NUMBERS[kind]].numbers
        remark(
            f"{kind} needs rows of a multiple of {numbers} numbers; matrices with others are written as {', '.join(odd)}."
        )
    with file_aside(out) as file:
        write_gguf(file, fields, tensors)
    counted: Counter[str] = Counter()
    for each in tensors:
        counted[each.kind] += int(np.prod(each.shape, dtype=np.int64))
    return dict(counted.most_common())


def _as_read(fields: dict[str, Any]) -> dict[str, Any]:
    """Numbers with the 32 bits that they have in the file."""
    return {
        name: float(str(np.float32(value))) if isinstance(value, float) else value for name, value in fields.items()
    }


def _tensors(model: Model, row: Architecture, kind: str) -> list[TensorToWrite]:
    """Every weight of the model, in the order of its blocks."""
    state = model.state_dict()
    maps = tensor_maps(row, model.config, state, row.joins_attention, row.joins_gate)
    if left := sorted(state.keys() - {name for each in maps for name in each.ours}):
        raise InputError(f"GGUF has no names here for {len(left):,} weights of this model: {', '.join(left[:4])}.")
    made = []
    for each in maps:
        parts = [state[name].detach().cpu() for name in each.ours]
        with torch.device("meta"):
            shape = tuple(each.join([torch.empty(part.shape) for part in parts]).shape)
        wide = "Q8_0" if each.theirs in _WIDE and kind.startswith("Q4") else kind
        chosen = "F32" if len(shape) == 1 or each.theirs.endswith(_EXACT) else fitting(wide, shape[-1])
        made.append(TensorToWrite(each.theirs, chosen, shape,
                                  lambda each=each, parts=parts, chosen=chosen: blocks_of(each.join(parts), chosen)))  # fmt: skip
    if row.needs_output and "head.weight" not in state:
        made.append(next(TensorToWrite("output.weight", tensor.kind, tensor.shape, tensor.data)
                         for tensor in made if tensor.name == "token_embd.weight"))  # fmt: skip
    return made


def _plain(name: str, values: np.ndarray) -> TensorToWrite:
    return TensorToWrite(name, "F32", values.shape, lambda: values.astype("<f4").tobytes())

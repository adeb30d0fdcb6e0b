"""Names of a GGUF file's tensors, and ours."""

from collections.abc import Callable, Collection, Sequence

import torch
from torch import Tensor

from wenloom.checkpoint.families.base import TensorMap, cat_rows, pairs_apart, same
from wenloom.checkpoint.gguf.architectures import Architecture
from wenloom.checkpoint.gguf.pairs import pair_maps
from wenloom.model.config import ModelConfig

_ENDS = {"token_embd": "embed", "position_embd": "positions", "token_types": "token_types", "token_embd_norm": "embedding_norm",
         "output_norm": "final_norm", "output": "head"}  # fmt: skip
_PARTS = {"attn_q": "attention.query", "attn_k": "attention.key", "attn_v": "attention.value",
          "attn_output": "attention.output", "attn_q_norm": "attention.query_norm", "attn_k_norm": "attention.key_norm",
          "ffn_gate": "mlp.gate", "ffn_up": "mlp.up", "ffn_down": "mlp.down", "ffn_gate_inp": "mlp.router"}  # fmt: skip


def tensor_maps(
    row: Architecture, config: ModelConfig, ours: Collection[str], joins_attention: bool, joins_gate: bool
) -> list[TensorMap]:
    """A map for every tensor that the model has.

    Args:
        ours: names of the model's weights.
        joins_attention, joins_gate: see `Architecture`; a file may differ from the rule.
    """
    if row.is_pair:
        return pair_maps(config, ours)
    maps = [
        same(f"{theirs}.{kind}", f"{name}.{kind}")
        for theirs, name in _ENDS.items()
        for kind in ("weight", "bias")
        if f"{name}.{kind}" in ours
    ]
    rotated = pairs_apart(config.d_head, config.positions.d_rotary or config.d_head) if row.is_paired else same
    for layer in range(config.n_layers):
        theirs, block = f"blk.{layer}", f"blocks.{layer}"
        for kind in ("weight", "bias"):
            parts = {**_norms(row, config), **_PARTS}
            if joins_attention and f"{block}.attention.query.{kind}" in ours:
                maps.append(_attention(config, f"{theirs}.attn_qkv.{kind}", f"{block}.attention", kind, rotated))
                parts = {name: part for name, part in parts.items() if name not in ("attn_q", "attn_k", "attn_v")}
            if joins_gate and f"{block}.mlp.gate.{kind}" in ours:
                both = (f"{block}.mlp.gate.{kind}", f"{block}.mlp.up.{kind}")
                maps.append(TensorMap(f"{theirs}.ffn_up.{kind}", both, _split([config.d_mlp] * 2), cat_rows))
                parts = {name: part for name, part in parts.items() if name not in ("ffn_gate", "ffn_up")}
            if config.mlp.experts_of(layer) is not None:
                maps += _experts(config, theirs, block, kind, ours)
            for name, part in parts.items():
                if f"{block}.{part}.{kind}" in ours:
                    make = rotated if name in ("attn_q", "attn_k") else same
                    maps.append(make(f"{theirs}.{name}.{kind}", f"{block}.{part}.{kind}"))
        if config.attention.sinks:
            maps.append(same(f"{theirs}.attn_sinks.weight", f"{block}.attention.sinks"))
    return maps


def _experts(config: ModelConfig, theirs: str, block: str, kind: str, ours: Collection[str]) -> list[TensorMap]:
    """Matrices, or biases, of all experts of a layer one after the other, by what they are for."""
    assert config.mlp.experts is not None
    found = []
    for part in ("gate", "up", "down"):
        names = tuple(f"{block}.mlp.experts.{number}.{part}.{kind}" for number in range(config.mlp.experts.count))
        if names[0] in ours:
            found.append(TensorMap(f"{theirs}.ffn_{part}_exps.{kind}", names, lambda tensor: tensor.unbind(), _stacked))
    return found


def _stacked(tensors: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(tensors))


def _norms(row: Architecture, config: ModelConfig) -> dict[str, str]:
    if row.name == "falcon" and config.residual.parallel and not config.residual.shared_norm:
        return {"attn_norm_2": "attention_norm", "attn_norm": "mlp_norm"}
    return dict(row.norms)


def _split(rows: list[int]) -> Callable[[Tensor], list[Tensor]]:
    return lambda tensor: list(tensor.split(rows))


def _attention(
    config: ModelConfig, theirs: str, ours: str, kind: str, rotated: Callable[[str, str], TensorMap]
) -> TensorMap:
    """Queries, keys and values one below the other."""
    d_kv = config.n_kv_heads * config.d_head
    rows = [config.n_heads * config.d_head, d_kv, d_kv]
    turn = rotated("", "")

    def split(tensor: Tensor) -> list[Tensor]:
        query, key, value = tensor.split(rows)
        return [turn.split(query)[0], turn.split(key)[0], value]

    names = tuple(f"{ours}.{part}.{kind}" for part in ("query", "key", "value"))
    return TensorMap(
        theirs, names, split, lambda parts: cat_rows([turn.join([parts[0]]), turn.join([parts[1]]), parts[2]])
    )

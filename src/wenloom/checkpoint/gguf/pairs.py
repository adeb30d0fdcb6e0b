"""T5 in a GGUF file: blocks of an encoder and of a decoder, which reads it."""

from collections.abc import Collection, Mapping
from typing import Any

from wenloom.checkpoint.families.base import TensorMap, same
from wenloom.checkpoint.gguf.fields import GgufFields
from wenloom.core.console import remark
from wenloom.model.config import ModelConfig

_SIDES = {"enc": "encoder", "dec": "decoder"}
_ENDS = {"token_embd": "decoder.embed", "output": "decoder.head", "enc.output_norm": "encoder.final_norm",
         "dec.output_norm": "decoder.final_norm"}  # fmt: skip
_PARTS = {"attn_norm": "attention_norm", "cross_attn_norm": "cross_norm", "ffn_norm": "mlp_norm", "ffn_gate": "mlp.gate",
          "ffn_up": "mlp.up", "ffn_down": "mlp.down",
          **{f"{theirs}_{part[0]}": f"{ours}.{part}"
             for theirs, ours in (("attn", "attention"), ("cross_attn", "cross"))
             for part in ("query", "key", "value", "output")}}  # fmt: skip
_BIAS = "attn_rel_b"


def read_pair(fields: GgufFields, shapes: Mapping[str, tuple[int, ...]]) -> tuple[str, dict[str, Any]]:
    """The family, and what tensors say of config.json: whether layers have gates, and biases by distance of their own."""
    fields.value("attention.layer_norm_epsilon")  # which converters write beside the one that counts
    is_gated = "enc.blk.0.ffn_gate.weight" in shapes
    has_own = f"enc.blk.1.{_BIAS}.weight" in shapes or f"dec.blk.1.{_BIAS}.weight" in shapes
    made: dict[str, Any] = {"is_encoder_decoder": True, "feed_forward_proj": "gated-gelu" if is_gated else "relu"}
    return "umt5" if has_own else "t5", made


def write_pair(config: ModelConfig) -> dict[str, Any]:
    """Fields of an encoder-decoder."""
    assert config.encoder is not None
    if config.logits.scaled:
        remark("llama.cpp does not divide this model's output by the root of its width: the best token is the same, and "
               f"temperatures there mean {config.d_model**0.5:.3g} times as much.")  # fmt: skip
    return {
        "block_count": config.encoder.n_layers,
        "decoder_block_count": config.n_layers,
        "attention.relative_buckets_count": config.positions.buckets,
        "decoder_start_token_id": config.decoder_start_token_id,
    }


def pair_maps(config: ModelConfig, ours: Collection[str]) -> list[TensorMap]:
    """A map for every tensor that the model has."""
    assert config.encoder is not None
    names = dict(_ENDS)
    for theirs, side in _SIDES.items():
        stack = config.encoder if side == "encoder" else config
        for layer in range(stack.n_layers):
            names |= {f"{theirs}.blk.{layer}.{name}": f"{side}.blocks.{layer}.{part}" for name, part in _PARTS.items()}
            if layer == 0 or stack.positions.in_layers:
                table = f"relative.{layer}.table" if stack.positions.in_layers else "relative.table"
                names[f"{theirs}.blk.{layer}.{_BIAS}"] = f"{side}.{table}"
    return [same(f"{name}.weight", f"{part}.weight") for name, part in names.items() if f"{part}.weight" in ours]

"""gpt-oss (OpenAI 2025): experts with bounded gates, attention sinks, a sliding window in every second layer."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from wenloom.checkpoint.families.base import Family, TensorMap, same, with_bias
from wenloom.checkpoint.families.experts import read_experts, write_experts
from wenloom.checkpoint.families.fields import ConfigFields
from wenloom.checkpoint.families.llama import (
    BUFFERS,
    COPIES,
    read_common,
    read_windows,
    tensors,
    write_common,
    write_windows,
)
from wenloom.model.config import ModelConfig

_YARN = {"rope_type": "yarn", "factor": 32.0, "beta_fast": 32.0, "beta_slow": 1.0, "truncate": False,
         "original_max_position_embeddings": 4096}  # fmt: skip


def _read(fields: ConfigFields) -> ModelConfig:
    bias = fields.flag("attention_bias", True)
    if fields.raw("rope_parameters") is None and fields.raw("rope_scaling") is None:
        fields = fields.with_value("rope_parameters", _YARN)
    limit, slope = fields.number("swiglu_limit", 7.0, 1e-6), fields.number("swiglu_alpha", 1.702)
    return read_common(
        fields,
        "gpt_oss",
        read_windows(fields, 2),
        context_length=131_072,
        kv_heads=8,
        d_head=64,
        theta=150_000.0,
        norms={"eps": fields.number("rms_norm_eps", 1e-5)},
        attention={"qkv_bias": bias, "output_bias": bias, "sinks": True},
        mlp={
            "bias": True,
            "experts": read_experts(fields, 128, 4, 2880, router_bias=True, gate_limit=limit, gate_slope=slope),
        },
    )


def _write(config: ModelConfig) -> dict[str, Any]:
    assert config.mlp.experts is not None and config.positions.rope is not None
    plain = {
        "rope_type": "default",
        "rope_theta": config.positions.rope.theta,
    }  # without a word the positions are stretched
    return {
        **write_common(config),
        **({"rope_parameters": plain} if config.positions.rope.kind == "default" else {}),
        **write_windows(config),
        "attention_bias": config.attention.qkv_bias,
        **write_experts(config),
        "swiglu_limit": config.mlp.experts.gate_limit,
        "swiglu_alpha": config.mlp.experts.gate_slope,
    }


def _flipped(tensor: Tensor) -> Tensor:
    """A matrix the other way round, a vector as it is."""
    return tensor.mT.contiguous() if tensor.dim() > 1 else tensor.contiguous()


def _gates_and_ups(theirs: str, ours: str, count: int, kind: str) -> TensorMap:
    """Those of all experts in one tensor: gate and up of a hidden unit side by side, matrices as (in, out)."""
    names = tuple(f"{ours}.experts.{number}.{part}.{kind}" for number in range(count) for part in ("gate", "up"))

    def split(tensor: Tensor) -> list[Tensor]:
        return [_flipped(expert[..., place::2]) for expert in tensor for place in (0, 1)]

    def join(parts: Sequence[Tensor]) -> Tensor:
        pairs = zip(parts[::2], parts[1::2], strict=True)
        return torch.stack([torch.stack((_flipped(gate), _flipped(up)), -1).flatten(-2) for gate, up in pairs])

    return TensorMap(theirs, names, split, join)


def _downs(theirs: str, ours: str, count: int, kind: str) -> TensorMap:
    names = tuple(f"{ours}.experts.{number}.down.{kind}" for number in range(count))
    return TensorMap(theirs, names, lambda tensor: [_flipped(each) for each in tensor],
                     lambda parts: torch.stack([_flipped(each) for each in parts]))  # fmt: skip


def _tensors(config: ModelConfig) -> list[TensorMap]:
    assert config.mlp.experts is not None
    maps, count = tensors(config), config.mlp.experts.count
    for layer in range(config.n_layers):
        theirs, ours = f"model.layers.{layer}", f"blocks.{layer}"
        maps += [
            same(f"{theirs}.self_attn.sinks", f"{ours}.attention.sinks"),
            *with_bias(same, f"{theirs}.mlp.router", f"{ours}.mlp.router", True),
            _gates_and_ups(f"{theirs}.mlp.experts.gate_up_proj", f"{ours}.mlp", count, "weight"),
            _gates_and_ups(f"{theirs}.mlp.experts.gate_up_proj_bias", f"{ours}.mlp", count, "bias"),
            _downs(f"{theirs}.mlp.experts.down_proj", f"{ours}.mlp", count, "weight"),
            _downs(f"{theirs}.mlp.experts.down_proj_bias", f"{ours}.mlp", count, "bias"),
        ]
    return maps


FAMILY = Family("gpt_oss", "GptOssForCausalLM", "model.", _read, _write, _tensors, BUFFERS,
                "GptOssForSequenceClassification", copies=COPIES)  # fmt: skip

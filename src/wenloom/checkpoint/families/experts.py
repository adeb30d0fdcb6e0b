"""How families with mixtures of experts say how many there are, and call their matrices."""

from collections.abc import Mapping
from typing import Any

from wenloom.checkpoint.families.base import TensorMap, same
from wenloom.checkpoint.families.fields import ConfigFields, shown
from wenloom.checkpoint.families.llama import tensors
from wenloom.model.config import ModelConfig
from wenloom.model.parts import Experts

EXPERT = {"gate_proj": "gate", "up_proj": "up", "down_proj": "down"}
"""Names of an expert's matrices, and ours."""
MOST_EXPERTS = 4096
"""More in a layer is a mistake in a file; published models have up to 512."""


def read_experts(
    fields: ConfigFields, count: int, active: int, d_mlp: int, width: str = "intermediate_size", **own: Any
) -> Experts:
    """The mixture of experts that a file asks for; `own` is what this family adds.

    Args:
        count, active, d_mlp: the family's defaults.
        width: what it calls the width of an expert.
    """
    names = ("num_local_experts", "num_experts")  # transformers takes both for one
    given = [fields.integer(name, None, 1, MOST_EXPERTS) for name in names if fields.raw(name) is not None]
    if len(set(given)) > 1:
        raise fields.refuse(names[0], f"{given[0]} is not {names[1]} ({given[1]})")
    fields.understood("router_aux_loss_coef", "output_router_logits")  # what training adds to the loss
    return Experts(
        count=given[0] if given else count,
        active=fields.integer("num_experts_per_tok", active, 1, MOST_EXPERTS),
        d_mlp=fields.size(width, "d_mlp", d_mlp),
        **own,
    )


def read_dense_layers(fields: ConfigFields) -> tuple[int, ...]:
    """The layers without experts: those that are named, and all but each `decoder_sparse_step`th."""
    named, step = fields.raw("mlp_only_layers"), fields.integer("decoder_sparse_step", 1)
    named = [] if named is None else named
    if not isinstance(named, list) or not all(isinstance(each, int) and not isinstance(each, bool) for each in named):
        raise fields.refuse("mlp_only_layers", f"must list numbers of layers, got {shown(named)}")
    n_layers = fields.size("num_hidden_layers", "n_layers")
    return tuple(layer for layer in range(n_layers) if layer in named or (layer + 1) % step)


def write_experts(config: ModelConfig, count: str = "num_local_experts") -> dict[str, Any]:
    """The fields that `read_experts` reads, but for the width.

    Args:
        count: what the family's published files call the number of experts.
    """
    assert config.mlp.experts is not None
    return {count: config.mlp.experts.count, "num_experts_per_tok": config.mlp.experts.active}


def expert_tensors(config: ModelConfig, block: str = "mlp", parts: Mapping[str, str] = EXPERT) -> list[TensorMap]:
    """Names of a Llama-like file whose experts have matrices of their own.

    Args:
        block: what the family calls a layer's mixture of experts.
        parts: what it calls an expert's matrices, and what they are called here.
    """
    assert config.mlp.experts is not None
    maps = tensors(config)
    for layer in range(config.n_layers):
        if config.mlp.experts_of(layer) is None:
            continue
        theirs, ours = f"model.layers.{layer}.{block}", f"blocks.{layer}.mlp"
        maps.append(same(f"{theirs}.gate.weight", f"{ours}.router.weight"))
        maps += [
            same(f"{theirs}.experts.{number}.{name}.weight", f"{ours}.experts.{number}.{part}.weight")
            for number in range(config.mlp.experts.count)
            for name, part in parts.items()
        ]
    return maps

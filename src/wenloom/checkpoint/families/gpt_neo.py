"""GPT-Neo (Black et al. 2021): GPT-2 whose layers see all or a window in turn, and whose scores are not scaled."""

import re
from typing import Any

from wenloom.checkpoint.families.base import Family, TensorMap, heads_of_decoder, layers, same, with_bias, written
from wenloom.checkpoint.families.fields import ConfigFields, shown
from wenloom.checkpoint.families.gpt2 import gpt_activation
from wenloom.model.config import PLAIN_BLOCKS, ModelConfig, config_of

_LOCAL = {"global": False, "local": True}
_NAMES = {"d_model": "hidden_size", "n_layers": "num_layers", "n_heads": "num_heads", "d_mlp": "intermediate_size",
          "context_length": "max_position_embeddings", "norms.eps": "layer_norm_epsilon",
          "dropout.embedding": "embed_dropout", "dropout.attention": "attention_dropout",
          "dropout.residual": "resid_dropout"}  # fmt: skip


def _read(fields: ConfigFields) -> ModelConfig:
    sizes = fields.sizes(_NAMES, (2048, 24, 16), vocab=50_257)
    window = fields.size("window_size", "context_length", 256)
    local = _local_layers(fields, sizes["n_layers"])
    config = config_of(
        sizes,
        PLAIN_BLOCKS,
        fields.common(tied=True),
        family="gpt_neo",
        d_mlp=fields.optional_integer("intermediate_size") or 4 * sizes["d_model"],
        context_length=fields.size("max_position_embeddings", "context_length", 2048),
        norms={"eps": fields.number("layer_norm_epsilon", 1e-5)},
        mlp={"activation": fields.activation("activation_function", "gelu_new")},
        attention={
            "qkv_bias": False,
            "scale_by_head": False,
            "sliding_window": window if local else None,
            "sliding_layers": local,
        },
        dropout={
            "embedding": fields.share("embed_dropout", 0.0),
            "attention": fields.share("attention_dropout", 0.0),
            "residual": fields.share("resid_dropout", 0.0),
        },
    )
    fields.finish()
    return config


def _local_layers(fields: ConfigFields, n_layers: int) -> tuple[int, ...]:
    """Layers with a window: by `attention_layers`, without it by `attention_types` ([[kinds, repeats], ...])."""
    kinds, groups = fields.raw("attention_layers"), fields.raw("attention_types")
    if kinds is None:
        groups = [[["global", "local"], 12]] if groups is None else groups
        if not isinstance(groups, list) or not all(_is_group(each, n_layers) for each in groups):
            raise fields.refuse("attention_types", f"must be pairs of kinds and repeats, got {shown(groups)}")
        kinds = [kind for pattern, repeats in groups for kind in pattern * repeats]
    if not isinstance(kinds, list) or len(kinds) != n_layers:
        got = f"{len(kinds)}" if isinstance(kinds, list) else shown(kinds)
        raise fields.refuse("attention_layers", f"must name the kinds of {n_layers} layers (num_layers), got {got}")
    if strange := [kind for kind in kinds if not isinstance(kind, str) or kind not in _LOCAL]:
        raise fields.refuse("attention_layers", f"kind {shown(strange[0])} is not supported (only global and local)")
    return tuple(layer for layer, kind in enumerate(kinds) if _LOCAL[kind])


def _is_group(value: Any, n_layers: int) -> bool:
    """Whether it is a list of kinds and how often it comes, for no more layers than there are."""
    return (
        isinstance(value, list)
        and len(value) == 2
        and isinstance(value[0], list)
        and type(value[1]) is int
        and value[1] * len(value[0]) <= n_layers
    )


def _write(config: ModelConfig) -> dict[str, Any]:
    kinds = ["local" if layer in config.attention.sliding_layers else "global" for layer in range(config.n_layers)]
    return {
        **written(config, _NAMES),
        "attention_types": [[kinds, 1]],
        "attention_layers": kinds,
        "window_size": config.attention.sliding_window or 256,
        "activation_function": gpt_activation(config),
    }


def _tensors(config: ModelConfig) -> list[TensorMap]:
    maps = [
        same("transformer.wte.weight", "embed.weight"),
        same("transformer.wpe.weight", "positions.weight"),
        *with_bias(same, "transformer.ln_f", "final_norm", True),
    ]
    for layer in range(config.n_layers):
        for short, long in (("q", "query"), ("k", "key"), ("v", "value")):
            theirs = f"transformer.h.{layer}.attn.attention.{short}_proj.weight"
            maps.append(same(theirs, f"blocks.{layer}.attention.{long}.weight"))
    return [*maps, *layers(config, "transformer.h.{}", _PARTS), *heads_of_decoder(config)]


_PARTS = {"ln_1": "attention_norm", "ln_2": "mlp_norm", "attn.attention.out_proj": "attention.output",
          "mlp.c_fc": "mlp.up", "mlp.c_proj": "mlp.down"}  # fmt: skip
_BUFFERS = re.compile(r"\.attn\.attention\.(masked_)?bias$")
_CLASSIFIER = "GPTNeoForSequenceClassification"
_COPIES = {"transformer.wte.weight": ("lm_head.weight",)}
FAMILY = Family("gpt_neo", "GPTNeoForCausalLM", "transformer.", _read, _write, _tensors, _BUFFERS, _CLASSIFIER,
                copies=_COPIES)  # fmt: skip

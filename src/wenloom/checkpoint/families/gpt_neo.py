"""GPT-Neo (Black et al. 2021): GPT-2 whose layers see all or a window in turn, and whose scores are not scaled."""

import re
from typing import Any

from wenloom.checkpoint.families.base import Family, TensorMap, heads_of_decoder, same, with_bias
from wenloom.checkpoint.families.fields import HF_ACTIVATIONS, ConfigFields, shown
from wenloom.model.config import LIMITS, ModelConfig

_LOCAL = {"global": False, "local": True}


def _read(fields: ConfigFields) -> ModelConfig:
    d_model = fields.integer("hidden_size", 2048, most=LIMITS["d_model"])
    n_heads = fields.integer("num_heads", 16, most=LIMITS["n_heads"])
    n_layers = fields.integer("num_layers", 24, most=LIMITS["n_layers"])
    window = fields.integer("window_size", 256, most=LIMITS["context_length"])
    local = _local_layers(fields, n_layers)
    config = ModelConfig(
        family="gpt_neo",
        vocab_size=fields.integer("vocab_size", 50_257, most=LIMITS["vocab_size"]),
        n_layers=n_layers,
        d_model=d_model,
        n_heads=n_heads,
        n_kv_heads=n_heads,
        d_head=fields.width_per_head("hidden_size", d_model, "num_heads", n_heads),
        d_mlp=fields.optional_integer("intermediate_size") or 4 * d_model,
        context_length=fields.integer("max_position_embeddings", 2048, most=LIMITS["context_length"]),
        norm="layernorm",
        norm_eps=fields.number("layer_norm_epsilon", 1e-5),
        activation=fields.activation("activation_function", "gelu_new"),
        gated_mlp=False,
        attention_output_bias=True,
        mlp_bias=True,
        scale_by_head=False,
        sliding_window=window if local else None,
        sliding_layers=local,
        tie_embeddings=fields.flag("tie_word_embeddings", True),
        embedding_dropout=fields.share("embed_dropout", 0.0),
        attention_dropout=fields.share("attention_dropout", 0.0),
        residual_dropout=fields.share("resid_dropout", 0.0),
        initializer_range=fields.number("initializer_range", 0.02),
        labels=fields.labels(),
        **fields.token_ids(),
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
    kinds = ["local" if layer in config.sliding_layers else "global" for layer in range(config.n_layers)]
    return {
        "hidden_size": config.d_model,
        "num_layers": config.n_layers,
        "num_heads": config.n_heads,
        "intermediate_size": config.d_mlp,
        "max_position_embeddings": config.context_length,
        "attention_types": [[kinds, 1]],
        "attention_layers": kinds,
        "window_size": config.sliding_window or 256,
        "activation_function": "gelu_new" if config.activation == "gelu_tanh" else HF_ACTIVATIONS[config.activation],
        "layer_norm_epsilon": config.norm_eps,
        "embed_dropout": config.embedding_dropout,
        "attention_dropout": config.attention_dropout,
        "resid_dropout": config.residual_dropout,
    }


def _tensors(config: ModelConfig) -> list[TensorMap]:
    maps = [
        same("transformer.wte.weight", "embed.weight"),
        same("transformer.wpe.weight", "positions.weight"),
        *with_bias(same, "transformer.ln_f", "final_norm", True),
    ]
    for layer in range(config.n_layers):
        theirs, ours = f"transformer.h.{layer}", f"blocks.{layer}"
        maps += [
            *with_bias(same, f"{theirs}.ln_1", f"{ours}.attention_norm", True),
            *with_bias(same, f"{theirs}.ln_2", f"{ours}.mlp_norm", True),
            *(
                same(f"{theirs}.attn.attention.{short}_proj.weight", f"{ours}.attention.{long}.weight")
                for short, long in (("q", "query"), ("k", "key"), ("v", "value"))
            ),
            *with_bias(same, f"{theirs}.attn.attention.out_proj", f"{ours}.attention.output", True),
            *with_bias(same, f"{theirs}.mlp.c_fc", f"{ours}.mlp.up", True),
            *with_bias(same, f"{theirs}.mlp.c_proj", f"{ours}.mlp.down", True),
        ]
    return [*maps, *heads_of_decoder(config)]


_BUFFERS = re.compile(r"\.attn\.attention\.(masked_)?bias$")
_CLASSIFIER = "GPTNeoForSequenceClassification"
_COPIES = {"transformer.wte.weight": ("lm_head.weight",)}
FAMILY = Family("gpt_neo", "GPTNeoForCausalLM", "transformer.", _read, _write, _tensors, _BUFFERS, _CLASSIFIER,
                copies=_COPIES)  # fmt: skip

"""GPT-2 (Radford et al. 2019): learned positions, LayerNorm, biases everywhere, matrices stored (in, out)."""

import re
from typing import Any

from wenloom.checkpoint.families.base import (
    Family,
    TensorMap,
    cat_rows,
    heads_of_decoder,
    same,
    transposed,
    with_bias,
    written,
)
from wenloom.checkpoint.families.fields import HF_ACTIVATIONS, ConfigFields
from wenloom.model.config import PLAIN_BLOCKS, ModelConfig, config_of

_UNUSED_HEADS = (
    "summary_type", "summary_use_proj", "summary_activation", "summary_proj_to_labels",
    "summary_first_dropout", "summary_last_dropout",
)  # fmt: skip
_NAMES = {"d_model": "n_embd", "n_layers": "n_layer", "n_heads": "n_head", "d_mlp": "n_inner",
          "context_length": "n_positions", "norms.eps": "layer_norm_epsilon", "attention.scale_by_head": "scale_attn_weights",
          "attention.scale_by_layer": "scale_attn_by_inverse_layer_idx", "dropout.embedding": "embd_pdrop",
          "dropout.attention": "attn_pdrop", "dropout.residual": "resid_pdrop"}  # fmt: skip


def _read(fields: ConfigFields) -> ModelConfig:
    sizes = fields.sizes(_NAMES, (768, 12, 12))
    fields.only("reorder_and_upcast_attn", False, True)  # an order of operations, not another result
    fields.understood(*_UNUSED_HEADS)
    config = config_of(
        sizes,
        PLAIN_BLOCKS,
        fields.common(tied=True),
        family="gpt2",
        d_mlp=fields.optional_integer("n_inner") or 4 * sizes["d_model"],
        context_length=fields.size("n_positions", "context_length", 1024),
        norms={"eps": fields.number("layer_norm_epsilon", 1e-5)},
        mlp={"activation": fields.activation("activation_function", "gelu_new")},
        attention={
            "scale_by_head": fields.flag("scale_attn_weights", True),
            "scale_by_layer": fields.flag("scale_attn_by_inverse_layer_idx", False),
        },
        dropout={
            "embedding": fields.share("embd_pdrop", 0.1),
            "attention": fields.share("attn_pdrop", 0.1),
            "residual": fields.share("resid_pdrop", 0.1),
        },
    )
    fields.finish()
    return config


def gpt_activation(config: ModelConfig) -> str:
    """The non-linearity as files of GPT-2 name it."""
    return "gelu_new" if config.mlp.activation == "gelu_tanh" else HF_ACTIVATIONS[config.mlp.activation]


def _write(config: ModelConfig) -> dict[str, Any]:
    return {**written(config, _NAMES), "activation_function": gpt_activation(config)}


def _tensors(config: ModelConfig) -> list[TensorMap]:
    maps = [
        same("transformer.wte.weight", "embed.weight"),
        same("transformer.wpe.weight", "positions.weight"),
        *with_bias(same, "transformer.ln_f", "final_norm", True),
    ]
    for layer in range(config.n_layers):
        theirs, ours = f"transformer.h.{layer}", f"blocks.{layer}"
        qkv = [f"{ours}.attention.{part}" for part in ("query", "key", "value")]
        maps += [
            *with_bias(same, f"{theirs}.ln_1", f"{ours}.attention_norm", True),
            *with_bias(same, f"{theirs}.ln_2", f"{ours}.mlp_norm", True),
            TensorMap(
                f"{theirs}.attn.c_attn.weight",
                tuple(f"{name}.weight" for name in qkv),
                lambda tensor: [part.contiguous() for part in tensor.T.chunk(3)],
                lambda tensors: cat_rows(tensors).T.contiguous(),
            ),
            TensorMap(
                f"{theirs}.attn.c_attn.bias", tuple(f"{name}.bias" for name in qkv), lambda t: t.chunk(3), cat_rows
            ),
            *with_bias(transposed, f"{theirs}.attn.c_proj", f"{ours}.attention.output", True),
            *with_bias(transposed, f"{theirs}.mlp.c_fc", f"{ours}.mlp.up", True),
            *with_bias(transposed, f"{theirs}.mlp.c_proj", f"{ours}.mlp.down", True),
        ]
    return [*maps, *heads_of_decoder(config)]


_BUFFERS = re.compile(r"\.attn\.(masked_)?bias$")

_CLASSIFIER = "GPT2ForSequenceClassification"
FAMILY = Family(
    "gpt2",
    "GPT2LMHeadModel",
    "transformer.",
    _read,
    _write,
    _tensors,
    _BUFFERS,
    _CLASSIFIER,
    copies={"transformer.wte.weight": ("lm_head.weight",)},
    keeps_transposed=True,
)

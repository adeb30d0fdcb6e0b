"""GPT-2 (Radford et al. 2019): learned positions, LayerNorm, biases everywhere, matrices stored (in, out)."""

import re
from typing import Any

from wenloom.checkpoint.families.base import Family, TensorMap, cat_rows, heads_of_decoder, same, transposed, with_bias
from wenloom.checkpoint.families.fields import HF_ACTIVATIONS, ConfigFields
from wenloom.model.config import LIMITS, ModelConfig

_UNUSED_HEADS = (
    "summary_type", "summary_use_proj", "summary_activation", "summary_proj_to_labels",
    "summary_first_dropout", "summary_last_dropout",
)  # fmt: skip


def _read(fields: ConfigFields) -> ModelConfig:
    d_model = fields.integer("n_embd", 768, most=LIMITS["d_model"])
    n_heads = fields.integer("n_head", 12, most=LIMITS["n_heads"])
    fields.only("reorder_and_upcast_attn", False, True)  # an order of operations, not another result
    fields.understood(*_UNUSED_HEADS)
    config = ModelConfig(
        family="gpt2",
        vocab_size=fields.integer("vocab_size", most=LIMITS["vocab_size"]),
        n_layers=fields.integer("n_layer", 12, most=LIMITS["n_layers"]),
        d_model=d_model,
        n_heads=n_heads,
        n_kv_heads=n_heads,
        d_head=fields.width_per_head("n_embd", d_model, "n_head", n_heads),
        d_mlp=fields.optional_integer("n_inner") or 4 * d_model,
        context_length=fields.integer("n_positions", 1024, most=LIMITS["context_length"]),
        norm="layernorm",
        norm_eps=fields.number("layer_norm_epsilon", 1e-5),
        activation=fields.activation("activation_function", "gelu_new"),
        gated_mlp=False,
        qkv_bias=True,
        attention_output_bias=True,
        mlp_bias=True,
        scale_by_head=fields.flag("scale_attn_weights", True),
        scale_by_layer=fields.flag("scale_attn_by_inverse_layer_idx", False),
        tie_embeddings=fields.flag("tie_word_embeddings", True),
        embedding_dropout=fields.share("embd_pdrop", 0.1),
        attention_dropout=fields.share("attn_pdrop", 0.1),
        residual_dropout=fields.share("resid_pdrop", 0.1),
        initializer_range=fields.number("initializer_range", 0.02),
        labels=fields.labels(),
        **fields.token_ids(),
    )
    fields.finish()
    return config


def _write(config: ModelConfig) -> dict[str, Any]:
    return {
        "n_embd": config.d_model,
        "n_layer": config.n_layers,
        "n_head": config.n_heads,
        "n_inner": config.d_mlp,
        "n_positions": config.context_length,
        "activation_function": "gelu_new" if config.activation == "gelu_tanh" else HF_ACTIVATIONS[config.activation],
        "layer_norm_epsilon": config.norm_eps,
        "scale_attn_weights": config.scale_by_head,
        "scale_attn_by_inverse_layer_idx": config.scale_by_layer,
        "embd_pdrop": config.embedding_dropout,
        "attn_pdrop": config.attention_dropout,
        "resid_pdrop": config.residual_dropout,
    }


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
)

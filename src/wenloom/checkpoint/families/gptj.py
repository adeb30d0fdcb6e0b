"""GPT-J (Wang & Komatsuzaki 2021): attention and feed-forward side by side under one norm, neighbouring dimensions rotated."""

import re
from typing import Any

from wenloom.checkpoint.families.base import (
    Family,
    TensorMap,
    heads_of_decoder,
    pairs_apart,
    same,
    with_bias,
    written,
)
from wenloom.checkpoint.families.fields import ConfigFields
from wenloom.checkpoint.families.gpt2 import gpt_activation
from wenloom.model.config import PLAIN_BLOCKS, ModelConfig, config_of
from wenloom.model.parts import Rope

_NAMES = {"d_model": "n_embd", "n_layers": "n_layer", "n_heads": "n_head", "d_mlp": "n_inner",
          "context_length": "n_positions", "positions.d_rotary": "rotary_dim", "norms.eps": "layer_norm_epsilon",
          "dropout.embedding": "embd_pdrop", "dropout.attention": "attn_pdrop", "dropout.residual": "resid_pdrop"}  # fmt: skip
_UNUSED = ("summary_type", "summary_use_proj", "summary_activation", "summary_proj_to_labels", "summary_first_dropout")


def _read(fields: ConfigFields) -> ModelConfig:
    sizes = fields.sizes(_NAMES, (4096, 28, 16), vocab=50400)
    fields.understood(*_UNUSED)
    common = fields.common(tied=False)
    d_rotary = fields.integer("rotary_dim", 64, 2)
    if d_rotary % 2 or d_rotary > sizes["d_head"]:
        raise fields.refuse("rotary_dim", f"must be even and at most the width of a head, {sizes['d_head']}")
    config = config_of(
        sizes,
        PLAIN_BLOCKS,
        common,
        family="gptj",
        d_mlp=fields.optional_integer("n_inner") or 4 * sizes["d_model"],
        context_length=fields.size("n_positions", "context_length", 2048),
        attention={"qkv_bias": False, "output_bias": False},
        positions={"rope": Rope(d_rotary)},
        residual={"parallel": True, "shared_norm": True},
        norms={"eps": fields.number("layer_norm_epsilon", 1e-5)},
        mlp={"activation": fields.activation("activation_function", "gelu_new")},
        logits={"bias": not common["labels"]},
        dropout={
            "embedding": fields.share("embd_pdrop", 0.0),
            "attention": fields.share("attn_pdrop", 0.0),
            "residual": fields.share("resid_pdrop", 0.0),
        },
    )
    fields.finish()
    return config


def _write(config: ModelConfig) -> dict[str, Any]:
    return {**written(config, _NAMES), "activation_function": gpt_activation(config)}


def _tensors(config: ModelConfig) -> list[TensorMap]:
    rotated = pairs_apart(config.d_head, config.positions.d_rotary)
    maps = [same("transformer.wte.weight", "embed.weight"), *with_bias(same, "transformer.ln_f", "final_norm", True)]
    for layer in range(config.n_layers):
        theirs, ours = f"transformer.h.{layer}", f"blocks.{layer}"
        maps += [
            *with_bias(same, f"{theirs}.ln_1", f"{ours}.attention_norm", True),
            rotated(f"{theirs}.attn.q_proj.weight", f"{ours}.attention.query.weight"),
            rotated(f"{theirs}.attn.k_proj.weight", f"{ours}.attention.key.weight"),
            same(f"{theirs}.attn.v_proj.weight", f"{ours}.attention.value.weight"),
            same(f"{theirs}.attn.out_proj.weight", f"{ours}.attention.output.weight"),
            *with_bias(same, f"{theirs}.mlp.fc_in", f"{ours}.mlp.up", True),
            *with_bias(same, f"{theirs}.mlp.fc_out", f"{ours}.mlp.down", True),
        ]
    bias = [same("lm_head.bias", "output_bias")] if config.output == "tokens" else []
    return [*maps, *heads_of_decoder(config), *bias]


_BUFFERS = re.compile(r"\.attn\.((masked_)?bias|embed_positions)$")
_COPIES = {"transformer.wte.weight": ("lm_head.weight",)}
_CLASSIFIER = "GPTJForSequenceClassification"
FAMILY = Family(
    "gptj", "GPTJForCausalLM", "transformer.", _read, _write, _tensors, _BUFFERS, _CLASSIFIER, copies=_COPIES
)

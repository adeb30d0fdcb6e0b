"""BLOOM (Scao et al. 2022): scores fall with distance (ALiBi) in place of positions, embeddings are normalised."""

import re
from typing import Any

from wenloom.checkpoint.families.base import Family, TensorMap, heads_in_one, heads_of_decoder, same, with_bias, written
from wenloom.checkpoint.families.fields import ConfigFields
from wenloom.model.config import PLAIN_BLOCKS, ModelConfig, config_of

_NAMES = {"d_model": "hidden_size", "n_layers": "n_layer", "n_heads": "n_head", "norms.eps": "layer_norm_epsilon",
          "dropout.residual": "hidden_dropout", "dropout.attention": "attention_dropout"}  # fmt: skip


def _read(fields: ConfigFields) -> ModelConfig:
    if fields.raw("n_embed") is not None:  # which transformers obeys, and which old files have
        fields = fields.with_value("hidden_size", fields.raw("n_embed"))
    for older, name in (("num_hidden_layers", "n_layer"), ("num_attention_heads", "n_head")):
        if fields.raw(older) is not None:
            fields = fields.with_value(name, fields.raw(older))
    sizes = fields.sizes(_NAMES, (64, 2, 8), vocab=250_880)
    fields.only("apply_residual_connection_post_layernorm", False, None)
    fields.understood("pretraining_tp", "slow_but_exact")  # orders of operations, not other results
    config = config_of(
        sizes,
        PLAIN_BLOCKS,
        fields.common(tied=True),
        family="bloom",
        d_mlp=4 * sizes["d_model"],
        context_length=fields.size("seq_length", "context_length", 2048),
        positions={"kind": "alibi"},
        norms={"embedding": True, "eps": fields.number("layer_norm_epsilon", 1e-5)},
        mlp={"activation": "gelu_tanh"},
        dropout={"attention": fields.share("attention_dropout", 0.0), "residual": fields.share("hidden_dropout", 0.0)},
    )
    fields.finish()
    return config


def _write(config: ModelConfig) -> dict[str, Any]:
    return {**written(config, _NAMES), "seq_length": config.context_length}


def _tensors(config: ModelConfig) -> list[TensorMap]:
    maps = [
        same("transformer.word_embeddings.weight", "embed.weight"),
        *with_bias(same, "transformer.word_embeddings_layernorm", "embedding_norm", True),
        *with_bias(same, "transformer.ln_f", "final_norm", True),
    ]
    for layer in range(config.n_layers):
        theirs, ours = f"transformer.h.{layer}", f"blocks.{layer}"
        maps += [
            *with_bias(same, f"{theirs}.input_layernorm", f"{ours}.attention_norm", True),
            *with_bias(same, f"{theirs}.post_attention_layernorm", f"{ours}.mlp_norm", True),
            *(
                heads_in_one(config, f"{theirs}.self_attention.query_key_value.{kind}", f"{ours}.attention.{{}}.{kind}")
                for kind in ("weight", "bias")
            ),
            *with_bias(same, f"{theirs}.self_attention.dense", f"{ours}.attention.output", True),
            *with_bias(same, f"{theirs}.mlp.dense_h_to_4h", f"{ours}.mlp.up", True),
            *with_bias(same, f"{theirs}.mlp.dense_4h_to_h", f"{ours}.mlp.down", True),
        ]
    return [*maps, *heads_of_decoder(config)]


_BUFFERS = re.compile(r"^$")
_COPIES = {"transformer.word_embeddings.weight": ("lm_head.weight",)}
_CLASSIFIER = "BloomForSequenceClassification"
FAMILY = Family(
    "bloom", "BloomForCausalLM", "transformer.", _read, _write, _tensors, _BUFFERS, _CLASSIFIER, copies=_COPIES
)

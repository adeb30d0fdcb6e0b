"""OPT (Zhang et al. 2022): learned positions counted over tokens that are no padding, ReLU, biases."""

import re
from typing import Any

from wenloom.checkpoint.families.base import Family, TensorMap, heads_of_decoder, layers, same, with_bias, written
from wenloom.checkpoint.families.fields import HF_ACTIVATIONS, ConfigFields
from wenloom.model.config import PLAIN_BLOCKS, ModelConfig, config_of

_NAMES = {"d_model": "hidden_size", "n_layers": "num_hidden_layers", "n_heads": "num_attention_heads", "d_mlp": "ffn_dim",
          "context_length": "max_position_embeddings", "norms.final": "do_layer_norm_before", "dropout.residual": "dropout",
          "dropout.attention": "attention_dropout", "initializer_range": "init_std"}  # fmt: skip


def _read(fields: ConfigFields) -> ModelConfig:
    sizes = fields.sizes(_NAMES, (768, 12, 12), vocab=50272)
    fields.only("word_embed_proj_dim", None, sizes["d_model"])
    fields.only("enable_bias", True, None)
    fields.only("layer_norm_elementwise_affine", True, None)
    fields.only("_remove_final_layer_norm", False, None)
    fields.understood("layerdrop", "activation_dropout")
    before, dropout = fields.flag("do_layer_norm_before", True), fields.share("dropout", 0.1)
    common: dict[str, Any] = {**fields.common(tied=True), "initializer_range": fields.number("init_std", 0.02)}
    config = config_of(
        sizes,
        PLAIN_BLOCKS,
        common,
        family="opt",
        d_mlp=fields.integer("ffn_dim", 3072),
        context_length=fields.size("max_position_embeddings", "context_length", 2048),
        positions={"offset": 2, "skip_padding": True},
        norms={"eps": 1e-5, "place": "pre" if before else "post", "final": before},
        mlp={"activation": fields.activation("activation_function", "relu")},
        dropout={"embedding": dropout, "attention": fields.share("attention_dropout", 0.0), "residual": dropout},
    )
    fields.finish()
    return config


def _write(config: ModelConfig) -> dict[str, Any]:
    return {
        **written(config, _NAMES),
        "word_embed_proj_dim": config.d_model,
        "activation_function": HF_ACTIVATIONS[config.mlp.activation],
    }


_PARTS = {
    **{f"self_attn.{short}_proj": f"attention.{long}"
       for short, long in (("q", "query"), ("k", "key"), ("v", "value"), ("out", "output"))},
    "self_attn_layer_norm": "attention_norm", "fc1": "mlp.up", "fc2": "mlp.down", "final_layer_norm": "mlp_norm",
}  # fmt: skip


def _tensors(config: ModelConfig) -> list[TensorMap]:
    return [
        same("model.decoder.embed_tokens.weight", "embed.weight"),
        same("model.decoder.embed_positions.weight", "positions.weight"),
        *(with_bias(same, "model.decoder.final_layer_norm", "final_norm", True) if config.norms.final else []),
        *layers(config, "model.decoder.layers.{}", _PARTS),
        *heads_of_decoder(config),
    ]


_BUFFERS = re.compile(r"^$")
_COPIES = {"model.decoder.embed_tokens.weight": ("lm_head.weight",)}
_CLASSIFIER = "OPTForSequenceClassification"
FAMILY = Family("opt", "OPTForCausalLM", "model.", _read, _write, _tensors, _BUFFERS, _CLASSIFIER, copies=_COPIES)

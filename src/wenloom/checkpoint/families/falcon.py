"""Falcon (Almazrouei et al. 2023): attention and feed-forward side by side, few keys and values, all in one matrix."""

from typing import Any

from wenloom.checkpoint.families.base import Family, TensorMap, heads_in_one, heads_of_decoder, same, with_bias, written
from wenloom.checkpoint.families.fields import HF_ACTIVATIONS, ConfigFields
from wenloom.checkpoint.families.llama import BUFFERS
from wenloom.checkpoint.families.rope import read_rope, write_rope
from wenloom.model.config import PLAIN_BLOCKS, ModelConfig, config_of

_NAMES = {"d_model": "hidden_size", "n_layers": "num_hidden_layers", "n_heads": "num_attention_heads",
          "d_mlp": "ffn_hidden_size", "norms.eps": "layer_norm_epsilon", "dropout.residual": "hidden_dropout",
          "dropout.attention": "attention_dropout"}  # fmt: skip


def _read(fields: ConfigFields) -> ModelConfig:
    if fields.raw("n_embed") is not None:
        fields = fields.with_value("hidden_size", fields.raw("n_embed"))
    sizes = fields.sizes(_NAMES, (4544, 32, 71), vocab=65_024)
    fields.only("alibi", False, None)
    is_new, bias = fields.flag("new_decoder_architecture", False), fields.flag("bias", False)
    few, parallel = fields.flag("multi_query", True), fields.flag("parallel_attn", True)
    norms = fields.integer("num_ln_in_parallel_attn", 2 if is_new else 1, 1, 2)
    if is_new and not parallel:
        raise fields.refuse("parallel_attn", "false is not supported with new_decoder_architecture")
    if norms == 2 and not is_new:
        raise fields.refuse("num_ln_in_parallel_attn", "2 is not supported without new_decoder_architecture")
    kv_heads = fields.integer("num_kv_heads", sizes["n_heads"])
    if not (is_new or few) and kv_heads != sizes["n_heads"]:
        raise fields.refuse("num_kv_heads", f"must be num_attention_heads ({sizes['n_heads']}) without multi_query")
    rope, context_length = read_rope(fields, sizes["d_head"], 2048)
    if rope.d_rotary != sizes["d_head"]:
        raise fields.refuse("partial_rotary_factor", "falcon rotates whole heads; other values are not supported")
    config = config_of(
        sizes | {"n_kv_heads": kv_heads if is_new else 1 if few else sizes["n_heads"]},
        PLAIN_BLOCKS,
        fields.common(tied=True),
        family="falcon",
        d_mlp=fields.optional_integer("ffn_hidden_size") or 4 * sizes["d_model"],
        context_length=context_length,
        attention={"qkv_bias": bias, "output_bias": bias},
        positions={"rope": rope},
        residual={"parallel": parallel, "shared_norm": parallel and norms == 1},
        norms={"eps": fields.number("layer_norm_epsilon", 1e-5)},
        mlp={"bias": bias, "activation": fields.activation("activation", "gelu")},
        dropout={"attention": fields.share("attention_dropout", 0.0), "residual": fields.share("hidden_dropout", 0.0)},
    )
    fields.finish()
    return config


def _write(config: ModelConfig) -> dict[str, Any]:
    assert config.positions.rope is not None
    is_new = config.residual.parallel and (
        not config.residual.shared_norm or config.n_kv_heads not in (1, config.n_heads)
    )
    return {
        **written(config, _NAMES),
        "activation": HF_ACTIVATIONS[config.mlp.activation],
        "new_decoder_architecture": is_new,
        "num_kv_heads": config.n_kv_heads,
        "multi_query": config.n_kv_heads == 1,
        "parallel_attn": config.residual.parallel,
        "num_ln_in_parallel_attn": 2 if config.residual.parallel and not config.residual.shared_norm else 1,
        "bias": config.attention.qkv_bias,
        "rope_theta": config.positions.rope.theta,
        **write_rope(config.positions.rope, config.context_length),
    }


def _tensors(config: ModelConfig) -> list[TensorMap]:
    norms = {"input_layernorm": "attention_norm", "post_attention_layernorm": "mlp_norm"}
    if config.residual.shared_norm:
        norms = {"input_layernorm": "attention_norm"}
    elif config.residual.parallel:
        norms = {"ln_attn": "attention_norm", "ln_mlp": "mlp_norm"}
    maps = [
        same("transformer.word_embeddings.weight", "embed.weight"),
        *with_bias(same, "transformer.ln_f", "final_norm", True),
    ]
    for layer in range(config.n_layers):
        theirs, ours = f"transformer.h.{layer}", f"blocks.{layer}"
        for name, norm in norms.items():
            maps += with_bias(same, f"{theirs}.{name}", f"{ours}.{norm}", True)
        maps += [
            *(
                heads_in_one(config, f"{theirs}.self_attention.query_key_value.{kind}", f"{ours}.attention.{{}}.{kind}")
                for kind in (("weight", "bias") if config.attention.qkv_bias else ("weight",))
            ),
            *with_bias(same, f"{theirs}.self_attention.dense", f"{ours}.attention.output", config.attention.qkv_bias),
            *with_bias(same, f"{theirs}.mlp.dense_h_to_4h", f"{ours}.mlp.up", config.mlp.bias),
            *with_bias(same, f"{theirs}.mlp.dense_4h_to_h", f"{ours}.mlp.down", config.mlp.bias),
        ]
    return [*maps, *heads_of_decoder(config)]


_COPIES = {"transformer.word_embeddings.weight": ("lm_head.weight",)}
_CLASSIFIER = "FalconForSequenceClassification"
FAMILY = Family(
    "falcon", "FalconForCausalLM", "transformer.", _read, _write, _tensors, BUFFERS, _CLASSIFIER, copies=_COPIES
)

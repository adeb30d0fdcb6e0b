"""ModernBERT (Warner et al. 2024): an encoder with rotary positions, gated layers, few biases and windows in most layers."""

from typing import Any

from wenloom.checkpoint.families.base import Family, TensorMap, in_one, same, with_bias, written
from wenloom.checkpoint.families.fields import HF_ACTIVATIONS, ConfigFields
from wenloom.checkpoint.families.llama import BUFFERS, read_kinds, write_kinds
from wenloom.checkpoint.families.rope import read_ropes, write_ropes
from wenloom.model.config import ModelConfig

_NAMES = {"d_model": "hidden_size", "n_layers": "num_hidden_layers", "n_heads": "num_attention_heads",
          "d_mlp": "intermediate_size", "norm_eps": "norm_eps", "norm_bias": "norm_bias", "qkv_bias": "attention_bias",
          "mlp_bias": "mlp_bias", "attention_dropout": "attention_dropout", "embedding_dropout": "embedding_dropout"}  # fmt: skip


def _read(fields: ConfigFields) -> ModelConfig:
    sizes = fields.sizes(_NAMES, (768, 22, 12), 50_368)
    fields.only("classifier_pooling", "cls", None)
    fields.only("decoder_bias", True, None)
    fields.only("rope_scaling", None)
    fields.understood("mlp_dropout", "classifier_dropout", "sparse_prediction", "sparse_pred_ignore_index",
                      "deterministic_flash_attn", "initializer_cutoff_factor", "cls_token_id", "sep_token_id")  # fmt: skip
    interval, bias, common = (
        fields.integer("global_attn_every_n_layers", 3),
        fields.flag("attention_bias", False),
        fields.common(tied=True),
    )
    default = ["sliding_attention" if layer % interval else "full_attention" for layer in range(sizes["n_layers"])]
    theta = fields.number("global_rope_theta", 160_000.0)
    rope, local_rope, length = read_ropes(fields, sizes["d_head"], 8192, theta, 10_000.0, "local_rope_theta")
    head = fields.activation("classifier_activation", "gelu")
    if common["labels"] and head != "gelu":
        raise fields.refuse("classifier_activation", "classes are read with gelu only")
    config = ModelConfig(
        family="modernbert",
        **sizes,
        d_mlp=fields.integer("intermediate_size", 1152),
        context_length=length,
        rope=rope,
        local_rope=local_rope,
        norm="layernorm",
        norm_bias=fields.flag("norm_bias", False),
        norm_eps=fields.number("norm_eps", 1e-5),
        first_norm=False,
        embedding_norm=True,
        causal=False,
        activation=fields.activation("hidden_activation", "gelu"),
        qkv_bias=bias,
        attention_output_bias=bias,
        mlp_bias=fields.flag("mlp_bias", False),
        sliding_window=fields.integer("local_attention", 128, 0) // 2 + 1,
        sliding_layers=read_kinds(fields, sizes["n_layers"], default),
        head_activation=head,
        head_bias=fields.flag("classifier_bias", False),
        has_head=fields.has_head(),
        pooler="gelu" if common["labels"] else None,
        pooler_norm=bool(common["labels"]),
        output_bias=True,
        embedding_dropout=fields.share("embedding_dropout", 0.0),
        attention_dropout=fields.share("attention_dropout", 0.0),
        **common,
    )
    fields.finish()
    return config


def _write(config: ModelConfig) -> dict[str, Any]:
    assert config.sliding_window is not None
    return {
        **written(config, _NAMES),
        **write_ropes(config),
        "hidden_activation": HF_ACTIVATIONS[config.activation],
        "local_attention": 2 * (config.sliding_window - 1),
        "layer_types": write_kinds(config),
        "classifier_activation": HF_ACTIVATIONS[config.head_activation or "gelu"],
        "classifier_bias": config.head_bias,
    }


def _tensors(config: ModelConfig) -> list[TensorMap]:
    d, norm_bias = config.d_model, config.norm_bias
    maps = [
        same("model.embeddings.tok_embeddings.weight", "embed.weight"),
        *with_bias(same, "model.embeddings.norm", "embedding_norm", norm_bias),
        *with_bias(same, "model.final_norm", "final_norm", norm_bias),
    ]
    for layer in range(config.n_layers):
        theirs, ours = f"model.layers.{layer}", f"blocks.{layer}"
        if layer:
            maps += with_bias(same, f"{theirs}.attn_norm", f"{ours}.attention_norm", norm_bias)
        for part, has_bias, names, rows in (
            ("attn.Wqkv", config.qkv_bias, ("attention.query", "attention.key", "attention.value"), [d] * 3),
            ("mlp.Wi", config.mlp_bias, ("mlp.gate", "mlp.up"), [config.d_mlp] * 2),
        ):
            kinds = ("weight", "bias") if has_bias else ("weight",)
            maps += [
                in_one(f"{theirs}.{part}.{kind}", [f"{ours}.{name}.{kind}" for name in names], rows) for kind in kinds
            ]
        maps += [
            *with_bias(same, f"{theirs}.attn.Wo", f"{ours}.attention.output", config.attention_output_bias),
            *with_bias(same, f"{theirs}.mlp_norm", f"{ours}.mlp_norm", norm_bias),
            *with_bias(same, f"{theirs}.mlp.Wo", f"{ours}.mlp.down", config.mlp_bias),
        ]
    return [*maps, *_heads(config)]


def _heads(config: ModelConfig) -> list[TensorMap]:
    if config.output == "hidden states":
        return []
    dense, norm = ("classifier.dense", "classifier.norm") if config.labels else ("transform", "transform_norm")
    maps = [
        *with_bias(same, "head.dense", dense, config.head_bias),
        *with_bias(same, "head.norm", norm, config.norm_bias),
    ]
    if config.labels:
        return [*maps, *with_bias(same, "classifier", "classifier.output", True)]
    untied = [same("decoder.weight", "head.weight")] if config.has_output_matrix else []
    return [*maps, same("decoder.bias", "output_bias"), *untied]


FAMILY = Family("modernbert", "ModernBertForMaskedLM", "model.", _read, _write, _tensors, BUFFERS,
                "ModernBertForSequenceClassification", "ModernBertModel", "decoder.weight",
                {"model.embeddings.tok_embeddings.weight": ("decoder.weight",)},
                head_prefixes=("head.", "decoder."))  # fmt: skip

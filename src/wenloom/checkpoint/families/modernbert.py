"""ModernBERT (Warner et al. 2024): an encoder with rotary positions, gated layers, few biases and windows in most layers."""

from typing import Any

from wenloom.checkpoint.families.base import Family, TensorMap, in_one, same, with_bias, written
from wenloom.checkpoint.families.fields import HF_ACTIVATIONS, ConfigFields
from wenloom.checkpoint.families.llama import BUFFERS, read_kinds, write_kinds
from wenloom.checkpoint.families.rope import read_ropes, write_ropes
from wenloom.model.config import ModelConfig, config_of

_NAMES = {"d_model": "hidden_size", "n_layers": "num_hidden_layers", "n_heads": "num_attention_heads",
          "d_mlp": "intermediate_size", "norms.eps": "norm_eps", "norms.bias": "norm_bias",
          "attention.qkv_bias": "attention_bias",
          "mlp.bias": "mlp_bias", "dropout.attention": "attention_dropout",
          "dropout.embedding": "embedding_dropout"}  # fmt: skip


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
    config = config_of(
        sizes,
        common,
        family="modernbert",
        d_mlp=fields.integer("intermediate_size", 1152),
        context_length=length,
        positions={"rope": rope, "local_rope": local_rope},
        norms={
            "kind": "layernorm",
            "bias": fields.flag("norm_bias", False),
            "eps": fields.number("norm_eps", 1e-5),
            "first": False,
            "embedding": True,
        },
        causal=False,
        mlp={"activation": fields.activation("hidden_activation", "gelu"), "bias": fields.flag("mlp_bias", False)},
        attention={
            "qkv_bias": bias,
            "output_bias": bias,
            "sliding_window": fields.integer("local_attention", 128, 0) // 2 + 1,
            "sliding_layers": read_kinds(fields, sizes["n_layers"], default),
        },
        head={
            "activation": head,
            "bias": fields.flag("classifier_bias", False),
            "present": fields.has_head(),
            "pooler": "gelu" if common["labels"] else None,
            "pooler_norm": bool(common["labels"]),
        },
        logits={"bias": True},
        dropout={
            "embedding": fields.share("embedding_dropout", 0.0),
            "attention": fields.share("attention_dropout", 0.0),
        },
    )
    fields.finish()
    return config


def _write(config: ModelConfig) -> dict[str, Any]:
    assert config.attention.sliding_window is not None
    return {
        **written(config, _NAMES),
        **write_ropes(config),
        "hidden_activation": HF_ACTIVATIONS[config.mlp.activation],
        "local_attention": 2 * (config.attention.sliding_window - 1),
        "layer_types": write_kinds(config),
        "classifier_activation": HF_ACTIVATIONS[config.head.activation or "gelu"],
        "classifier_bias": config.head.bias,
    }


def _tensors(config: ModelConfig) -> list[TensorMap]:
    d, norm_bias = config.d_model, config.norms.bias
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
            ("attn.Wqkv", config.attention.qkv_bias, ("attention.query", "attention.key", "attention.value"), [d] * 3),
            ("mlp.Wi", config.mlp.bias, ("mlp.gate", "mlp.up"), [config.d_mlp] * 2),
        ):
            kinds = ("weight", "bias") if has_bias else ("weight",)
            maps += [
                in_one(f"{theirs}.{part}.{kind}", [f"{ours}.{name}.{kind}" for name in names], rows) for kind in kinds
            ]
        maps += [
            *with_bias(same, f"{theirs}.attn.Wo", f"{ours}.attention.output", config.attention.output_bias),
            *with_bias(same, f"{theirs}.mlp_norm", f"{ours}.mlp_norm", norm_bias),
            *with_bias(same, f"{theirs}.mlp.Wo", f"{ours}.mlp.down", config.mlp.bias),
        ]
    return [*maps, *_heads(config)]


def _heads(config: ModelConfig) -> list[TensorMap]:
    if config.output == "hidden states":
        return []
    dense, norm = ("classifier.dense", "classifier.norm") if config.labels else ("transform", "transform_norm")
    maps = [
        *with_bias(same, "head.dense", dense, config.head.bias),
        *with_bias(same, "head.norm", norm, config.norms.bias),
    ]
    if config.labels:
        return [*maps, *with_bias(same, "classifier", "classifier.output", True)]
    untied = [same("decoder.weight", "head.weight")] if config.has_output_matrix else []
    return [*maps, same("decoder.bias", "output_bias"), *untied]


FAMILY = Family("modernbert", "ModernBertForMaskedLM", "model.", _read, _write, _tensors, BUFFERS,
                "ModernBertForSequenceClassification", "ModernBertModel", "decoder.weight",
                {"model.embeddings.tok_embeddings.weight": ("decoder.weight",)},
                head_prefixes=("head.", "decoder."))  # fmt: skip

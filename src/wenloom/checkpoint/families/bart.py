"""BART (Lewis et al. 2020), and the shape that Marian, mBART and Pegasus share with it."""

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from wenloom.checkpoint.families.base import Family, TensorMap, same, with_bias
from wenloom.checkpoint.families.fields import HF_ACTIVATIONS, ConfigFields
from wenloom.model.config import POST_NORM, ModelConfig, config_of, reshaped

BUFFERS = re.compile(r"embed_positions\.weights?$")
"""The sines of Marian, which are computed."""
OPTIONAL = frozenset(["final_logits_bias"])
COPIES = {"model.shared.weight": ("model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight",
                                  "lm_head.weight")}  # fmt: skip

_NAMES = {"d_model": "d_model", "n_layers": "encoder_layers", "n_heads": "encoder_attention_heads"}


def read_common(
    fields: ConfigFields,
    family: str,
    start: int,
    *shapes: Mapping[str, Any],
    activation: str,
    vocab_size: int,
    scales: bool = False,
    output_bias: bool = True,
    **own: Any,
) -> ModelConfig:
    """What config.json says in all these families; `shapes` and `own` are what this family adds to encoder and decoder.

    Args:
        start: the default of decoder_start_token_id.
        activation, vocab_size, scales: the family's other defaults, of scale_embedding the last.
        output_bias: whether logits have a bias.
    """
    fields.only("is_decoder", False, None)
    fields.understood("activation_dropout", "encoder_layerdrop", "decoder_layerdrop", "num_hidden_layers")
    dropout = fields.share("dropout", 0.1)
    shared = config_of(
        fields.sizes(_NAMES, (1024, 12, 16), vocab=vocab_size),
        POST_NORM,
        fields.token_ids(),
        *shapes,
        own,
        family=family,
        d_mlp=fields.integer("encoder_ffn_dim", 4096),
        context_length=fields.size("max_position_embeddings", "context_length", 1024),
        norms={"eps": 1e-5},
        embedding={"scaled": fields.flag("scale_embedding", scales)},
        mlp={"activation": fields.activation("activation_function", activation)},
        dropout={"embedding": dropout, "attention": fields.share("attention_dropout", 0.0), "residual": dropout},
        initializer_range=fields.number("init_std", 0.02),
    )
    heads = fields.size("decoder_attention_heads", "n_heads", 16)
    config = reshaped(
        shared,
        n_layers=fields.size("decoder_layers", "n_layers", 12),
        n_heads=heads,
        n_kv_heads=heads,
        d_head=fields.width_per_head("d_model", shared.d_model, "decoder_attention_heads", heads),
        d_mlp=fields.integer("decoder_ffn_dim", 4096),
        logits={"tied": fields.flag("tie_word_embeddings", True), "bias": output_bias},
        encoder=replace(shared, causal=False),
        decoder_start_token_id=fields.integer("decoder_start_token_id", start, 0),
    )
    fields.finish(encoder_decoder=True)
    return config


def write_config(config: ModelConfig) -> dict[str, Any]:
    """The fields that all these families write."""
    assert config.encoder is not None
    return {
        "is_encoder_decoder": True,
        "d_model": config.d_model,
        "encoder_layers": config.encoder.n_layers,
        "encoder_attention_heads": config.encoder.n_heads,
        "encoder_ffn_dim": config.encoder.d_mlp,
        "decoder_layers": config.n_layers,
        "decoder_attention_heads": config.n_heads,
        "decoder_ffn_dim": config.d_mlp,
        "activation_function": HF_ACTIVATIONS[config.mlp.activation],
        "max_position_embeddings": config.context_length,
        "scale_embedding": config.embedding.scaled,
        "dropout": config.dropout.residual,
        "attention_dropout": config.dropout.attention,
        "init_std": config.initializer_range,
        "decoder_start_token_id": config.decoder_start_token_id,
        "forced_eos_token_id": None,
    }


def tensors(config: ModelConfig) -> list[TensorMap]:
    """Names of all these families' files."""
    assert config.encoder is not None
    maps = [
        same("model.shared.weight", "decoder.embed.weight"),
    ]
    if config.logits.bias:
        one_row = TensorMap(
            "final_logits_bias", ("decoder.output_bias",), lambda t: (t[0],), lambda tensors: tensors[0][None]
        )
        maps.append(one_row)
    for side, stack in (("encoder", config.encoder), ("decoder", config)):
        if stack.positions.kind == "learned":
            maps.append(same(f"model.{side}.embed_positions.weight", f"{side}.positions.weight"))
        if stack.norms.embedding:
            maps += with_bias(same, f"model.{side}.layernorm_embedding", f"{side}.embedding_norm", True)
        if stack.norms.final:
            maps += with_bias(same, f"model.{side}.layer_norm", f"{side}.final_norm", True)
        for layer in range(stack.n_layers):
            theirs, ours = f"model.{side}.layers.{layer}", f"{side}.blocks.{layer}"
            attentions = [("self_attn", "attention"), *([("encoder_attn", "cross")] if side == "decoder" else [])]
            for their_part, part in attentions:
                for short, long in (("q", "query"), ("k", "key"), ("v", "value"), ("out", "output")):
                    maps += with_bias(same, f"{theirs}.{their_part}.{short}_proj", f"{ours}.{part}.{long}", True)
                maps += with_bias(same, f"{theirs}.{their_part}_layer_norm", f"{ours}.{part}_norm", True)
            maps += [
                *with_bias(same, f"{theirs}.fc1", f"{ours}.mlp.up", True),
                *with_bias(same, f"{theirs}.fc2", f"{ours}.mlp.down", True),
                *with_bias(same, f"{theirs}.final_layer_norm", f"{ours}.mlp_norm", True),
            ]
    return maps if config.logits.tied else [*maps, same("lm_head.weight", "decoder.head.weight")]


def _read(fields: ConfigFields) -> ModelConfig:
    return read_common(
        fields,
        "bart",
        2,
        activation="gelu",
        vocab_size=50265,
        positions={"offset": 2},
        norms={"embedding": True},
    )


FAMILY = Family("bart", "BartForConditionalGeneration", "model.", _read, write_config, tensors, BUFFERS,
                copies=COPIES, optional=OPTIONAL)  # fmt: skip

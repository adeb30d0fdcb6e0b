"""Whisper (Radford et al. 2022): an encoder of sound, and a decoder that writes what it heard; Distil-Whisper's too."""

import re
from typing import Any

from wenloom.checkpoint.families.base import Family, TensorMap, same, with_bias
from wenloom.checkpoint.families.fields import HF_ACTIVATIONS, ConfigFields
from wenloom.model.config import PLAIN_BLOCKS, ModelConfig, config_of, reshaped

_NAMES = {"d_model": "d_model", "n_layers": "encoder_layers", "n_heads": "encoder_attention_heads"}
_OF_TRAINING = ("activation_dropout", "encoder_layerdrop", "decoder_layerdrop", "num_hidden_layers", "apply_spec_augment",
                "mask_time_prob", "mask_time_length", "mask_time_min_masks", "mask_feature_prob", "mask_feature_length",
                "mask_feature_min_masks", "median_filter_width")  # fmt: skip
"""Fields that change no logits: what training drops or masks, and how times of words are smoothed. Nor does scale_embedding:
the reference reads it and scales nothing by it."""


def _read(fields: ConfigFields) -> ModelConfig:
    fields.only("is_decoder", False, None)
    fields.only("use_weighted_layer_sum", False, None)  # of models that classify sound
    fields.understood(*_OF_TRAINING, "classifier_proj_size", "forced_decoder_ids", "scale_embedding")
    dropout = fields.share("dropout", 0.0)
    encoder = config_of(
        fields.sizes(_NAMES, (384, 4, 6), vocab=51865),
        PLAIN_BLOCKS,
        fields.token_ids(),
        family="whisper",
        d_mlp=fields.integer("encoder_ffn_dim", 1536),
        context_length=fields.size("max_source_positions", "context_length", 1500),
        norms={"eps": 1e-5},
        attention={"key_bias": False},
        mlp={"activation": fields.activation("activation_function", "gelu")},
        dropout={"embedding": dropout, "attention": fields.share("attention_dropout", 0.0), "residual": dropout},
        initializer_range=fields.number("init_std", 0.02),
        causal=False,
        n_mels=fields.integer("num_mel_bins", 80, most=4096),
    )
    heads = fields.size("decoder_attention_heads", "n_heads", 6)
    config = reshaped(
        encoder,
        n_layers=fields.size("decoder_layers", "n_layers", 4),
        n_heads=heads,
        n_kv_heads=heads,
        d_head=fields.width_per_head("d_model", encoder.d_model, "decoder_attention_heads", heads),
        d_mlp=fields.integer("decoder_ffn_dim", 1536),
        context_length=fields.size("max_target_positions", "context_length", 448),
        logits={"tied": fields.flag("tie_word_embeddings", True)},
        causal=True,
        n_mels=None,
        encoder=encoder,
        decoder_start_token_id=fields.integer("decoder_start_token_id", 50257, 0),
    )
    fields.finish(encoder_decoder=True)
    return config


def _write(config: ModelConfig) -> dict[str, Any]:
    encoder = config.encoder
    assert encoder is not None
    return {
        "is_encoder_decoder": True,
        "num_mel_bins": encoder.n_mels,
        "d_model": config.d_model,
        "encoder_layers": encoder.n_layers,
        "num_hidden_layers": encoder.n_layers,
        "encoder_attention_heads": encoder.n_heads,
        "encoder_ffn_dim": encoder.d_mlp,
        "decoder_layers": config.n_layers,
        "decoder_attention_heads": config.n_heads,
        "decoder_ffn_dim": config.d_mlp,
        "max_source_positions": encoder.context_length,
        "max_target_positions": config.context_length,
        "activation_function": HF_ACTIVATIONS[config.mlp.activation],
        "scale_embedding": False,
        "dropout": config.dropout.residual,
        "attention_dropout": config.dropout.attention,
        "init_std": config.initializer_range,
        "decoder_start_token_id": config.decoder_start_token_id,
    }


def _tensors(config: ModelConfig) -> list[TensorMap]:
    encoder = config.encoder
    assert encoder is not None
    maps = [
        *with_bias(same, "model.encoder.conv1", "encoder.conv_in", True),
        *with_bias(same, "model.encoder.conv2", "encoder.conv_half", True),
        same("model.decoder.embed_tokens.weight", "decoder.embed.weight"),
    ]
    for side, stack in (("encoder", encoder), ("decoder", config)):
        maps.append(same(f"model.{side}.embed_positions.weight", f"{side}.positions.weight"))
        maps += with_bias(same, f"model.{side}.layer_norm", f"{side}.final_norm", True)
        for layer in range(stack.n_layers):
            maps += _block(f"model.{side}.layers.{layer}", f"{side}.blocks.{layer}", side == "decoder")
    return maps if config.logits.tied else [*maps, same("proj_out.weight", "decoder.head.weight")]


def _block(theirs: str, ours: str, has_cross: bool) -> list[TensorMap]:
    maps: list[TensorMap] = []
    for their_part, part in [("self_attn", "attention"), *([("encoder_attn", "cross")] if has_cross else [])]:
        for short, long in (("q", "query"), ("k", "key"), ("v", "value"), ("out", "output")):
            maps += with_bias(same, f"{theirs}.{their_part}.{short}_proj", f"{ours}.{part}.{long}", short != "k")
        maps += with_bias(same, f"{theirs}.{their_part}_layer_norm", f"{ours}.{part}_norm", True)
    for name, part in (("fc1", "mlp.up"), ("fc2", "mlp.down"), ("final_layer_norm", "mlp_norm")):
        maps += with_bias(same, f"{theirs}.{name}", f"{ours}.{part}", True)
    return maps


FAMILY = Family("whisper", "WhisperForConditionalGeneration", "model.", _read, _write, _tensors, re.compile(r"(?!)"),
                head="proj_out.weight", head_prefixes=("proj_out.",),
                copies={"model.decoder.embed_tokens.weight": ("proj_out.weight",)})  # fmt: skip

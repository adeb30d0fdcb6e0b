"""T5 (Raffel et al. 2020) and T5 1.1 (Shazeer 2020: gated GELU): pre-norm, biases by distance, unscaled attention."""

import re
from typing import Any

from wenloom.checkpoint.families.base import Family, TensorMap, same
from wenloom.checkpoint.families.fields import HF_ACTIVATIONS, ConfigFields, shown
from wenloom.model.config import ModelConfig, config_of, reshaped


def read_t5(
    fields: ConfigFields,
    family: str,
    vocab_size: int,
    projection: str,
    is_tied: bool | None = None,
    is_scaled: bool = False,
    in_layers: bool = False,
    **sizes: int,
) -> ModelConfig:
    """What config.json says in T5, mT5 and UMT5.

    Args:
        vocab_size, projection: the family's defaults, of feed_forward_proj too.
        is_tied: whatever the file says; None: as it says, which scales the output of a tied model.
        is_scaled: scale it whatever the file says.
        in_layers: each layer has biases by distance of its own.
        sizes: defaults of d_ff, num_layers and num_heads.
    """
    fields.only("is_decoder", False, None)
    default, projection = projection, fields.raw("feed_forward_proj")
    projection = default if projection is None else projection
    if not isinstance(projection, str):
        raise fields.refuse("feed_forward_proj", f"must be a name, got {shown(projection)}")
    gated = fields.flag("is_gated_act", "is_gated_act" not in fields and projection.startswith("gated-"))
    source, name = "feed_forward_proj", "gelu_new" if projection == "gated-gelu" else projection.removeprefix("gated-")
    if "dense_act_fn" in fields:  # as transformers has it, this and is_gated_act count more, be they null
        source, name = "dense_act_fn", fields.raw("dense_act_fn")
    heads = fields.size("num_heads", "n_heads", sizes["num_heads"])
    scaled = is_scaled
    if is_tied is None:
        is_tied = fields.flag("tie_word_embeddings", True)
        scaled = fields.flag("scale_decoder_outputs", "scale_decoder_outputs" not in fields and is_tied)
    buckets = fields.integer("relative_attention_num_buckets", 32, 4)
    dropout = fields.share("dropout_rate", 0.1)
    encoder = config_of(
        fields.token_ids(),
        family=family,
        vocab_size=fields.size("vocab_size", "vocab_size", vocab_size),
        n_layers=fields.size("num_layers", "n_layers", sizes["num_layers"]),
        d_model=fields.size("d_model", "d_model", 512),
        n_heads=heads,
        n_kv_heads=heads,
        d_head=fields.size("d_kv", "d_head", 64),
        d_mlp=fields.integer("d_ff", sizes["d_ff"]),
        context_length=512,
        positions={
            "kind": "relative",
            "buckets": buckets,
            "in_layers": in_layers,
            "distance": fields.integer("relative_attention_max_distance", 128, buckets // 2 + 1),
        },
        norms={"kind": "rmsnorm", "eps": fields.number("layer_norm_epsilon", 1e-6)},
        causal=False,
        mlp={"activation": fields.activation_named(source, name), "gated": gated},
        attention={"scale_by_head": False},
        dropout={"embedding": dropout, "residual": dropout},
        initializer_range=fields.number("initializer_range", 0.02),
    )
    config = reshaped(
        encoder,
        n_layers=fields.size("num_decoder_layers", "n_layers", encoder.n_layers),
        causal=True,
        logits={"tied": is_tied, "scaled": scaled},
        encoder=encoder,
        decoder_start_token_id=fields.integer("decoder_start_token_id", 0, 0),
    )
    fields.finish(encoder_decoder=True)
    return config


def _read(fields: ConfigFields) -> ModelConfig:
    return read_t5(fields, "t5", 32128, "relu", d_ff=2048, num_layers=6, num_heads=8)


def write_t5(config: ModelConfig) -> dict[str, Any]:
    """The fields that `read_t5` reads."""
    assert config.encoder is not None
    activation = HF_ACTIVATIONS[config.mlp.activation]
    return {
        "is_encoder_decoder": True,
        "d_model": config.d_model,
        "d_kv": config.d_head,
        "d_ff": config.d_mlp,
        "num_layers": config.encoder.n_layers,
        "num_decoder_layers": config.n_layers,
        "num_heads": config.n_heads,
        "relative_attention_num_buckets": config.positions.buckets,
        "relative_attention_max_distance": config.positions.distance,
        "layer_norm_epsilon": config.norms.eps,
        "feed_forward_proj": f"gated-{activation}" if config.mlp.gated else activation,
        "dense_act_fn": activation,
        "is_gated_act": config.mlp.gated,
        "dropout_rate": config.dropout.residual,
        "scale_decoder_outputs": config.logits.scaled,
        "decoder_start_token_id": config.decoder_start_token_id,
    }


def tensors(config: ModelConfig) -> list[TensorMap]:
    """Names of a file."""
    assert config.encoder is not None
    maps = [same("shared.weight", "decoder.embed.weight")]
    for side, stack in (("encoder", config.encoder), ("decoder", config)):
        bias, in_layers = "layer.0.SelfAttention.relative_attention_bias.weight", stack.positions.in_layers
        for layer in range(stack.n_layers if in_layers else 1):
            part = f"relative.{layer}.table" if in_layers else "relative.table"
            maps.append(same(f"{side}.block.{layer}.{bias}", f"{side}.{part}.weight"))
        maps.append(same(f"{side}.final_layer_norm.weight", f"{side}.final_norm.weight"))
        for layer in range(stack.n_layers):
            ours, sublayers = f"{side}.blocks.{layer}", ["SelfAttention"]
            if side == "decoder":
                sublayers.append("EncDecAttention")
            for number, kind in enumerate(sublayers):
                theirs, part = f"{side}.block.{layer}.layer.{number}", "cross" if number else "attention"
                for short, long in (("q", "query"), ("k", "key"), ("v", "value"), ("o", "output")):
                    maps.append(same(f"{theirs}.{kind}.{short}.weight", f"{ours}.{part}.{long}.weight"))
                maps.append(same(f"{theirs}.layer_norm.weight", f"{ours}.{part}_norm.weight"))
            theirs = f"{side}.block.{layer}.layer.{len(sublayers)}"
            names = {"wi_0": "gate", "wi_1": "up", "wo": "down"} if stack.mlp.gated else {"wi": "up", "wo": "down"}
            maps += [
                *(same(f"{theirs}.DenseReluDense.{name}.weight", f"{ours}.mlp.{part}.weight")
                  for name, part in names.items()),
                same(f"{theirs}.layer_norm.weight", f"{ours}.mlp_norm.weight"),
            ]  # fmt: skip
    return maps if config.logits.tied else [*maps, same("lm_head.weight", "decoder.head.weight")]


COPIES = {"shared.weight": ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight")}
BUFFERS = re.compile(r"EncDecAttention\.relative_attention_bias")
FAMILY = Family("t5", "T5ForConditionalGeneration", "", _read, write_t5, tensors, BUFFERS,
                copies=COPIES, is_always_tied=True)  # fmt: skip

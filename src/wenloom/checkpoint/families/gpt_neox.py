"""GPT-NeoX and Pythia (Black et al. 2022): parallel residual, partial rotary, heads interleaved in one matrix."""

import re
from typing import Any

from wenloom.checkpoint.families.base import Family, TensorMap, heads_in_one, same, with_bias, written
from wenloom.checkpoint.families.fields import HF_ACTIVATIONS, ConfigFields
from wenloom.checkpoint.families.rope import read_rope, rotary_part, write_rope
from wenloom.model.config import PLAIN_BLOCKS, ModelConfig, config_of

_NAMES = {"d_model": "hidden_size", "d_mlp": "intermediate_size", "n_layers": "num_hidden_layers",
          "n_heads": "num_attention_heads"}  # fmt: skip


def _read(fields: ConfigFields) -> ModelConfig:
    fields.understood("is_decoder")  # this one is a decoder whatever it says
    sizes = fields.sizes(_NAMES, (None, None, None))
    theta, part = fields.number("rotary_emb_base", 10_000.0), fields.number("rotary_pct", 0.25)
    fields.only("partial_rotary_factor", None, part)
    rope, context_length = read_rope(fields, sizes["d_head"], 2048, theta, part)
    bias = fields.flag("attention_bias", True)
    dropout = fields.share("hidden_dropout", 0.0)
    config = config_of(
        sizes,
        PLAIN_BLOCKS,
        fields.common(tied=False),
        family="gpt_neox",
        d_mlp=fields.integer("intermediate_size"),
        context_length=context_length,
        attention={"qkv_bias": bias, "output_bias": bias},
        positions={"rope": rope},
        norms={"eps": fields.number("layer_norm_eps", 1e-5)},
        mlp={"activation": fields.activation("hidden_act", "gelu")},
        residual={"parallel": fields.flag("use_parallel_residual", True)},
        dropout={"embedding": dropout, "attention": fields.share("attention_dropout", 0.0), "residual": dropout},
    )
    fields.finish()
    return config


def _write(config: ModelConfig) -> dict[str, Any]:
    assert config.positions.rope is not None
    return {
        **written(config, _NAMES),
        "hidden_act": HF_ACTIVATIONS[config.mlp.activation],
        "layer_norm_eps": config.norms.eps,
        "rotary_pct": rotary_part(config.positions.rope.d_rotary, config.d_head),
        "rotary_emb_base": config.positions.rope.theta,
        **write_rope(config.positions.rope, config.context_length),
        "attention_bias": config.attention.qkv_bias,
        "use_parallel_residual": config.residual.parallel,
        "attention_dropout": config.dropout.attention,
        "hidden_dropout": config.dropout.residual,
    }


def _tensors(config: ModelConfig) -> list[TensorMap]:
    maps = [
        same("gpt_neox.embed_in.weight", "embed.weight"),
        *with_bias(same, "gpt_neox.final_layer_norm", "final_norm", True),
    ]
    for layer in range(config.n_layers):
        theirs, ours = f"gpt_neox.layers.{layer}", f"blocks.{layer}"
        maps += [
            *with_bias(same, f"{theirs}.input_layernorm", f"{ours}.attention_norm", True),
            *with_bias(same, f"{theirs}.post_attention_layernorm", f"{ours}.mlp_norm", True),
            *(
                heads_in_one(config, f"{theirs}.attention.query_key_value.{kind}", f"{ours}.attention.{{}}.{kind}")
                for kind in (("weight", "bias") if config.attention.qkv_bias else ("weight",))
            ),
            *with_bias(same, f"{theirs}.attention.dense", f"{ours}.attention.output", config.attention.output_bias),
            *with_bias(same, f"{theirs}.mlp.dense_h_to_4h", f"{ours}.mlp.up", True),
            *with_bias(same, f"{theirs}.mlp.dense_4h_to_h", f"{ours}.mlp.down", True),
        ]
    if config.labels:
        return [*maps, same("score.weight", "classifier.output.weight")]
    return maps if config.logits.tied else [*maps, same("embed_out.weight", "head.weight")]


_BUFFERS = re.compile(r"\.attention\.((masked_)?bias|rotary_emb\.inv_freq)$")
_COPIES = {"gpt_neox.embed_in.weight": ("embed_out.weight", "lm_head.weight"), "embed_out.weight": ("lm_head.weight",)}
_CLASSIFIER = "GPTNeoXForSequenceClassification"
FAMILY = Family(
    "gpt_neox",
    "GPTNeoXForCausalLM",
    "gpt_neox.",
    _read,
    _write,
    _tensors,
    _BUFFERS,
    _CLASSIFIER,
    head="embed_out.weight",
    copies=_COPIES,
)

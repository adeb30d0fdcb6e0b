"""Nomic Embed (Nussbaum et al. 2024): BERT with rotary positions, gated layers and no biases in the matrices of its blocks."""

from collections.abc import Mapping
from typing import Any

from wenloom.checkpoint.families.base import Family, TensorMap, heads_of_encoder, in_one, same, with_bias
from wenloom.checkpoint.families.bert import BUFFERS, own_head, read_common, write_config
from wenloom.checkpoint.families.fields import ConfigFields
from wenloom.checkpoint.families.rope import read_rope, write_rope
from wenloom.model.config import ModelConfig, limit


def _read(fields: ConfigFields) -> ModelConfig:
    d_model = fields.integer("hidden_size", 768, most=limit("d_model"))
    n_heads = fields.integer("num_attention_heads", 12, most=limit("n_heads"))
    d_head = fields.size("head_dim", "d_head", max(1, d_model // n_heads))
    rope, length = read_rope(fields, d_head, 2048, 1000.0)
    if rope.d_rotary != d_head:
        raise fields.refuse("partial_rotary_factor", "this family rotates whole heads; other values are not supported")
    return read_common(fields, "nomic_bert", act="silu", dropout=0.0, d_head=d_head, positions={"rope": rope}, context_length=length,
                       attention={"qkv_bias": False, "output_bias": False}, mlp={"bias": False, "gated": True})  # fmt: skip


def _write(config: ModelConfig) -> dict[str, Any]:
    assert config.positions.rope is not None
    rope = {"rope_theta": config.positions.rope.theta, **write_rope(config.positions.rope, config.context_length)}
    return {**write_config(config), "head_dim": config.d_head, **rope}


def _tensors(config: ModelConfig) -> list[TensorMap]:
    """Names of files; queries, keys and values stand in one matrix."""
    embeddings, width = f"{_BODY}.embeddings", config.n_heads * config.d_head
    maps = _ends(config, f"{embeddings}.word_embeddings", f"{embeddings}.token_type_embeddings", f"{_BODY}.emb_ln")
    for layer in range(config.n_layers):
        theirs, ours = f"{_BODY}.encoder.layers.{layer}", f"blocks.{layer}"
        joined = [f"{ours}.attention.{part}.weight" for part in ("query", "key", "value")]
        maps.append(in_one(f"{theirs}.attn.Wqkv.weight", joined, [width] * 3))
        maps += _block(theirs, ours, _IN_FILES)
    return maps


def _modules(config: ModelConfig) -> list[TensorMap]:
    """Names of modules."""
    embeddings = f"{_BODY}.embeddings"
    maps = _ends(
        config, *(f"{embeddings}.{name}" for name in ("word_embeddings", "token_type_embeddings", "LayerNorm"))
    )
    return maps + [each for layer in range(config.n_layers)
                   for each in _block(f"{_BODY}.layers.{layer}", f"blocks.{layer}", _IN_MODULES)]  # fmt: skip


def _ends(config: ModelConfig, words: str, types: str, norm: str) -> list[TensorMap]:
    """What stands before and over the blocks."""
    return [
        same(f"{words}.weight", "embed.weight"),
        same(f"{types}.weight", "token_types.weight"),
        *with_bias(same, norm, "embedding_norm", True),
        *heads_of_encoder(config, _HEADS, own_head("cls.predictions.decoder")),
    ]


def _block(theirs: str, ours: str, names: Mapping[str, str]) -> list[TensorMap]:
    return [each for name, part in names.items()
            for each in with_bias(same, f"{theirs}.{name}", f"{ours}.{part}", part.endswith("norm"))]  # fmt: skip


_BODY = "nomic_bert"
_IN_FILES = {"attn.out_proj": "attention.output", "mlp.fc11": "mlp.up", "mlp.fc12": "mlp.gate", "mlp.fc2": "mlp.down",
             "norm1": "attention_norm", "norm2": "mlp_norm"}  # fmt: skip
_IN_MODULES = {"self_attn.q_proj": "attention.query", "self_attn.k_proj": "attention.key", "self_attn.v_proj": "attention.value",
               "self_attn.o_proj": "attention.output", "mlp.up_proj": "mlp.up", "mlp.gate_proj": "mlp.gate",
               "mlp.down_proj": "mlp.down", "post_attention_layernorm": "attention_norm",
               "post_mlp_layernorm": "mlp_norm"}  # fmt: skip
_HEADS = {"classifier.dense": "nomic_bert.pooler.dense", "classifier.output": "classifier",
          "transform": "cls.predictions.transform.dense", "transform_norm": "cls.predictions.transform.layer_norm",
          "output_bias": "cls.predictions.bias"}  # fmt: skip
_COPIES = {"nomic_bert.embeddings.word_embeddings.weight": ("cls.predictions.decoder.weight",),
           "cls.predictions.bias": ("cls.predictions.decoder.bias",),
           "cls.predictions.decoder.bias": ("cls.predictions.bias",)}  # fmt: skip
FAMILY = Family("nomic_bert", "NomicBertForMaskedLM", "nomic_bert.", _read, _write, _tensors, BUFFERS,
                "NomicBertForSequenceClassification", "NomicBertModel", "cls.predictions.decoder.weight", _COPIES,
                module_tensors=_modules)  # fmt: skip

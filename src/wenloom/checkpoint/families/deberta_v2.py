"""DeBERTa V2 and V3 (He et al. 2021, 2023): BERT with attention by content and distance, each with the other."""

import re
from typing import Any

from wenloom.checkpoint.families.base import Family, TensorMap, heads_of_encoder, same, with_bias
from wenloom.checkpoint.families.bert import PARTS, body, own_head, read_common, write_config
from wenloom.checkpoint.families.fields import HF_ACTIVATIONS, ConfigFields, shown
from wenloom.model.config import ModelConfig, limit
from wenloom.model.parts import Disentangled

_TERMS = ("c2p", "p2c")
_POOLERS = ("gelu", "tanh", "relu")


def _read(fields: ConfigFields) -> ModelConfig:
    d_model = fields.integer("hidden_size", 1536, most=limit("d_model"))
    fields.only("embedding_size", d_model, None)
    fields.only("conv_kernel_size", 0, None)  # the first layer's convolution of the XL models
    fields.only("pooler_hidden_size", d_model, None)
    fields.only("pooler_hidden_act", None, *_POOLERS)
    fields.understood("pooler_dropout", "cls_dropout", "conv_act", "conv_groups")
    n_heads = fields.integer("num_attention_heads", 24, most=limit("n_heads"))
    d_head = fields.width_per_head("hidden_size", d_model, "num_attention_heads", n_heads)
    fields.only("attention_head_size", d_head, None)
    terms = _terms(fields)
    own: dict[str, Any] = {} if fields.flag("legacy", True) else {"logits": {"tied": True}}
    positions = {
        "kind": "learned" if fields.flag("position_biased_input", True) else "none",
        "disentangled": _distances(fields, terms),
    }
    return read_common(
        fields, "deberta-v2", own, widths=(1536, 24, 24), d_mlp=6144, eps=1e-7, pooler=fields.raw("pooler_hidden_act") or "gelu",
        embedding={"token_types": fields.integer("type_vocab_size", 0, 0)},
        positions=positions, attention={"score_multiplier": (d_head * (1 + len(terms))) ** -0.5 if terms else None},
    )  # fmt: skip


def _terms(fields: ConfigFields) -> list[str]:
    """Which parts of a score distances have; the scale counts them, whether or not they are computed."""
    named = fields.raw("pos_att_type")
    named = [each.strip() for each in named.lower().split("|")] if isinstance(named, str) else named
    if named is not None and (not isinstance(named, list) or not all(isinstance(each, str) for each in named)):
        raise fields.refuse("pos_att_type", f"must be a list of c2p and p2c, got {shown(named)}")
    return [each for each in _TERMS if each in (named or ())]


def _distances(fields: ConfigFields, terms: list[str]) -> Disentangled | None:
    most = limit("context_length")
    distance, buckets = (
        fields.integer(name, -1, -(2**31), most) for name in ("max_relative_positions", "position_buckets")
    )
    distance = fields.integer("max_position_embeddings", 512, most=most) if distance < 1 else distance
    shared, norms = fields.flag("share_att_key", False), fields.raw("norm_rel_ebd")
    if norms is not None and not isinstance(norms, str):
        raise fields.refuse("norm_rel_ebd", f"must be a name, got {shown(norms)}")
    if not fields.flag("relative_attention", False):
        return None
    buckets = max(0, buckets)
    if buckets == 1 or buckets // 2 >= distance - 1 > 0 < buckets:
        raise fields.refuse("position_buckets", f"must be from 2 to {2 * distance - 4}, as distances go to {distance}")
    if 2 * (buckets or distance) > limit("vocab_size"):
        raise fields.refuse("max_relative_positions", f"{distance:,} distances are more than a model has")
    has_norm = "layer_norm" in [each.strip() for each in (norms or "none").lower().split("|")]
    return Disentangled(buckets, distance, "c2p" in terms, "p2c" in terms, shared, has_norm)


def _write(config: ModelConfig) -> dict[str, Any]:
    kind = config.positions.disentangled
    n_terms = round(config.attention_scale(0) ** -2 / config.d_head) - 1
    flags = (kind.content_to_position, kind.position_to_content) if kind else (n_terms > 0, n_terms > 1)
    distances = {} if kind is None else {
        "max_relative_positions": kind.distance, "position_buckets": kind.buckets or -1, "share_att_key": kind.shared,
        "norm_rel_ebd": "layer_norm" if kind.norm else "none",
    }  # fmt: skip
    return {
        **write_config(config),
        "relative_attention": kind is not None,
        "pos_att_type": [term for term, has in zip(_TERMS, flags, strict=True) if has],
        "position_biased_input": config.positions.kind == "learned",
        "pooler_hidden_act": HF_ACTIVATIONS[config.head.pooler or "gelu"],
        "legacy": True,
        **distances,
    }


def _tensors(config: ModelConfig) -> list[TensorMap]:
    kind, maps = config.positions.disentangled, body(config, "deberta", _PARTS)
    if kind is not None:
        maps.append(same("deberta.encoder.rel_embeddings.weight", "distances.table.weight"))
        maps += with_bias(same, "deberta.encoder.LayerNorm", "distances.norm", True) if kind.norm else []
        has = {"pos_key_proj": kind.content_to_position, "pos_query_proj": kind.position_to_content}
        names = {} if kind.shared else {name: part for name, part in _OWN.items() if has[name]}
        for layer in range(config.n_layers):
            for name, part in names.items():
                theirs = f"deberta.encoder.layer.{layer}.attention.self.{name}"
                maps += with_bias(same, theirs, f"blocks.{layer}.attention.{part}", True)
    return [*maps, *heads_of_encoder(config, _HEADS, own_head("cls.predictions.decoder"))]


_PARTS = {
    **{f"attention.self.{part}_proj": f"attention.{part}" for part in ("query", "key", "value")},
    **{name: part for name, part in PARTS.items() if ".self." not in name},
}
_OWN = {"pos_key_proj": "position_key", "pos_query_proj": "position_query"}
_HEADS = {"classifier.dense": "pooler.dense", "classifier.output": "classifier",
          "transform": "cls.predictions.transform.dense", "transform_norm": "cls.predictions.transform.LayerNorm",
          "output_bias": "cls.predictions.bias"}  # fmt: skip
_NEWER = {f"cls.predictions.transform.{part}.{kind}": (f"lm_predictions.lm_head.{part}.{kind}",)
          for part in ("dense", "LayerNorm") for kind in ("weight", "bias")}  # fmt: skip
"""Names of the head that is called not legacy."""
_COPIES = {"deberta.embeddings.word_embeddings.weight": ("cls.predictions.decoder.weight",),
           "cls.predictions.bias": ("cls.predictions.decoder.bias", "lm_predictions.lm_head.bias"),
           "cls.predictions.decoder.bias": ("cls.predictions.bias",), **_NEWER}  # fmt: skip
_BUFFERS = re.compile(r"position_ids$|\.position_embeddings\.|^deberta\.encoder\.LayerNorm\.")
"""The latter two stand in files of models that do not use them."""
FAMILY = Family("deberta-v2", "DebertaV2ForMaskedLM", "deberta.", _read, _write, _tensors, _BUFFERS,
                "DebertaV2ForSequenceClassification", "DebertaV2Model", "cls.predictions.decoder.weight", _COPIES,
                head_prefixes=("lm_predictions.", "mask_predictions.", "pooler."))  # fmt: skip

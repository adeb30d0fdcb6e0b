"""Configurations as they were published, and the same made small: fewer layers and narrower, all else as it stands."""

from typing import Any

from .folders import VOCAB

_BERT: dict[str, Any] = {
    "attention_probs_dropout_prob": 0.1, "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "hidden_size": 768,
    "initializer_range": 0.02, "intermediate_size": 3072, "layer_norm_eps": 1e-12, "max_position_embeddings": 512,
    "num_attention_heads": 12, "num_hidden_layers": 12, "type_vocab_size": 2, "vocab_size": 30522,
}  # fmt: skip
_DEBERTA = _BERT | {
    "model_type": "deberta-v2", "max_relative_positions": -1, "position_buckets": 256, "norm_rel_ebd": "layer_norm",
    "share_att_key": True, "pos_att_type": "p2c|c2p", "layer_norm_eps": 1e-7, "relative_attention": True,
    "position_biased_input": False, "type_vocab_size": 0, "vocab_size": 128_100,
}  # fmt: skip
_ALBERT = _BERT | {
    "model_type": "albert", "architectures": ["AlbertForMaskedLM"], "attention_probs_dropout_prob": 0, "bos_token_id": 2,
    "classifier_dropout_prob": 0.1, "down_scale_factor": 1, "embedding_size": 128, "eos_token_id": 3, "gap_size": 0,
    "hidden_act": "gelu_new", "hidden_dropout_prob": 0, "inner_group_num": 1, "net_structure_type": 0, "num_hidden_groups": 1,
    "num_memory_blocks": 0, "pad_token_id": 0, "vocab_size": 30000,
}  # fmt: skip
_ELECTRA = _BERT | {
    "model_type": "electra", "embedding_size": 128, "hidden_size": 256, "intermediate_size": 1024, "num_attention_heads": 4,
    "summary_activation": "gelu", "summary_last_dropout": 0.1, "summary_type": "first", "summary_use_proj": True,
}  # fmt: skip
_UMT5: dict[str, Any] = {
    "model_type": "umt5", "architectures": ["UMT5ForConditionalGeneration"], "classifier_dropout": 0.0, "d_ff": 1024,
    "d_kv": 64, "d_model": 512, "decoder_start_token_id": 0, "dense_act_fn": "gelu_new", "dropout_rate": 0.1, "eos_token_id": 1,
    "feed_forward_proj": "gated-gelu", "initializer_factor": 1.0, "is_encoder_decoder": True, "is_gated_act": True,
    "layer_norm_epsilon": 1e-6, "num_decoder_layers": 8, "num_heads": 6, "num_layers": 8, "output_past": True,
    "pad_token_id": 0, "relative_attention_max_distance": 128, "relative_attention_num_buckets": 32, "scalable_attention": True,
    "tie_word_embeddings": False, "tokenizer_class": "T5Tokenizer", "use_cache": True, "vocab_size": 256_384,
}  # fmt: skip
_GEMMA: dict[str, Any] = {
    "model_type": "gemma", "architectures": ["GemmaForCausalLM"], "attention_bias": False, "attention_dropout": 0.0,
    "bos_token_id": 2, "eos_token_id": 1, "head_dim": 256, "hidden_act": "gelu", "hidden_activation": None, "hidden_size": 2048,
    "initializer_range": 0.02, "intermediate_size": 16_384, "max_position_embeddings": 8192, "num_attention_heads": 8,
    "num_hidden_layers": 18, "num_key_value_heads": 1, "pad_token_id": 0, "rms_norm_eps": 1e-6, "rope_scaling": None,
    "rope_theta": 10_000.0, "use_cache": True, "vocab_size": 256_000,
}  # fmt: skip
MORE: dict[str, dict[str, Any]] = {
    "electra-small-discriminator": _ELECTRA | {"architectures": ["ElectraForPreTraining"]},
    "electra-small-generator": _ELECTRA | {"architectures": ["ElectraForMaskedLM"]},
    "electra-base-discriminator": _ELECTRA | {"architectures": ["ElectraForPreTraining"], "embedding_size": 768,
                                              "hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12},
    "albert-base-v2": _ALBERT,
    "albert-xxlarge-v2": _ALBERT | {"hidden_size": 4096, "intermediate_size": 16_384, "layers_to_keep": [],
                                    "num_attention_heads": 64},
    "all-mpnet-base-v2": {**{name: each for name, each in _BERT.items() if name != "type_vocab_size"}, "model_type": "mpnet",
                          "architectures": ["MPNetForMaskedLM"], "bos_token_id": 0, "eos_token_id": 2, "layer_norm_eps": 1e-5,
                          "max_position_embeddings": 514, "pad_token_id": 1, "relative_attention_num_buckets": 32,
                          "vocab_size": 30527},
    "deberta-v3-small": _DEBERTA | {"num_hidden_layers": 6, "pad_token_id": 0, "pooler_dropout": 0, "pooler_hidden_act": "gelu",
                                    "pooler_hidden_size": 768},
    "mdeberta-v3-base": _DEBERTA | {"attention_head_size": 64, "pad_token_id": 0, "pooler_dropout": 0,
                                    "pooler_hidden_act": "gelu", "pooler_hidden_size": 768, "vocab_size": 251_000},
    "nomic-embed-text-v1.5": _BERT | {"model_type": "nomic_bert", "architectures": ["NomicBertModel"], "hidden_act": "silu",
                                      "attention_probs_dropout_prob": 0.0, "hidden_dropout_prob": 0.0, "vocab_size": 30528,
                                      "max_position_embeddings": 2048, "pad_token_id": 0,
                                      "rope_parameters": {"rope_theta": 1000.0, "rope_type": "default"}},
    "umt5-small": _UMT5,
    "phi-2": {
        "model_type": "phi", "architectures": ["PhiForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 50_256,
        "embd_pdrop": 0.0, "eos_token_id": 50_256, "hidden_act": "gelu_new", "hidden_size": 2560, "initializer_range": 0.02,
        "intermediate_size": 10_240, "layer_norm_eps": 1e-5, "max_position_embeddings": 2048, "num_attention_heads": 32,
        "num_hidden_layers": 32, "num_key_value_heads": 32, "partial_rotary_factor": 0.4, "qk_layernorm": False,
        "resid_pdrop": 0.1, "rope_scaling": None, "rope_theta": 10_000.0, "tie_word_embeddings": False, "vocab_size": 51_200,
    },
    "camembert-base": _BERT | {"model_type": "camembert", "architectures": ["CamembertForMaskedLM"], "bos_token_id": 5,
                               "eos_token_id": 6, "layer_norm_eps": 1e-5, "max_position_embeddings": 514, "output_past": True,
                               "pad_token_id": 1, "type_vocab_size": 1, "vocab_size": 32_005},
    "gemma-2b": _GEMMA,
    "gemma-7b": _GEMMA | {"hidden_size": 3072, "intermediate_size": 24_576, "num_attention_heads": 16, "num_hidden_layers": 28,
                          "num_key_value_heads": 16},
}  # fmt: skip
"""Of families that the shared folder has none of."""

_HEADS = ("num_attention_heads", "n_head", "n_heads", "num_heads", "encoder_attention_heads", "decoder_attention_heads")
_WIDTHS = ("hidden_size", "d_model", "n_embd", "dim", "pooler_hidden_size")
_HIDDEN = ("intermediate_size", "d_ff", "n_inner", "hidden_dim", "encoder_ffn_dim", "decoder_ffn_dim")
_LAYERS = (
    "num_hidden_layers",
    "n_layer",
    "n_layers",
    "num_layers",
    "num_decoder_layers",
    "encoder_layers",
    "decoder_layers",
)
_D_HEAD = 8


def reduced(raw: dict[str, Any]) -> dict[str, Any]:
    """The same configuration with at most 3 layers and heads of 8 numbers."""
    heads = next(raw[name] for name in _HEADS if name in raw)
    kv_heads = raw.get("num_key_value_heads") or heads
    width = next(raw[name] for name in _WIDTHS if name in raw)
    few = min(2, kv_heads)
    small = few * (heads // kv_heads) if kv_heads < heads else 2
    is_own = any(raw.get(name) not in (None, width // heads) for name in ("head_dim", "d_kv"))
    made = dict(raw)
    for name, value in raw.items():
        if value is None:
            continue
        if name in _HEADS:
            made[name] = small
        elif name in _WIDTHS:
            made[name] = small * _D_HEAD + (4 if is_own else 0)
        elif name == "embedding_size":
            made[name] = small * _D_HEAD if value == width else 12
        elif name in _HIDDEN:
            made[name] = 20
        elif name in _LAYERS:
            made[name] = min(value, 3)
        elif name in ("head_dim", "d_kv", "attention_head_size"):
            made[name] = _D_HEAD
        elif name in ("vocab_size", "decoder_vocab_size"):
            made[name] = VOCAB
        elif name == "num_key_value_heads":
            made[name] = few
        elif name == "partial_rotary_factor":
            made[name] = 0.5
        elif name == "sliding_window":
            made[name] = 5
        elif name.endswith("token_id"):
            made[name] = [each % VOCAB for each in value] if isinstance(value, list) else value % VOCAB
    return made

"""The architectures of llama.cpp that are one of our families, and how they differ from each other.

A row says which fields of config.json a file's fields are, in which order tensors keep what they keep, and what llama.cpp
takes for granted. Sources: llama.cpp's src/models/*.cpp (what is computed) and conversion/*.py (what is written).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_SIZES = {
    "hidden_size": "embedding_length", "num_hidden_layers": "block_count", "intermediate_size": "feed_forward_length",
    "num_attention_heads": "attention.head_count", "num_key_value_heads": "attention.head_count_kv",
    "max_position_embeddings": "context_length", "rope_theta": "rope.freq_base",
}  # fmt: skip
_RMS = _SIZES | {"rms_norm_eps": "attention.layer_norm_rms_epsilon"}
_MEAN = "attention.layer_norm_epsilon"
PRE_NORMS = {"attn_norm": "attention_norm", "ffn_norm": "mlp_norm"}
_ALL_NORMS = PRE_NORMS | {"post_attention_norm": "attention_out_norm", "post_ffw_norm": "mlp_out_norm"}
_EXPERTS = {"num_experts": "expert_count", "num_experts_per_tok": "expert_used_count"}
_ATTENTION_BIAS = {"attention_bias": "attn_q.bias"}
_GEMMA = {"query_pre_attn_scalar": "", "final_logit_softcapping": "final_logit_softcapping"}


@dataclass(frozen=True)
class Architecture:
    """One architecture of llama.cpp."""

    name: str
    """`general.architecture`."""
    family: str
    """The family that it is read as."""
    names: Mapping[str, str]
    """Fields of the family's config.json and of the file."""
    biases: Mapping[str, str] = field(default_factory=dict)
    """Fields that are true where the first block has a tensor of this name."""
    given: Mapping[str, Any] = field(default_factory=dict)
    """Fields of config.json whose values llama.cpp takes for granted."""
    norms: Mapping[str, str] = field(default_factory=lambda: PRE_NORMS)
    """Names of a block's norms, and ours."""
    is_paired: bool = False
    """Queries and keys rotate dimensions (0, 1), (2, 3), ... instead of (0, r/2), (1, r/2 + 1), ..."""
    joins_attention: bool = False
    """Queries, keys and values stand one below the other in one matrix."""
    joins_gate: bool = False
    """So do gate and up."""
    part: str | None = None
    """The field of the part of a head that is rotated; None: all of it."""
    needs_output: bool = False
    """llama.cpp does not take the embedding for an output matrix that is not there."""
    scales_frequencies: bool = False
    """llama.cpp reads factors of the frequencies (Llama 3, LongRoPE) from tensors."""
    interval: int | None = None
    """Every so many layers, one sees all and the others a window; None: llama.cpp computes no window."""
    reads_window: bool = False
    """Files may speak of a window that llama.cpp does not compute."""
    has_local_rope: bool = False
    """Layers with a window have rotary positions of their own."""
    caps: Mapping[str, float] = field(default_factory=dict)
    """What llama.cpp takes for a bound of scores or logits where the file does not say one."""
    groups_queries: bool = True
    """llama.cpp takes fewer heads of keys than of queries."""
    is_pair: bool = False
    """An encoder and a decoder: blocks of both, biases by distance in the place of positions."""
    wide_layers: int | None = None
    """A model of so many layers divides scores by sqrt(d_model / n_heads) (Gemma's 27B)."""

    def raw_windows(self, window: int | None, pattern: list[bool] | int | None, n_layers: int) -> dict[str, Any]:
        """The fields of config.json about windows.

        Args:
            pattern: which layers have one, or the interval of those that do not.
        """
        if self.interval is None or not window:
            kinds = {"layer_types": ["full_attention"] * n_layers} if self.interval else {}
            return {**kinds, **({"sliding_window": window} if window else {})}
        if isinstance(pattern, list):
            has = pattern
        else:
            interval = pattern if pattern is not None else self.interval
            has = [interval == 0 or layer % interval < interval - 1 for layer in range(n_layers)]
        kinds = ["sliding_attention" if each else "full_attention" for each in has]
        return {"sliding_window": window, "layer_types": kinds}


_ROWS = (
    Architecture("llama", "llama", _RMS, {**_ATTENTION_BIAS, "mlp_bias": "ffn_up.bias"}, is_paired=True,
                 scales_frequencies=True, reads_window=True),
    Architecture("qwen2", "qwen2", _RMS),
    Architecture("qwen3", "qwen3", _RMS, _ATTENTION_BIAS),
    Architecture("qwen3moe", "qwen3_moe", _RMS | _EXPERTS | {"moe_intermediate_size": "expert_feed_forward_length"},
                 _ATTENTION_BIAS, given={"norm_topk_prob": True}),
    Architecture("olmoe", "olmoe", _RMS | _EXPERTS, _ATTENTION_BIAS, given={"norm_topk_prob": False}, needs_output=True,
                 groups_queries=False),
    Architecture("gpt-oss", "gpt_oss", _RMS | _EXPERTS, _ATTENTION_BIAS, needs_output=True, interval=2,
                 norms={"attn_norm": "attention_norm", "post_attention_norm": "mlp_norm"}),
    Architecture("phi3", "phi3", _RMS, joins_attention=True, joins_gate=True, part="partial_rotary_factor",
                 scales_frequencies=True, reads_window=True),
    Architecture("smollm3", "smollm3", _RMS, {**_ATTENTION_BIAS, "mlp_bias": "ffn_up.bias"}, is_paired=True),
    Architecture("granite", "granite", _RMS | {
                     "embedding_multiplier": "embedding_scale", "residual_multiplier": "residual_scale",
                     "attention_multiplier": "attention.scale", "logits_scaling": "logit_scale"},
                 {**_ATTENTION_BIAS, "mlp_bias": "ffn_up.bias"}, is_paired=True, scales_frequencies=True),
    Architecture("olmo2", "olmo2", _RMS, _ATTENTION_BIAS, needs_output=True, interval=4,
                 norms={"post_attention_norm": "attention_out_norm", "post_ffw_norm": "mlp_out_norm"}),
    Architecture("starcoder2", "starcoder2", _SIZES | {"norm_epsilon": _MEAN}, {"use_bias": "attn_q.bias"}),
    Architecture("stablelm", "stablelm", _SIZES | {
                     "layer_norm_eps": _MEAN, "use_parallel_residual": "use_parallel_residual"},
                 {"use_qkv_bias": "attn_q.bias"}, part="partial_rotary_factor", needs_output=True),
    Architecture("glm4", "glm4", _RMS, _ATTENTION_BIAS, norms=_ALL_NORMS, is_paired=True, joins_gate=True,
                 part="partial_rotary_factor"),
    Architecture("cohere2", "cohere2", _SIZES | {"layer_norm_eps": _MEAN, "logit_scale": "logit_scale"}, _ATTENTION_BIAS,
                 is_paired=True, interval=4),
    Architecture("gemma", "gemma", _RMS),
    Architecture("gemma2", "gemma2", _RMS | _GEMMA | {"attn_logit_softcapping": "attn_logit_softcapping"},
                 norms=_ALL_NORMS, interval=2, wide_layers=46,
                 caps={"attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0}),
    Architecture("gemma3", "gemma3_text", _RMS | _GEMMA, norms=_ALL_NORMS, interval=6, wide_layers=62, has_local_rope=True),
    Architecture("gpt2", "gpt2", {
                     "n_embd": "embedding_length", "n_layer": "block_count", "n_head": "attention.head_count",
                     "n_inner": "feed_forward_length", "n_positions": "context_length", "layer_norm_epsilon": _MEAN},
                 joins_attention=True),
    Architecture("gptneox", "gpt_neox", {
                     "hidden_size": "embedding_length", "num_hidden_layers": "block_count",
                     "intermediate_size": "feed_forward_length", "num_attention_heads": "attention.head_count",
                     "max_position_embeddings": "context_length", "rotary_emb_base": "rope.freq_base",
                     "layer_norm_eps": _MEAN, "use_parallel_residual": "use_parallel_residual"},
                 joins_attention=True, part="rotary_pct", needs_output=True),
    Architecture("bloom", "bloom", {
                     "hidden_size": "embedding_length", "n_layer": "block_count", "n_head": "attention.head_count",
                     "seq_length": "context_length", "layer_norm_epsilon": _MEAN}, joins_attention=True),
    Architecture("falcon", "falcon", {
                     "hidden_size": "embedding_length", "num_hidden_layers": "block_count",
                     "ffn_hidden_size": "feed_forward_length", "num_attention_heads": "attention.head_count",
                     "num_kv_heads": "attention.head_count_kv", "max_position_embeddings": "context_length",
                     "rope_theta": "rope.freq_base", "layer_norm_epsilon": _MEAN}, joins_attention=True),
    Architecture("bert", "bert", {
                     "hidden_size": "embedding_length", "num_hidden_layers": "block_count",
                     "intermediate_size": "feed_forward_length", "num_attention_heads": "attention.head_count",
                     "max_position_embeddings": "context_length", "layer_norm_eps": _MEAN},
                 given={"architectures": ["BertModel"]},
                 norms={"attn_output_norm": "attention_norm", "layer_output_norm": "mlp_norm"}),
    Architecture("nomic-bert", "nomic_bert", {
                     "hidden_size": "embedding_length", "num_hidden_layers": "block_count",
                     "intermediate_size": "feed_forward_length", "num_attention_heads": "attention.head_count",
                     "max_position_embeddings": "context_length", "layer_norm_eps": _MEAN, "rope_theta": "rope.freq_base"},
                 given={"architectures": ["NomicBertModel"]}, joins_attention=True,
                 norms={"attn_output_norm": "attention_norm", "layer_output_norm": "mlp_norm"}),
    Architecture("t5", "t5", {
                     "d_model": "embedding_length", "num_layers": "block_count", "num_decoder_layers": "decoder_block_count",
                     "d_ff": "feed_forward_length", "num_heads": "attention.head_count", "d_kv": "attention.key_length",
                     "relative_attention_num_buckets": "attention.relative_buckets_count",
                     "layer_norm_epsilon": "attention.layer_norm_rms_epsilon",
                     "decoder_start_token_id": "decoder_start_token_id"}, is_pair=True),
)  # fmt: skip
ARCHITECTURES = {row.name: row for row in _ROWS}
"""Architectures by their names in files."""
OF_FAMILY = {row.family: row.name for row in _ROWS} | {
    "mistral": "llama", "mixtral": "llama", "olmo3": "olmo2", "mt5": "t5", "umt5": "t5"}  # fmt: skip
"""The architecture that a family is written as."""

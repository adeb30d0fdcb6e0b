"""What the Llama-like families allow in config.json beside what all of them have: one row each."""

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

Draw = Callable[[Any], Any]
_WINDOWS = st.sampled_from([None, 3, 7])
_NUMBERS = st.sampled_from([0.25, 0.5, 1.0, 3.0])
_CAPS = st.sampled_from([None, 1.0, 5.0])


def _kinds(draw: Draw, n_layers: int) -> list[str]:
    kinds = st.sampled_from(["sliding_attention", "full_attention"])
    return draw(st.lists(kinds, min_size=n_layers, max_size=n_layers))


def _by_kind(draw: Draw, rope: dict[str, Any]) -> dict[str, Any]:
    local = draw(st.sampled_from([{"rope_type": "default"}, {"rope_type": "linear", "factor": 2.0}]))
    rope = rope if rope["rope_type"] not in ("dynamic", "longrope") else {"rope_type": "default", "rope_theta": 1e6}
    return {"full_attention": rope, "sliding_attention": {"rope_theta": 100.0, **local}}


def _bias(draw: Draw) -> dict[str, Any]:
    return {"attention_bias": draw(st.booleans())}


def _experts(draw: Draw, count: str) -> dict[str, Any]:
    n_experts = draw(st.sampled_from([2, 4, 7]))
    return {count: n_experts, "num_experts_per_tok": draw(st.integers(1, min(3, n_experts)))}


def _gemma(draw: Draw, n_layers: int) -> dict[str, Any]:
    return {"query_pre_attn_scalar": draw(st.sampled_from([4, 8, 12, 100])), "sliding_window": draw(st.integers(1, 7)),
            "layer_types": draw(st.sampled_from([None, _kinds(draw, n_layers)])), **_bias(draw),
            "attn_logit_softcapping": draw(_CAPS), "final_logit_softcapping": draw(_CAPS)}  # fmt: skip


def _part_of(rope: dict[str, Any], part: float, d_head: int) -> dict[str, Any]:
    """Rotary positions of a part of a head."""
    part = 1.0 if d_head <= 4 else part  # a single pair has no dynamic form
    pairs = int(d_head * part) // 2
    cut = {name: rope[name][:pairs] for name in ("short_factor", "long_factor") if name in rope}
    return rope | cut | {"partial_rotary_factor": part}


def llama_like(draw: Draw, family: str, n_layers: int, d_head: int, rope: dict[str, Any]) -> dict[str, Any]:
    """Fields of a family's own.

    Args:
        rope: rotary positions of a kind that was drawn.
    """
    match family:
        case "phi":
            return {"rope_parameters": _part_of(rope, draw(st.sampled_from([0.5, 1.0])), d_head)}
        case "phi3":
            if rope["rope_type"] not in ("default", "longrope"):
                rope = {"rope_type": "default", "rope_theta": rope["rope_theta"]}
            rope = _part_of(rope, draw(st.sampled_from([0.5, 1.0])), d_head)
            return {"rope_parameters": rope, "sliding_window": draw(_WINDOWS), "original_max_position_embeddings": 8}
        case "smollm3":
            rotated = draw(st.sampled_from([None, [0] * n_layers, [1] * n_layers, [0, 1, 1][:n_layers]]))
            return {"rope_parameters": rope, "no_rope_layers": rotated, "no_rope_layer_interval": draw(st.integers(1, 4)),
                    "use_sliding_window": draw(st.booleans()), "sliding_window": draw(_WINDOWS),
                    "mlp_bias": draw(st.booleans()), **_bias(draw)}  # fmt: skip
        case "mixtral":
            return {"rope_parameters": rope, "sliding_window": draw(_WINDOWS), **_experts(draw, "num_local_experts")}
        case "qwen3_moe":
            return {"rope_parameters": rope, "moe_intermediate_size": draw(st.sampled_from([12, 20])), **_bias(draw),
                    "use_sliding_window": draw(st.booleans()), "sliding_window": draw(_WINDOWS),
                    "norm_topk_prob": draw(st.booleans()), "decoder_sparse_step": draw(st.sampled_from([1, 1, 2])),
                    "mlp_only_layers": draw(st.sampled_from([None, [0]])), **_experts(draw, "num_experts")}  # fmt: skip
        case "olmoe":
            return {"rope_parameters": rope, "norm_topk_prob": draw(st.booleans()), **_bias(draw),
                    **_experts(draw, "num_experts")}  # fmt: skip
        case "gpt_oss":
            return {"rope_parameters": rope, "sliding_window": draw(st.integers(1, 7)), **_bias(draw),
                    "layer_types": draw(st.sampled_from([None, _kinds(draw, n_layers)])),
                    "swiglu_limit": draw(st.sampled_from([0.5, 7.0])), "swiglu_alpha": draw(st.sampled_from([1.0, 1.702])),
                    **_experts(draw, "num_local_experts")}  # fmt: skip
        case "granite":
            multipliers = ("embedding_multiplier", "attention_multiplier", "residual_multiplier", "logits_scaling")
            return {"rope_parameters": rope, "mlp_bias": draw(st.booleans()), **_bias(draw),
                    **{name: draw(_NUMBERS) for name in multipliers}}  # fmt: skip
        case "olmo2":
            return {"rope_parameters": rope, **_bias(draw)}
        case "olmo3":
            return {"rope_parameters": _by_kind(draw, rope), "sliding_window": draw(st.integers(1, 7)),
                    "layer_types": draw(st.sampled_from([None, _kinds(draw, n_layers)])), **_bias(draw)}  # fmt: skip
        case "starcoder2":
            return {"rope_parameters": rope, "sliding_window": draw(_WINDOWS), "use_bias": draw(st.booleans()),
                    "norm_epsilon": 1e-3}  # fmt: skip
        case "stablelm":
            return {"rope_parameters": _part_of(rope, draw(st.sampled_from([0.5, 1.0])), d_head),
                    "use_qkv_bias": draw(st.booleans()), "use_parallel_residual": draw(st.booleans())}  # fmt: skip
        case "glm4":
            return {"rope_parameters": _part_of(rope, draw(st.sampled_from([0.5, 1.0])), d_head), **_bias(draw)}
        case "cohere2":
            return {"rope_parameters": rope, "logit_scale": draw(_NUMBERS), "sliding_window": draw(st.integers(1, 7)),
                    "layer_types": draw(st.sampled_from([None, _kinds(draw, n_layers)])), **_bias(draw)}  # fmt: skip
        case "gemma":
            return {"rope_parameters": rope, **_bias(draw)}
        case "gemma2":
            return {"rope_parameters": rope, **_gemma(draw, n_layers)}
        case "gemma3_text":
            return {"rope_parameters": _by_kind(draw, rope), **_gemma(draw, n_layers)}
        case _:
            raise AssertionError(f"{family} has no row here")


def of_other_shape(
    draw: Draw, family: str, n_layers: int, n_heads: int, rope: dict[str, Any], activation: str
) -> dict[str, Any]:
    """All fields of families that call them otherwise; heads are 8 wide."""
    eps = draw(st.sampled_from([1e-5, 1e-3]))
    match family:
        case "opt":
            return {"hidden_size": 8 * n_heads, "num_hidden_layers": n_layers, "num_attention_heads": n_heads, "ffn_dim": 20,
                    "max_position_embeddings": 16, "word_embed_proj_dim": 8 * n_heads, "activation_function": activation,
                    "do_layer_norm_before": draw(st.booleans())}  # fmt: skip
        case "gptj":
            return {"n_embd": 8 * n_heads, "n_layer": n_layers, "n_head": n_heads, "n_positions": 16, "layer_norm_epsilon": eps,
                    "n_inner": draw(st.sampled_from([None, 20])), "rotary_dim": draw(st.sampled_from([2, 4, 8])),
                    "activation_function": activation}  # fmt: skip
        case "bloom":
            return {"hidden_size": 8 * n_heads, "n_layer": n_layers, "n_head": n_heads, "layer_norm_epsilon": eps}
        case "falcon":
            new = draw(st.booleans())
            few = draw(st.booleans())
            norms = draw(st.sampled_from([None, 1, 2])) if new else None
            return {"hidden_size": 8 * n_heads, "num_hidden_layers": n_layers, "num_attention_heads": n_heads,
                    "ffn_hidden_size": draw(st.sampled_from([None, 20])), "max_position_embeddings": 16,
                    "rope_parameters": rope, "new_decoder_architecture": new, "num_ln_in_parallel_attn": norms,
                    "num_kv_heads": draw(st.sampled_from([1, 2, n_heads])) if new or few else n_heads, "multi_query": few,
                    "parallel_attn": True if new else draw(st.booleans()), "bias": draw(st.booleans()),
                    "activation": activation, "layer_norm_epsilon": eps}  # fmt: skip
        case _:
            raise AssertionError(f"{family} has no row here")

"""How a GGUF file writes rotary positions: some figures as fields, factors of the frequencies as tensors."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from wenloom.checkpoint.gguf.architectures import Architecture
from wenloom.checkpoint.gguf.fields import GgufFields
from wenloom.model.config import ModelConfig
from wenloom.model.parts import Rope

LLAMA_3, SHORT, LONG = "rope_freqs.weight", "rope_factors_short.weight", "rope_factors_long.weight"
FACTORS = (LLAMA_3, SHORT, LONG)
"""Tensors that hold a factor for each frequency."""


def read_scaling(
    fields: GgufFields, row: Architecture, factors: Callable[[str], np.ndarray | None], length: int, theta: float
) -> dict[str, Any] | None:
    """The field rope_scaling of config.json; None where nothing is stretched.

    Args:
        factors: the numbers of a tensor of `FACTORS`, None where there is none.
        length: of the context.

    Raises:
        CheckpointError: positions are stretched in a way that is not known.
    """
    kind = fields.text("rope.scaling.type", "none")
    factor = fields.number("rope.scaling.factor", 0.0) or fields.number("rope.scale_linear", 0.0) or 1.0
    original = fields.integer("rope.scaling.original_context_length", 0)
    attention = fields.number("rope.scaling.attn_factor", 1.0)
    fields.value("rope.scaling.finetuned")
    if kind not in ("none", "linear", "yarn", "longrope"):
        raise fields.refuse("rope.scaling.type", f"{kind!r:.40} is not known (known: none, linear, yarn, longrope)")
    short, far, llama_3 = (factors(name) if row.scales_frequencies else None for name in (SHORT, LONG, LLAMA_3))
    if (kind == "longrope" or short is not None or far is not None) and (short is None or far is None):
        raise fields.refuse("rope.scaling.type", f"longrope needs the tensors {SHORT} and {LONG}")
    if short is not None and far is not None:
        usual = _usual_attention(length, original or length)
        return {"rope_type": "longrope", "short_factor": _listed(short), "long_factor": _listed(far),
                "original_max_position_embeddings": original or length,
                "attention_factor": None if math.isclose(attention, usual, rel_tol=1e-5) else attention}  # fmt: skip
    if llama_3 is not None:
        return _llama_3(llama_3, theta, length)
    if kind == "yarn":
        usual = 1 + 0.1 * math.log(max(1.0, factor))
        return {"rope_type": "yarn", "factor": factor, "original_max_position_embeddings": original or length,
                "attention_factor": None if math.isclose(attention, 1.0, rel_tol=1e-5) else attention * usual}  # fmt: skip
    if factor == 1.0:
        return None
    return {
        "rope_type": "linear",
        "factor": factor,
        "original_max_position_embeddings": original or max(2, int(length / factor)),
    }


def _usual_attention(length: int, original: int) -> float:
    """LongRoPE's (Ding et al. 2024) factor of the rotated vectors, where a model does not say another."""
    stretch = length / original
    return math.sqrt(1 + math.log(stretch) / math.log(original)) if stretch > 1 and original > 1 else 1.0


def _listed(factors: np.ndarray) -> list[float]:
    return [float(str(each)) for each in factors.astype(np.float32)]


def llama_3_factors(rope: Rope, theta: float) -> np.ndarray:
    """By what Llama 3 divides each frequency, of shape (d_rotary / 2,); see `wenloom.model.position`."""
    assert rope.factor and rope.low_freq_factor and rope.high_freq_factor and rope.original_context_length
    turns = rope.original_context_length * _frequencies(theta, rope.d_rotary // 2) / (2 * math.pi)
    smooth = np.clip((turns - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor), 0.0, 1.0)
    return (1 / ((1 - smooth) / rope.factor + smooth)).astype(np.float32)


def _frequencies(theta: float, count: int) -> np.ndarray:
    return theta ** (-np.arange(count, dtype=np.float64) / count)


def _llama_3(factors: np.ndarray, theta: float, length: int) -> dict[str, Any]:
    """What Llama 3's factors were made of, or the same factors for short and long texts alike.

    Between the frequencies that are kept (factor 1) and those that are divided, 1/factor is a line over the number of
    turns in the original context; two points of it give the line. Original context and both bounds may be multiplied by
    one number, so the lower bound is 1, as in every published model.
    """
    n, inverse = len(factors), 1 / factors.astype(np.float64)
    most = float(factors.max())
    between = np.flatnonzero((factors > 1 + 1e-5) & (factors < most * (1 - 1e-5)))
    if most > 1 and len(between) >= 2:
        share = (inverse[between] - 1 / most) / (1 - 1 / most)
        cycles = _frequencies(theta, n)[between] / (2 * math.pi)
        slope, start = np.polyfit(cycles, share, 1)
        high = 1 - 1 / start
        found = {"factor": _rounded(most), "low_freq_factor": 1.0, "high_freq_factor": _rounded(high),
                 "original_max_position_embeddings": max(2, min(length, round(slope * (high - 1))))}  # fmt: skip
        rope = Rope(2 * n, theta, "llama3", found["factor"], found["original_max_position_embeddings"],
                    low_freq_factor=1.0, high_freq_factor=found["high_freq_factor"])  # fmt: skip
        if found["high_freq_factor"] > 1 and np.allclose(llama_3_factors(rope, theta), factors, rtol=1e-4):
            return {"rope_type": "llama3", **found}
    return {"rope_type": "longrope", "short_factor": _listed(factors), "long_factor": _listed(factors),
            "original_max_position_embeddings": length, "attention_factor": 1.0}  # fmt: skip


def _rounded(value: float) -> float:
    """The whole number that is meant, where one is near."""
    return float(round(value)) if abs(value - round(value)) < 1e-3 * abs(value) else float(value)


def write_scaling(config: ModelConfig, row: Architecture) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Fields and tensors that say how positions are stretched, as far as llama.cpp has a word for it."""
    rope = config.positions.rope
    if rope is None:
        return {}, {}
    made: dict[str, Any] = {"rope.freq_base": rope.theta}
    if row.has_local_rope or config.family == "olmo3":
        made["rope.freq_base_swa"] = (config.positions.local_rope or rope).theta
    original = rope.original_context_length or config.context_length
    if rope.kind == "linear":
        made |= {"rope.scaling.type": "linear", "rope.scaling.factor": rope.factor,
                 "rope.scaling.original_context_length": original}  # fmt: skip
    if rope.kind == "yarn":
        factor = rope.factor or config.context_length / original
        made |= {"rope.scaling.type": "yarn", "rope.scaling.factor": factor,
                 "rope.scaling.original_context_length": original}  # fmt: skip
        if rope.attention_factor is not None:
            made["rope.scaling.attn_factor"] = rope.attention_factor / (1 + 0.1 * math.log(max(1.0, factor)))
    if row.scales_frequencies and rope.kind == "llama3":
        return made, {LLAMA_3: llama_3_factors(rope, rope.theta)}
    if row.scales_frequencies and rope.kind == "longrope":
        attention = rope.attention_factor or _usual_attention(config.context_length, original)
        made |= {"rope.scaling.type": "longrope", "rope.scaling.original_context_length": original,
                 "rope.scaling.attn_factor": float(attention)}  # fmt: skip
        return made, {
            name: np.array(each, np.float32) for name, each in ((SHORT, rope.short_factor), (LONG, rope.long_factor))
        }
    return made, {}

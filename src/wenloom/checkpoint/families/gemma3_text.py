"""Gemma 3 (Gemma Team 2025): Gemma 2 without bounds, with normalised queries and keys, and other positions in window layers."""

from typing import Any

from wenloom.checkpoint.families.base import Family
from wenloom.checkpoint.families.fields import ConfigFields
from wenloom.checkpoint.families.gemma2 import gemma_tensors, read_gemma, write_gemma
from wenloom.checkpoint.families.llama import BUFFERS, COPIES
from wenloom.checkpoint.families.rope import read_ropes, write_ropes
from wenloom.model.config import ModelConfig


def _read(fields: ConfigFields) -> ModelConfig:
    d_head, interval = fields.size("head_dim", "d_head", 256), fields.integer("sliding_window_pattern", 6)
    fields.understood("_sliding_window_pattern")
    if fields.raw("attn_logit_softcapping") is not None:  # transformers leaves scores of this family as they are
        fields.ignore("attn_logit_softcapping")
    rope, local_rope, length = read_ropes(fields, d_head, 131_072, 1_000_000.0, 10_000.0, "rope_local_base_freq")
    return read_gemma(
        fields,
        "gemma3_text",
        interval,
        None,
        context_length=length,
        positions={"rope": rope, "local_rope": local_rope},
        attention={"qk_norm": True},
    )


def _write(config: ModelConfig) -> dict[str, Any]:
    return {**write_gemma(config), **write_ropes(config)}


def _renamed(name: str) -> str | None:
    """The name of a tensor of Gemma 3 with a part that sees pictures, as files before and since transformers 5 have it."""
    if name.removeprefix("model.").startswith(("vision_tower.", "multi_modal_projector.")):
        return None
    for theirs, ours in (("model.language_model.", "model."), ("language_model.", "")):
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    return name


_CLASSIFIER = "Gemma3TextForSequenceClassification"
FAMILY = Family(
    "gemma3_text", "Gemma3ForCausalLM", "model.", _read, _write, gemma_tensors, BUFFERS, _CLASSIFIER, copies=COPIES,
    renamed=_renamed,
)  # fmt: skip

"""Gemma 3 with a part that sees pictures: its text part is read, as `gemma3_text`, and the other left out."""

from typing import Any

from wenloom.checkpoint.families.base import Family
from wenloom.checkpoint.families.fields import ConfigFields
from wenloom.checkpoint.families.gemma3_text import FAMILY as TEXT
from wenloom.model.config import ModelConfig

_DEFAULTS: dict[str, Any] = {"vocab_size": 262_208, "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26,
                             "num_attention_heads": 8}  # fmt: skip
_OF_BOTH = ("architectures", "id2label", "num_labels", "problem_type", "bos_token_id", "eos_token_id", "pad_token_id")


def _read(fields: ConfigFields) -> ModelConfig:
    fields.understood("vision_config", "mm_tokens_per_image", "image_token_index", "image_token_id", "boi_token_index",
                      "boi_token_id", "eoi_token_index", "eoi_token_id")  # fmt: skip
    outer = {name: fields.raw(name) for name in _OF_BOTH if fields.raw(name) is not None}
    tied = {"tie_word_embeddings": fields.flag("tie_word_embeddings", True), "model_type": TEXT.name}
    text = fields.inner("text_config", _DEFAULTS, outer | tied)
    config = TEXT.read_config(text)
    fields.finish()
    fields.ignored += text.ignored
    return config


FAMILY = Family("gemma3", "Gemma3ForConditionalGeneration", TEXT.base_prefix, _read, TEXT.write_config, TEXT.tensors,
                TEXT.buffers, TEXT.classifier, copies=TEXT.copies)  # fmt: skip

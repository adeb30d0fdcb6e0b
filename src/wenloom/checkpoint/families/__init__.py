"""The Hugging Face families that Wenloom reads and writes, one small file each."""

from wenloom.checkpoint.families import (
    bart,
    bert,
    distilbert,
    gpt2,
    gpt_neo,
    gpt_neox,
    llama,
    marian,
    mistral,
    qwen2,
    qwen3,
    roberta,
    t5,
)
from wenloom.checkpoint.families.base import Family

_MODULES = (llama, mistral, qwen2, qwen3, gpt2, gpt_neo, gpt_neox, bert, roberta, distilbert, marian, bart, t5)
FAMILIES: dict[str, Family] = {module.FAMILY.name: module.FAMILY for module in _MODULES}
"""Families by their `model_type`."""

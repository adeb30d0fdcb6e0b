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
from wenloom.core.plugins import Registry

_MODULES = (llama, mistral, qwen2, qwen3, gpt2, gpt_neo, gpt_neox, bert, roberta, distilbert, marian, bart, t5)
FAMILIES: Registry[Family] = Registry(
    "wenloom.families",
    {module.FAMILY.name: module.FAMILY for module in _MODULES},
    lambda thing: isinstance(thing, Family),
)
"""Families by their `model_type`."""

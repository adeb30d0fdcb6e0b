"""The Hugging Face families that Wordloom reads and writes, one small file each."""

from wordloom.checkpoint.families import gpt2, gpt_neox, llama, mistral, qwen2, qwen3
from wordloom.checkpoint.families.base import Family

FAMILIES: dict[str, Family] = {
    module.FAMILY.name: module.FAMILY for module in (llama, mistral, qwen2, qwen3, gpt2, gpt_neox)
}
"""Families by their `model_type`."""

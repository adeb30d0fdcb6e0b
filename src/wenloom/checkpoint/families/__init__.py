"""The Hugging Face families that Wenloom reads and writes, one small file each."""

from wenloom.checkpoint.families import (
    bart,
    bert,
    bloom,
    cohere2,
    distilbert,
    falcon,
    gemma2,
    gemma3_text,
    glm4,
    gpt2,
    gpt_neo,
    gpt_neox,
    gptj,
    granite,
    llama,
    m2m_100,
    marian,
    mbart,
    mistral,
    mt5,
    olmo2,
    olmo3,
    opt,
    pegasus,
    phi3,
    qwen2,
    qwen3,
    roberta,
    smollm3,
    stablelm,
    starcoder2,
    t5,
    xlm_roberta,
)
from wenloom.checkpoint.families.base import Family
from wenloom.core.plugins import Registry

_MODULES = (
    llama,
    mistral,
    qwen2,
    qwen3,
    phi3,
    smollm3,
    granite,
    olmo2,
    olmo3,
    starcoder2,
    stablelm,
    glm4,
    cohere2,
    gemma2,
    gemma3_text,
    gpt2,
    gpt_neo,
    gpt_neox,
    opt,
    gptj,
    bloom,
    falcon,
    bert,
    roberta,
    xlm_roberta,
    distilbert,
    marian,
    bart,
    mbart,
    m2m_100,
    pegasus,
    t5,
    mt5,
)
FAMILIES: Registry[Family] = Registry(
    "wenloom.families",
    {module.FAMILY.name: module.FAMILY for module in _MODULES},
    lambda thing: isinstance(thing, Family),
)
"""Families by their `model_type`."""

_RECURRENT = "its layers keep a recurrent state, where Wenloom keeps keys and values of every token"
_COMPRESSED = "it keeps keys and values compressed (multi-head latent attention), which Wenloom does not compute"
DECLINED = {
    **dict.fromkeys(("mamba", "mamba2", "falcon_mamba", "jamba", "bamba", "zamba", "zamba2", "nemotron_h", "granitemoehybrid",
                     "falcon_h1", "recurrent_gemma", "rwkv", "qwen3_next", "lfm2", "xlstm"), _RECURRENT),
    **dict.fromkeys(("deepseek_v2", "deepseek_v3", "kimi_k2", "minicpm3", "longcat_flash", "glm_moe_dsa"), _COMPRESSED),
}  # fmt: skip
"""Families that are not read, and why."""

"""GGUF files by the package gguf: its writer, its names of tensors, and the changes of llama.cpp's converters."""

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
import transformers
from torch import Tensor

from .folders import VOCAB

ARCHITECTURES = {
    "llama": "llama", "mistral": "llama", "qwen2": "qwen2", "qwen3": "qwen3", "phi3": "phi3", "smollm3": "smollm3",
    "granite": "granite", "olmo2": "olmo2", "olmo3": "olmo2", "starcoder2": "starcoder2", "stablelm": "stablelm",
    "glm4": "glm4", "cohere2": "cohere2", "gemma2": "gemma2", "gemma3_text": "gemma3", "gpt2": "gpt2",
    "gpt_neox": "gptneox", "bloom": "bloom", "falcon": "falcon", "gemma": "gemma", "mixtral": "llama",
    "qwen3_moe": "qwen3moe", "olmoe": "olmoe", "gpt_oss": "gpt-oss",
}  # fmt: skip
"""Families of transformers and what llama.cpp calls them."""
OF_EXPERTS: dict[str, dict[str, Any]] = {
    "mixtral": {"sliding_window": None}, "qwen3_moe": {"norm_topk_prob": True, "mlp_only_layers": []},
    "olmoe": {"norm_topk_prob": False, "num_key_value_heads": 2},
    "gpt_oss": {"rope_parameters": {"rope_type": "default", "rope_theta": 150_000.0}},
}  # fmt: skip
"""What llama.cpp takes for granted of mixtures of experts."""
NEIGHBOURS = ("llama", "mistral", "mixtral", "smollm3", "granite")
"""Families whose queries and keys the converter puts into the order of neighbouring pairs."""
BYTES = [chr(code) for code in (*range(33, 127), *range(161, 173), *range(174, 256), *range(256, 324))]


def write_model(
    model: Any, path: Path, kind: str = "F32", split: int = 0, extra: dict[str, np.ndarray] | None = None, **fields: Any
) -> None:
    """Write a model of transformers.

    Args:
        kind: in which numbers the matrices are kept.
        split: the most tensors of a part; 0: one file.
        extra: tensors that are no weights.
        fields: more fields, or others, of the architecture (`rope__freq_base` for rope.freq_base).
    """
    config, name = model.config, ARCHITECTURES[model.config.model_type]
    writer = gguf.GGUFWriter(path, name, split_max_tensors=split)
    for key, value in (_fields(config, name) | fields).items():
        if value is not None:
            _add(writer, f"{name}.{key.replace('__', '.')}", value)
    add_tokenizer(writer)
    for key, data in (extra or {}).items():
        writer.add_tensor(key, data)
    number = getattr(config, "num_hidden_layers", None) or config.n_layer
    names = gguf.get_tensor_name_map(next(key for key, value in gguf.MODEL_ARCH_NAMES.items() if value == name), number)
    quantized = gguf.GGMLQuantizationType[kind]
    state = model.state_dict()
    if config.tie_word_embeddings:
        state = {key: value for key, value in state.items() if not key.endswith(("lm_head.weight", "embed_out.weight"))}
    for key, tensor in [*state.items()]:
        if ".mlp.experts." in key or key.endswith((".mlp.router.weight", ".mlp.router.bias", ".sinks")):
            for theirs, part in _of_experts(config.model_type, key, tensor):
                writer.add_tensor(theirs, part.float().contiguous().numpy())
            continue
        if key.endswith((".attn.bias", ".masked_bias", "inv_freq")):
            continue
        theirs = names.get_name(
            key.removeprefix("transformer.") if name == "bloom" else key, try_suffixes=(".weight", ".bias")
        )
        assert theirs is not None, key
        data = converted(config, key, tensor).float().contiguous().numpy()
        if data.ndim == 1 or kind == "F32" or data.shape[-1] % gguf.GGML_QUANT_SIZES[quantized][0]:
            writer.add_tensor(theirs, data)
        else:
            writer.add_tensor(theirs, gguf.quants.quantize(data, quantized), raw_dtype=quantized)
    finish(writer)


def _of_experts(family: str, key: str, tensor: Tensor) -> list[tuple[str, Tensor]]:
    """What the converters make of the tensors of mixtures of experts, as transformers 5 has them, and of sinks."""
    block, name = f"blk.{key.split('.')[2]}", key.split(".", 3)[3]
    kind = "bias" if name.endswith("bias") else "weight"
    if name == "self_attn.sinks":
        return [(f"{block}.attn_sinks.weight", tensor)]
    if "router" in name:
        return [(f"{block}.ffn_gate_inp.{kind}", tensor)]
    if family == "gpt_oss":  # (in, out), gates and ups by turns
        tensor = tensor.mT if kind == "weight" else tensor
        parts = (tensor[:, ::2], tensor[:, 1::2])
    else:
        parts = tensor.chunk(2, 1)
    if "down_proj" in name:
        return [(f"{block}.ffn_down_exps.{kind}", tensor)]
    return [(f"{block}.ffn_{part}_exps.{kind}", each) for part, each in zip(("gate", "up"), parts, strict=True)]


def finish(writer: gguf.GGUFWriter) -> None:
    """Write what was added."""
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, value)


def add_tokenizer(writer: gguf.GGUFWriter, size: int = VOCAB) -> None:
    """Some bytes of GPT-2's alphabet as tokens, and one pair."""
    tokens = ["<|begin|>", "<|pad|>", "<|end|>", '!"', *BYTES][:size]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([3, 3, 3, *[1] * (len(tokens) - 3)])
    writer.add_token_merges(['! "'])
    writer.add_bos_token_id(0)
    writer.add_pad_token_id(1)
    writer.add_eos_token_id(2)


def _first(config: Any, *names: str) -> Any:
    return next((value for name in names if (value := getattr(config, name, None)) is not None), None)


def _fields(config: Any, name: str) -> dict[str, Any]:
    """What the converter of this architecture writes."""
    width, heads = _first(config, "hidden_size", "n_embd"), _first(config, "num_attention_heads", "n_head")
    rope = getattr(config, "rope_parameters", None) or {}
    rope = {**rope, **rope.get("full_attention", {})}
    d_head = getattr(config, "head_dim", None) or width // heads
    made: dict[str, Any] = {
        "block_count": _first(config, "num_hidden_layers", "n_layer"),
        "context_length": _first(config, "max_position_embeddings", "n_positions") or 2048,
        "embedding_length": width,
        "feed_forward_length": _first(config, "intermediate_size", "ffn_hidden_size", "n_inner") or 4 * width,
        "attention.head_count": heads,
        "attention.head_count_kv": _first(config, "num_key_value_heads", "num_kv_heads"),
        "attention.layer_norm_rms_epsilon": getattr(config, "rms_norm_eps", None),
        "attention.layer_norm_epsilon": _first(config, "layer_norm_eps", "norm_epsilon", "layer_norm_epsilon"),
        "rope.freq_base": float(rope["rope_theta"]) if "rope_theta" in rope else None,
    }
    if getattr(config, "head_dim", None):
        made |= {"attention.key_length": d_head, "attention.value_length": d_head}
    if "partial_rotary_factor" in rope or name in ("stablelm", "glm4", "gptneox"):
        made["rope.dimension_count"] = int(d_head * rope.get("partial_rotary_factor", 1.0))
    if count := _first(config, "num_local_experts", "num_experts"):
        made |= {"expert_count": count, "expert_used_count": config.num_experts_per_tok}
    match name:
        case "qwen3moe":
            made["expert_feed_forward_length"] = config.moe_intermediate_size
        case "gpt-oss":
            made["expert_feed_forward_length"] = config.intermediate_size
        case "stablelm" | "gptneox":
            made["use_parallel_residual"] = config.use_parallel_residual
        case "granite":
            made |= {"embedding_scale": float(config.embedding_multiplier), "logit_scale": float(config.logits_scaling),
                     "residual_scale": float(config.residual_multiplier), "attention.scale": float(config.attention_multiplier)}  # fmt: skip
        case "cohere2":
            made["logit_scale"] = float(config.logit_scale)
        case "gemma2":
            made |= {"attn_logit_softcapping": float(config.attn_logit_softcapping),
                     "final_logit_softcapping": float(config.final_logit_softcapping)}  # fmt: skip
    if name in ("gemma2", "gemma3", "cohere2", "gpt-oss") or config.model_type == "olmo3":
        made["attention.sliding_window"] = config.sliding_window
        made["attention.sliding_window_pattern"] = [kind == "sliding_attention" for kind in config.layer_types]
    if name == "gemma3":
        made["rope.freq_base_swa"] = float(config.rope_parameters["sliding_attention"]["rope_theta"])
    return made


def converted(config: Any, key: str, tensor: Tensor) -> Tensor:
    """A tensor of transformers as the converter changes it."""
    family, heads = config.model_type, _first(config, "num_attention_heads", "n_head")
    if family in NEIGHBOURS and ("q_proj" in key or "k_proj" in key):
        count = heads if "q_proj" in key else config.num_key_value_heads
        return (
            tensor.reshape(count, 2, tensor.shape[0] // count // 2, *tensor.shape[1:])
            .swapaxes(1, 2)
            .reshape(tensor.shape)
        )
    if family.startswith("gemma") and key.endswith("norm.weight"):
        return tensor + 1
    if family == "gpt2" and key.endswith(("c_attn.weight", "c_proj.weight", "c_fc.weight")):
        return tensor.T
    if "query_key_value" in key:
        groups = heads if family in ("bloom", "gpt_neox") else config.num_kv_heads
        d_head = config.hidden_size // heads
        grouped = tensor.view(groups, heads // groups + 2, d_head, *tensor.shape[1:])
        parts = grouped[:, :-2], grouped[:, -2:-1], grouped[:, -1:]
        return torch.cat([part.reshape(-1, *tensor.shape[1:]) for part in parts])
    return tensor


def random_model(config: transformers.PreTrainedConfig) -> Any:
    """A model of random weights, the biases and norms too."""
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model


def numbers(path: Path) -> dict[str, np.ndarray]:
    """Every tensor of a file as float32, by the package gguf."""
    return {each.name: gguf.quants.dequantize(each.data, each.tensor_type).reshape(tuple(map(int, each.shape[::-1])))
            for each in gguf.GGUFReader(path).tensors}  # fmt: skip

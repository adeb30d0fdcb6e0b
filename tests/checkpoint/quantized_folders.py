"""Folders in the quantized formats of others, packed by the formats' published definitions, and the models that they stand for."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor

Packed = tuple[dict[str, Tensor], Tensor]
"""The tensors of a layer by how their names end, and the weights that they stand for."""
IDS = torch.arange(3, 15)[None]


def config(family: str = "llama", **more: Any) -> transformers.PreTrainedConfig:
    """A tiny shape whose matrices have 64 or 96 columns."""
    if family == "gpt2":
        return transformers.GPT2Config(vocab_size=61, n_embd=64, n_layer=2, n_head=4, n_positions=32, **more)
    kinds = {"llama": transformers.LlamaConfig, "phi3": transformers.Phi3Config, "mixtral": transformers.MixtralConfig}
    sizes = dict(vocab_size=61, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
                 num_key_value_heads=2, max_position_embeddings=32, pad_token_id=0, tie_word_embeddings=False)  # fmt: skip
    return kinds[family](**{**sizes, **more})


def quantized_folder(
    folder: Path,
    said: dict[str, Any],
    pack: Callable[[Tensor], Packed],
    shape: transformers.PreTrainedConfig | None = None,
    whole: Sequence[str] = ("lm_head",),
    biases: bool = False,
) -> torch.nn.Module:
    """Write a folder whose linear layers are packed.

    Args:
        said: quantization_config.
        pack: a weight (out, in) into the tensors of its layer.
        whole: how names of layers end that are not packed.
        biases: whether layers get a bias of zeros that the model does not have.

    Returns:
        transformers' model with the weights that the folder stands for.
    """
    torch.manual_seed(0)
    shape = shape or config()
    theirs = transformers.AutoModelForCausalLM.from_config(shape).eval()
    for parameter in theirs.parameters():
        if parameter.dim() > 1:
            parameter.data.mul_(5)
    theirs.save_pretrained(folder)
    weights = load_file(folder / "model.safetensors")
    changed: dict[str, Tensor] = {}
    for name in [name for name in weights if name.endswith(".weight") and weights[name].dim() == 2]:
        layer = name.removesuffix(".weight")
        if layer.endswith((*whole, "embed_tokens", "wte", "wpe", "gate")):
            continue
        flipped = shape.model_type == "gpt2"
        weight = weights.pop(name)
        parts, stands_for = pack(weight.T.contiguous() if flipped else weight)
        weights |= {f"{layer}.{ending}": part.contiguous() for ending, part in parts.items()}
        changed[name] = (stands_for.T if flipped else stands_for).float().contiguous()
        if biases:
            weights[f"{layer}.bias"] = torch.zeros(len(weight))
    rest = {name: each for name, each in load_file(folder / "model.safetensors").items() if name not in changed}
    plain = folder / "plain"
    theirs.save_pretrained(plain)
    save_file(rest | changed, plain / "model.safetensors", {"format": "pt"})
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    raw = json.loads((folder / "config.json").read_text()) | {"quantization_config": said}
    (folder / "config.json").write_text(json.dumps(raw))
    return transformers.AutoModelForCausalLM.from_pretrained(plain, dtype=torch.float32).eval()


def words(rows: Tensor, bits: int) -> Tensor:
    """Rows of integers as one long number each, the first in the lowest bits, cut into words of 32 bits."""
    found = []
    for row in rows.tolist():
        number = sum(value << (bits * place) for place, value in enumerate(row))
        count = -(-len(row) * bits // 32)
        found.append([(number >> (32 * place) & 0xFFFFFFFF) for place in range(count)])
    unsigned = torch.tensor(found, dtype=torch.int64)
    return torch.where(unsigned >= 2**31, unsigned - 2**32, unsigned).to(torch.int32)


def gptq(
    bits: int, columns: int, symmetric: bool = True, reordered: bool = False, version: int = 1
) -> Callable[[Tensor], Packed]:
    """AutoGPTQ's layers: `qweight` packed along the inputs, `qzeros` along the outputs."""

    def pack(weight: Tensor) -> Packed:
        rows, cols = weight.shape
        size = cols if columns == -1 else columns
        groups = -(-cols // size)
        order = torch.randperm(cols) if reordered else torch.arange(cols)
        g_idx = torch.empty(cols, dtype=torch.int32)
        g_idx[order] = (torch.arange(cols) // size).int()
        scale, zero = torch.empty(rows, groups), torch.empty(rows, groups, dtype=torch.int64)
        for group in range(groups):
            piece = weight[:, g_idx == group]
            if symmetric:
                scale[:, group], zero[:, group] = piece.abs().amax(1) / (2 ** (bits - 1) - 0.5), 2 ** (bits - 1)
            else:
                low, high = piece.amin(1).clamp(max=0), piece.amax(1).clamp(min=0)
                scale[:, group] = (high - low) / (2**bits - 1)
                zero[:, group] = (-low / scale[:, group]).round()
        scale = scale.half()
        by_column, zeros = scale.float()[:, g_idx.long()], zero[:, g_idx.long()]
        q = (weight / by_column + zeros).round().clamp(0, 2**bits - 1).long()
        kept = (zero - (1 if version == 1 else 0)) % 2**bits
        parts = {"qweight": words(q, bits).T, "qzeros": words(kept.T, bits), "scales": scale.T, "g_idx": g_idx}
        return parts, by_column * (q - zeros)

    return pack


def gptq_config(
    bits: int, columns: int, symmetric: bool = True, reordered: bool = False, version: int = 1
) -> dict[str, Any]:
    said = {"quant_method": "gptq", "bits": bits, "group_size": columns, "sym": symmetric, "desc_act": reordered}
    return said | {"checkpoint_format": "gptq" if version == 1 else "gptq_v2", "damp_percent": 0.01, "lm_head": False}


def awq(columns: int) -> Callable[[Tensor], Packed]:
    """AutoAWQ's layers: eight outputs a word, in the order 0, 2, 4, 6, 1, 3, 5, 7."""

    def in_words(values: Tensor) -> Tensor:
        order = [0, 2, 4, 6, 1, 3, 5, 7]
        by_eight = values.unflatten(1, (-1, 8))[:, :, order]
        return words(by_eight.flatten(0, 1), 4).view(len(values), -1)

    def pack(weight: Tensor) -> Packed:
        rows, cols = weight.shape
        groups = weight.view(rows, -1, cols if columns == -1 else columns)
        low, high = groups.amin(-1).clamp(max=0), groups.amax(-1).clamp(min=0)
        scale = ((high - low) / 15).half()
        zero = (-low / scale.float()).round().clamp(0, 15).long()
        q = (groups / scale.float()[..., None] + zero[..., None]).round().clamp(0, 15).long()
        parts = {"qweight": in_words(q.view(rows, cols).T), "qzeros": in_words(zero.T), "scales": scale.T}
        return parts, (scale.float()[..., None] * (q - zero[..., None])).view(rows, cols)

    return pack


def fp8(block: tuple[int, int] | None, name: str = "weight_scale_inv") -> Callable[[Tensor], Packed]:
    """Numbers of 8 bits with a scale for a block, or for a row."""

    def pack(weight: Tensor) -> Packed:
        rows, cols = weight.shape
        height, width = block or (1, cols)
        scale = torch.empty(-(-rows // height), -(-cols // width))
        q, stands_for = torch.empty(rows, cols).to(torch.float8_e4m3fn), torch.empty(rows, cols)
        for i in range(scale.shape[0]):
            for j in range(scale.shape[1]):
                here = slice(i * height, (i + 1) * height), slice(j * width, (j + 1) * width)
                scale[i, j] = weight[here].abs().max() / 448
                q[here] = (weight[here] / scale[i, j]).to(torch.float8_e4m3fn)
                stands_for[here] = q[here].float() * scale[i, j]
        return {"weight": q, name: scale, "input_scale": torch.tensor(0.5)}, stands_for

    return pack


NF4 = (-1.0, -0.6961928, -0.52507305, -0.39491749, -0.28444138, -0.18477343, -0.09105004, 0.0, 0.0795803, 0.1609302,
       0.2461123, 0.33791524, 0.44070983, 0.562617, 0.72295684, 1.0)  # fmt: skip
"""Dettmers et al. 2023, appendix E."""


def bitsandbytes_4bit(nested: bool, size: int = 64) -> Callable[[Tensor], Packed]:
    """nf4: two places of the table a byte, the first in the high bits, a scale for `size` weights in a row."""

    def pack(weight: Tensor) -> Packed:
        table = torch.tensor(NF4)
        blocks = torch.nn.functional.pad(weight.flatten(), (0, -weight.numel() % size)).view(-1, size)
        absmax = blocks.abs().amax(1)
        places = ((blocks / absmax[:, None])[..., None] - table).abs().argmin(-1)
        flat = places.flatten()[: weight.numel()].to(torch.uint8)
        parts = {"weight": (flat[::2] << 4 | flat[1::2])[:, None], "weight.quant_map": table}
        state: dict[str, Any] = {
            "quant_type": "nf4",
            "blocksize": size,
            "dtype": "bfloat16",
            "shape": list(weight.shape),
        }
        if nested:
            offset, code = absmax.mean(), torch.linspace(-1, 1, 256)
            pieces = torch.nn.functional.pad(absmax - offset, (0, -len(absmax) % 8)).view(-1, 8)
            outer = pieces.abs().amax(1)
            inner = ((pieces / outer[:, None])[..., None] - code).abs().argmin(-1)
            absmax = (code[inner] * outer[:, None]).flatten()[: len(absmax)] + offset
            parts |= {"weight.absmax": inner.flatten()[: len(absmax)].to(torch.uint8)}
            parts |= {"weight.nested_absmax": outer, "weight.nested_quant_map": code}
            state |= {"nested_blocksize": 8, "nested_dtype": "float32", "nested_offset": float(offset)}
        else:
            parts["weight.absmax"] = absmax
        text = torch.tensor(list(json.dumps(state).encode()), dtype=torch.uint8)
        parts["weight.quant_state.bitsandbytes__nf4"] = text
        stands_for = (table[places] * absmax[:, None]).flatten()[: weight.numel()].view(weight.shape)
        return parts, stands_for

    return pack


def bitsandbytes_8bit(weight: Tensor) -> Packed:
    """A scale a row: the largest weight, which 127 stands for."""
    largest = weight.abs().amax(1)
    q = (weight / largest[:, None] * 127).round().to(torch.int8)
    parts = {"weight": q, "SCB": largest, "weight_format": torch.tensor(0, dtype=torch.uint8)}
    return parts, q.float() * largest[:, None] / 127

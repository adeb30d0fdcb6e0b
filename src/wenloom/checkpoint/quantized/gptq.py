"""GPTQ (Frantar et al. 2023) as AutoGPTQ, GPTQModel and transformers write it: 2, 3, 4 or 8 bits, in groups of rows of the
transposed matrix.

Its integers stand in int32 from the lowest bits on, along the inputs; zeros the same along the outputs, less 1 in the first
version of the format. `g_idx` tells the group of each column, where these were quantized in another order.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from wenloom.checkpoint.quantized.fields import QuantizationFields
from wenloom.checkpoint.quantized.matrix import Format, Part, Scaled, sides, unpack_bits
from wenloom.checkpoint.quantized.quantization import Quantization, in_groups
from wenloom.checkpoint.weights import FLOATING, Stored

_READS = "GPTQ with 2, 3, 4 or 8 bits in the formats gptq and gptq_v2"
_CHANGE_NOTHING = (
    "quant_method", "method", "gptaq", "foem", "uri", "quantizer", "true_sequential", "damp_percent", "damp_auto_increment", "static_groups", "model_name_or_path", "mse",
    "model_file_base_name", "meta", "tokenizer", "dataset", "block_name_to_quantize", "module_name_preceding_first_block",
    "batch_size", "pad_token_id", "max_input_length", "cache_block_outputs", "use_cuda_fp16", "model_seqlen", "use_exllama",
    "exllama_config", "disable_exllama", "backend", "act_group_aware", "modules_in_block_to_quantize", "lm_head", "version",
)  # fmt: skip
"""How it was found, which kernels compute with it, and which layers it has, as the file tells."""


def read_gptq(config: Mapping[str, Any], where: str) -> Quantization:
    """
    Raises:
        CheckpointError: a field asks for what is not read.
    """
    fields = QuantizationFields(config, where, _READS)
    bits, columns = fields.one_of("bits", None, 2, 3, 4, 8), fields.size("group_size", 128)
    if bits is None:
        raise fields.refusal("bits", None)
    of_format = fields.raw("checkpoint_format") or fields.raw("format") or "gptq"
    if of_format not in ("gptq", "gptq_v2"):
        raise fields.refusal("checkpoint_format", of_format)
    fields.flag("sym", True)  # the zeros in the file tell
    reorders = fields.flag("desc_act", False)
    fields.is_empty("is_marlin_format", "adapter")
    fields.one_of("pack_dtype", "int32")
    if any(not name.startswith("-:") for name in fields.raw("dynamic") or ()):  # those with a minus are whole
        raise fields.refusal("dynamic", config["dynamic"])
    fields.changes_nothing(_CHANGE_NOTHING)
    fields.finish()
    needed = ("qweight", "qzeros", "scales")
    needs_order = reorders and columns is not None
    its_format = Format(
        in_groups(bits, columns),
        (*needed, "g_idx") if needs_order else needed,
        () if needs_order else ("g_idx",),
        (),
        lambda parts: _layout(parts, bits, columns),
        lambda parts: _unpack(parts, bits, columns, 1 if of_format == "gptq" else 0),
    )
    return Quantization("gptq", (its_format,), lambda _: its_format)


def _layout(parts: Mapping[str, Stored], bits: int, columns: int | None) -> tuple[tuple[int, int], dict[str, Part]]:
    words, rows = sides(parts["qweight"])
    cols = words * 32 // bits
    groups = 1 if columns is None else -(-cols // columns)
    return (rows, cols), {
        "qweight": (("I32",), (cols * bits // 32, rows)),
        "qzeros": (("I32",), (groups, -(-rows * bits // 32))),
        "scales": (FLOATING, (groups, rows)),
        "g_idx": (("I32", "I64"), (cols,)),
    }


def _unpack(parts: Mapping[str, Tensor], bits: int, columns: int | None, less: int) -> Scaled:
    q = unpack_bits(parts["qweight"].T, bits)
    rows, cols = q.shape
    zeros = unpack_bits(parts["qzeros"], bits)[:, :rows].to(torch.int16).T + less
    group = torch.arange(cols) // (columns or cols)
    if "g_idx" in parts and parts["g_idx"].any():  # all zeros where nothing was reordered
        group = parts["g_idx"].flatten().long()
        if not 0 <= int(group.min()) <= int(group.max()) < len(parts["scales"]):
            raise ValueError("g_idx names groups that it does not have")
    return Scaled(q, parts["scales"].T, group, zeros & (2**bits - 1))

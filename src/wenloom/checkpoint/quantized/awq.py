"""AWQ (Lin et al. 2024) as AutoAWQ writes it in its version "gemm": 4 bits with zeros, in groups of columns.

Eight outputs stand in an int32, from the lowest bits on in the order 0, 2, 4, 6, 1, 3, 5, 7.
"""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from wenloom.checkpoint.quantized.fields import QuantizationFields
from wenloom.checkpoint.quantized.matrix import Format, Part, Scaled, in_blocks, sides, unpack_bits
from wenloom.checkpoint.quantized.quantization import Quantization, in_groups, one_format
from wenloom.checkpoint.weights import FLOATING, Stored

_READS = 'AWQ in the version "gemm", with 4 bits and zero points'
_CHANGE_NOTHING = ("quant_method", "backend", "do_fuse", "fuse_max_seq_len", "modules_to_fuse", "exllama_config", "checkpoint_format",
                   "format", "sym", "desc_act", "lm_head", "meta", "pack_dtype", "true_sequential", "model_seqlen")  # fmt: skip
"""Which kernels compute with it, and what a tool for GPTQ adds."""
_PLACES = [0, 4, 1, 5, 2, 6, 3, 7]
"""Where each of eight outputs stands."""


def read_awq(config: Mapping[str, Any], where: str) -> Quantization:
    """
    Raises:
        CheckpointError: a field asks for what is not read.
    """
    fields = QuantizationFields(config, where, _READS)
    for bits in ("bits", "w_bit"):
        fields.one_of(bits, 4)
    columns = fields.size("group_size", fields.size("q_group_size", 128))
    fields.one_of("zero_point", True)
    version = str(fields.raw("version") or config.get("format") or "gemm").lower()
    if version != "gemm":
        raise fields.refusal("version", version)
    whole = fields.names("modules_to_not_convert")
    fields.changes_nothing(_CHANGE_NOTHING)
    fields.finish()
    its_format = Format(
        in_groups(4, columns),
        ("qweight", "qzeros", "scales"),
        (),
        (),
        lambda parts: _layout(parts, columns),
        lambda parts: _unpack(parts, columns),
    )
    return Quantization("awq", (its_format,), one_format(its_format, whole))


def _layout(parts: Mapping[str, Stored], columns: int | None) -> tuple[tuple[int, int], dict[str, Part]]:
    cols, words = sides(parts["qweight"])
    groups = 1 if columns is None else -(-cols // columns)
    return (8 * words, cols), {
        "qweight": (("I32",), (cols, words)),
        "qzeros": (("I32",), (groups, words)),
        "scales": (FLOATING, (groups, 8 * words)),
    }


def _unpack(parts: Mapping[str, Tensor], columns: int | None) -> Scaled:
    q, zeros = (_outputs(parts[name]) for name in ("qweight", "qzeros"))
    return in_blocks(q, parts["scales"].T, (1, columns or q.shape[1]), zeros)


def _outputs(words: Tensor) -> Tensor:
    """Integers (outputs, rows)."""
    return unpack_bits(words, 4).unflatten(-1, (-1, 8))[..., _PLACES].flatten(1).T.contiguous()

"""Small GGUF files by the package gguf, of random weights and with a tokenizer of any kind."""

from pathlib import Path

import gguf
import numpy as np
from tokenizers import pre_tokenizers

ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]


def write_small(path: Path, tokenizer: str = "gpt2", kind: str = "Q8_0") -> None:
    """Write a model of one block.

    Args:
        tokenizer: gpt2, llama, bert or t5, as `tokenizer.ggml.model` has them.
        kind: in which numbers the matrices are kept.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(path, "llama")
    d, hidden = 32, 64
    writer.add_block_count(1)
    writer.add_context_length(64)
    writer.add_embedding_length(d)
    writer.add_feed_forward_length(hidden)
    writer.add_head_count(2)
    writer.add_layer_norm_rms_eps(1e-5)
    rows = add_tokenizer(writer, tokenizer)
    writer.add_chat_template("{% for message in messages %}{{ message.content }}{% endfor %}")
    shapes = {"attn_q": (d, d), "attn_k": (d, d), "attn_v": (d, d), "attn_output": (d, d), "ffn_gate": (hidden, d),
              "ffn_up": (hidden, d), "ffn_down": (d, hidden)}  # fmt: skip
    matrices = {"token_embd": (rows, d), **{f"blk.0.{name}": shape for name, shape in shapes.items()}}
    draw, number = np.random.default_rng(0), gguf.GGMLQuantizationType[kind]
    for name, shape in matrices.items():
        data = gguf.quants.quantize(draw.normal(0, 0.1, shape).astype(np.float32), number)
        writer.add_tensor(f"{name}.weight", data, raw_dtype=number)
    for name in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"):
        writer.add_tensor(f"{name}.weight", np.ones(d, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def add_tokenizer(writer: gguf.GGUFWriter, kind: str) -> int:
    """Add a tokenizer of this kind; returns how many tokens it has."""
    writer.add_tokenizer_model(kind)
    if kind == "gpt2":
        tokens = ["<|end|>", *ALPHABET, "th", "the"]
        writer.add_tokenizer_pre("gpt-2")
        writer.add_token_merges(["t h", "th e"])
        types, scores = [3] + [1] * (len(tokens) - 1), None
        writer.add_bos_token_id(0)
        writer.add_eos_token_id(0)
    elif kind == "bert":
        tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "▁the", "▁lamp", "s", "▁a", "b"]
        types, scores = [3] * 5 + [1] * (len(tokens) - 5), None
        writer.add_bos_token_id(2)
        writer.add_sep_token_id(3)
        writer.add_unk_token_id(1)
        writer.add_pad_token_id(0)
        writer.add_mask_token_id(4)
    else:
        pieces = ["▁", "t", "h", "e", "a", "▁t", "he", "▁the", "▁a", "\n\n"]
        tokens = ["<unk>", "<s>", "</s>", *(BYTES if kind == "llama" else []), *pieces]
        types = [2, 3, 3] + [6] * (256 if kind == "llama" else 0) + [1] * (len(pieces) - 1) + [4]
        scores = [0.0] * (len(tokens) - len(pieces)) + [-float(number) for number in range(1, len(pieces) + 1)]
        writer.add_bos_token_id(1)
        writer.add_eos_token_id(2)
        writer.add_unk_token_id(0)
        if kind == "t5":
            writer.add_add_space_prefix(True)
            writer.add_remove_extra_whitespaces(True)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    if scores is not None:
        writer.add_token_scores(scores)
    return len(tokens)

"""Importer of llama2.c files: Karpathy's one-file Llama in C (legacy "version 0" export)."""

import struct
from pathlib import Path

import numpy as np
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers
from torch import Tensor

from wenloom.core.errors import CheckpointError
from wenloom.model.config import reshaped
from wenloom.model.decoder import Decoder
from wenloom.model.presets import from_scratch
from wenloom.tokens.tokenizer import TextTokenizer

_HEADER = "<7i"  # dim, hidden_dim, n_layers, n_heads, n_kv_heads, vocab_size, seq_len


def read_decoder(path: Path) -> Decoder:
    """A decoder from a llama2.c `.bin` file.

    Layout: seven int32, then float32 arrays one after the other, each for all layers: embedding, attention
    norms, wq, wk, wv, wo, feed-forward norms, w1, w2, w3, final norm, two rotary tables (not needed), and
    the output matrix if vocab_size is written negative.

    Raises:
        CheckpointError: the file is too short, too long or its header makes no sense.
    """
    data = _read(path)
    if len(data) < struct.calcsize(_HEADER):
        raise CheckpointError(f"{path}: is not a llama2.c file ({len(data)} bytes, the header alone takes 28).")
    d_model, d_mlp, n_layers, n_heads, n_kv_heads, vocab_size, context_length = struct.unpack_from(_HEADER, data)
    sizes = (d_model, d_mlp, n_layers, n_heads, n_kv_heads, abs(vocab_size), context_length)
    if not all(0 < size < 2**24 for size in sizes) or d_model % n_heads or n_heads % n_kv_heads:
        raise CheckpointError(f"{path}: is not a llama2.c file of the legacy format (header {sizes}).")
    d_head, tied, vocab_size = d_model // n_heads, vocab_size > 0, abs(vocab_size)
    llama = from_scratch(
        "llama",
        vocab_size=vocab_size,
        n_layers=n_layers,
        d_model=d_model,
        n_heads=n_heads,
        n_kv_heads=n_kv_heads,
        context_length=context_length,
        bos_token_id=1,
        eos_token_id=2,
    )
    config = reshaped(llama, d_mlp=d_mlp, norms={"eps": 1e-5}, logits={"tied": tied})
    shapes = {
        "embed.weight": (vocab_size, d_model),
        "attention_norm.weight": (n_layers, d_model),
        "attention.query.weight": (n_layers, d_model, d_model),
        "attention.key.weight": (n_layers, n_kv_heads * d_head, d_model),
        "attention.value.weight": (n_layers, n_kv_heads * d_head, d_model),
        "attention.output.weight": (n_layers, d_model, d_model),
        "mlp_norm.weight": (n_layers, d_model),
        "mlp.gate.weight": (n_layers, d_mlp, d_model),
        "mlp.down.weight": (n_layers, d_model, d_mlp),
        "mlp.up.weight": (n_layers, d_mlp, d_model),
        "final_norm.weight": (d_model,),
        "rotary tables": (context_length, d_head),
        **({} if tied else {"head.weight": (vocab_size, d_model)}),
    }
    expected = struct.calcsize(_HEADER) + 4 * sum(int(np.prod(shape)) for shape in shapes.values())
    if len(data) != expected:
        raise CheckpointError(f"{path}: has {len(data):,} bytes, its header asks for {expected:,}.")
    numbers = torch.from_numpy(np.frombuffer(data, "<f4", offset=struct.calcsize(_HEADER)).copy())
    weights: dict[str, Tensor] = {}
    for (name, shape), part in zip(
        shapes.items(), numbers.split([int(np.prod(s)) for s in shapes.values()]), strict=True
    ):
        tensor = part.view(shape)
        if name == "rotary tables":
            continue
        if name in ("embed.weight", "final_norm.weight", "head.weight"):
            weights[name] = tensor
            continue
        for layer in range(n_layers):
            matrix = tensor[layer]
            if name in ("attention.query.weight", "attention.key.weight"):
                matrix = _neighbours_to_halves(matrix, d_head)
            weights[f"blocks.{layer}.{name}"] = matrix.contiguous()
    with torch.device("meta"):
        decoder = Decoder(config)
    decoder.load_state_dict(weights, assign=True)
    return decoder.eval()


def _neighbours_to_halves(matrix: Tensor, d_head: int) -> Tensor:
    """llama2.c rotates neighbouring pairs (2j, 2j+1), we rotate (j, j + d/2): reorder the rows of each head."""
    rows, columns = matrix.shape
    return matrix.view(rows // d_head, d_head // 2, 2, columns).transpose(1, 2).reshape(rows, columns)


def read_tokenizer(path: Path) -> TextTokenizer:
    """A tokenizer from a llama2.c `tokenizer.bin`: SentencePiece pieces with scores.

    Layout: int32 length of the longest piece, then per token float32 score, int32 length, bytes. Ids 0, 1
    and 2 are unknown, begin and end; ids 3 to 258 are the single bytes. Merging goes by score, best first,
    which is the order of BPE merges.

    Raises:
        CheckpointError: the file ends inside a token.
    """
    data, offset = _read(path), 4
    pieces: list[str] = []
    scores: list[float] = []
    try:
        while offset < len(data):
            score, length = struct.unpack_from("<fi", data, offset)
            raw = data[offset + 8 : offset + 8 + length]
            if len(raw) != length:
                raise struct.error
            pieces.append(raw.decode("utf-8"))
            scores.append(score)
            offset += 8 + length
    except (struct.error, UnicodeDecodeError):
        raise CheckpointError(f"{path}: is not a llama2.c tokenizer (token {len(pieces)} cannot be read).") from None
    if len(pieces) < 259:
        raise CheckpointError(f"{path}: is not a llama2.c tokenizer ({len(pieces)} tokens, at least 259 expected).")
    names = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    names += [piece.replace(" ", "▁") for piece in pieces[259:]]
    vocab = {name: token for token, name in enumerate(names)}
    merges = sorted(
        (-scores[token], vocab[left], vocab[right], left, right)
        for token, name in enumerate(names[259:], 259)
        for left, right in ((name[:cut], name[cut:]) for cut in range(1, len(name)))
        if left in vocab and right in vocab
    )
    model = models.BPE(vocab, [merge[3:] for merge in merges], unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    backend = Tokenizer(model)
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    backend.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in ("<unk>", "<s>", "</s>")])
    return TextTokenizer(backend, {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"})


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}).") from None

"""GGUF files that lie about themselves end in one sentence."""

import struct
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from wenloom.checkpoint.gguf.folder import read_gguf
from wenloom.checkpoint.gguf.reader import open_gguf
from wenloom.core.errors import CheckpointError

from ..small_gguf import write_small


def _text(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


def _field(name: bytes, kind: int, value: bytes) -> bytes:
    return _text(name) + struct.pack("<I", kind) + value


def _tensor(name: bytes, shape: tuple[int, ...], kind: int = 0, offset: int = 0) -> bytes:
    return _text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, offset)


def _file(fields: list[bytes] = [], tensors: list[bytes] = [], data: int = 0, **head: Any) -> bytes:  # noqa: B006
    start = struct.pack("<4sIQQ", head.get("magic", b"GGUF"), head.get("version", 3),
                        head.get("n_tensors", len(tensors)), head.get("n_fields", len(fields)))  # fmt: skip
    made = start + b"".join(fields) + b"".join(tensors)
    return made + b"\0" * (-len(made) % 32 + data)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is not a GGUF file \\(0 bytes"),
        (_file(magic=b"GGML"), "is not a GGUF file \\(it begins with b'GGML'\\)"),
        (_file(version=1), "GGUF of version 1: versions 2 and 3 are read"),
        (_file(version=3 << 24), "in the order of big-endian machines"),
        (_file(n_tensors=2**63), "speaks of 9,223,372,036,854,775,808 tensors, more than its bytes can hold"),
        (_file(n_fields=2**64 - 1), "fields, more than its bytes can hold"),
        (_file([_field(b"a", 4, b"\1\0\0\0")] * 2), 'field "a" stands twice'),
        (_file([struct.pack("<Q", 2**62) + b"a" * 20]), "the name of a field takes 4,611,686,018,427,387,904 bytes"),
        (_file([_field(b"a", 8, struct.pack("<Q", 2**40))]), 'field "a" takes 1,099,511,627,776 bytes'),
        (_file([_field(b"a", 9, struct.pack("<IQ", 6, 2**61))]), 'numbers of field "a", more than its bytes can hold'),
        (_file([_field(b"a", 9, struct.pack("<IQ", 9, 1))]), 'field "a" is a list of lists'),
        (_file([_field(b"a", 77, b"")]), 'field "a" is of kind 77, which is not understood'),
        (_file([_field(b"a", 7, b"\2")]), 'field "a" must be true \\(1\\) or false \\(0\\), got 2'),
        (_file([_field(b"a", 8, _text(b"\xff"))]), 'field "a" is not UTF-8'),
        (_file([_field(b"general.alignment", 4, struct.pack("<I", 0))]), "must be a power of two from 8 on, got 0"),
        (_file([_field(b"general.alignment", 4, struct.pack("<I", 48))]), "must be a power of two from 8 on, got 48"),
        (_file([], [_tensor(b"t", (4,), 99)], 32), "holds numbers of kind 99, which is not known"),
        (_file([], [_tensor(b"t", (1,) * 9)], 32), "has 9 dimensions; from 1 to 4"),
        (_file([], [_tensor(b"t", (0,))], 32), 'tensor "t" is empty'),
        (_file([], [_tensor(b"t", (33,), 8)], 64), "rows of 33; Q8_0 needs a multiple of 32"),
        (_file([], [_tensor(b"t", (2**63, 2**63))], 32), "is damaged or cut short: tensor \"t\" takes"),
        (_file([], [_tensor(b"t", (8,), 0, 2**64 - 32)], 32), 'tensor "t" takes 32 bytes, 0 are left'),
        (_file([], [_tensor(b"t", (8,), 0, 7)], 64), "begins at 7, which is no multiple of 32"),
        (_file([], [_tensor(b"t", (16,)), _tensor(b"u", (8,), 0, 32)], 96), 'tensor "u" overlaps with "t"'),
        (_file([], [_tensor(b"t", (8,)), _tensor(b"t", (8,), 0, 32)], 96), 'tensor "t" stands twice'),
        (_file([], [_tensor(b"t\x1b[31m", (8,), 0, 32)], 32), r"t\\x1b\[31m"),
    ],
)  # fmt: skip
def test_what_the_bytes_do_not_bear_out_is_refused(content: bytes, said: str, tmp_path: Path):
    (tmp_path / "m.gguf").write_bytes(content)
    with ExitStack() as stack, pytest.raises(CheckpointError, match=said) as caught:
        open_gguf(tmp_path / "m.gguf", stack)
    assert "m.gguf: " in str(caught.value) and "\x1b" not in str(caught.value) and "\n" not in str(caught.value)


def test_a_file_that_ends_anywhere_is_refused(tmp_path: Path):
    write_small(tmp_path / "whole.gguf", "t5")
    data = (tmp_path / "whole.gguf").read_bytes()
    for end in [*range(0, 2000, 37), *range(2000, len(data) - 64, 977)]:
        (tmp_path / "m.gguf").write_bytes(data[:end])
        with pytest.raises(CheckpointError, match=r"m\.gguf"):
            read_gguf(tmp_path / "m.gguf")


@pytest.mark.parametrize("kind", ["gpt2", "llama", "bert", "t5"])
def test_tokenizers_of_every_kind(kind: str, tmp_path: Path):
    write_small(tmp_path / "m.gguf", kind)
    text = read_gguf(tmp_path / "m.gguf").tokenizer
    expected = {
        "gpt2": "Ġ the t", "llama": "<s> ▁the ▁t", "bert": "[CLS] the [UNK] [SEP]", "t5": "▁the ▁ t </s>",
    }[kind]  # fmt: skip
    said = " the t" if kind == "gpt2" else "the t"
    names = text.convert_ids_to_tokens(text.encode(said))
    assert " ".join(names) == ("Ġ the Ġ t" if kind == "gpt2" else expected)


def test_a_tokenizer_is_named_where_it_is_not_known(tmp_path: Path):
    write_small(tmp_path / "m.gguf")
    data = (tmp_path / "m.gguf").read_bytes()
    for old, new, said in (
        (b"gpt-2", b"gpt-9", 'the pre-tokenizer "gpt-9" is not known'),
        (_text(b"gpt2"), _text(b"rwkv"), "tokenizers of the kind 'rwkv' are not read"),
        (_text(b"llama"), _text(b"mamba"), 'models of the architecture "mamba" are not read'),
        (_text(b"t h"), _text(b"tXh"), 'merge 0 "tXh" is no pair'),
        (_text(b"the"), _text(b"thh"), "holds a tokenizer that cannot be built"),
    ):
        assert old in data
        (tmp_path / "n.gguf").write_bytes(data.replace(old, new))
        with pytest.raises(CheckpointError, match=said):
            read_gguf(tmp_path / "n.gguf")

"""Byte-level BPE as GPT-2 spells it."""

from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from wenloom.core.errors import CheckpointError
from wenloom.core.foreign import reading

END_OF_TEXT = "<|endoftext|>"
"""The token between documents, GPT-2's name for it."""


def _byte_characters() -> dict[str, int]:
    """GPT-2's spelling of bytes: visible Latin-1 characters stand for themselves, the others from U+0100 on."""
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in visible]
    return {chr(byte): byte for byte in visible} | {chr(256 + rank): byte for rank, byte in enumerate(hidden)}


BYTE_OF = _byte_characters()
"""Which byte a character of a byte-level vocabulary stands for."""
CHARACTER_OF = {byte: character for character, byte in BYTE_OF.items()}
SPLIT = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
"""GPT-2's rule of what may stand together in a token (Radford et al. 2019, `encoder.py`), which ByteLevel applies."""


def gpt2_backend(vocab: Path, merges: Path) -> Tokenizer:
    """Byte-level BPE from GPT-2's two files."""
    with reading(f"{vocab} and {merges.name}", CheckpointError, "are no GPT-2 vocabulary"):
        model = models.BPE.from_file(str(vocab), str(merges))
    backend = Tokenizer(model)
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    if backend.token_to_id(END_OF_TEXT) is not None:
        backend.add_special_tokens([AddedToken(END_OF_TEXT, special=True, normalized=False)])
    return backend

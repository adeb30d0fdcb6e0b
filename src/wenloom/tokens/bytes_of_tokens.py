"""The bytes that tokens stand for."""

import json
import re

from tokenizers import Tokenizer

from wenloom.tokens.gpt2 import BYTE_OF

_BYTE_TOKEN = re.compile("<0x([0-9A-Fa-f]{2})>")


def bytes_of_tokens(backend: Tokenizer, vocab_size: int) -> list[bytes]:
    """One entry a token, none of them for tokens beyond the vocabulary and for special ones."""
    special = backend.get_added_tokens_decoder()
    spec = json.loads(backend.to_str())
    byte_level = "ByteLevel" in json.dumps([spec["decoder"], spec["pre_tokenizer"]])
    found = []
    for token in range(vocab_size):
        raw = backend.id_to_token(token)
        if raw is None or (token in special and special[token].special):
            found.append(b"")
        elif byte_level and all(char in BYTE_OF for char in raw):
            found.append(bytes(BYTE_OF[char] for char in raw))
        elif byte := _BYTE_TOKEN.fullmatch(raw):
            found.append(bytes.fromhex(byte[1]))
        else:
            found.append(raw.replace("▁", " ").encode())
    return found

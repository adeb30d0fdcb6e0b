"""Cutting long texts where no token can reach across, so that memory stays bounded and cores busy."""

import json
from collections.abc import Iterator, Sequence

from tokenizers import Tokenizer

ANY_CHARACTER = r"[\s\S]"
"""Pattern of one character, line breaks included."""
_STRETCH = 200_000
"""Characters."""


def stretches(backend: Tokenizer, texts: Sequence[str], size: int = _STRETCH) -> list[list[str]]:
    """Each text in parts of about `size` characters that have together the tokens of the whole.

    With the GPT-2 rule of what may stand together in a token, and with single characters, a line break before a
    visible character always begins a new token. With other rules a text is one part.
    """
    if all(len(text) <= size for text in texts) or not _line_breaks_begin_tokens(backend):
        return [[text] for text in texts]
    return [list(_cut(text, size)) for text in texts]


def _cut(text: str, size: int) -> Iterator[str]:
    start = 0
    while len(text) - start > size:
        cut = text.find("\n", start + size)
        while 0 <= cut < len(text) - 1 and text[cut + 1].isspace():
            cut = text.find("\n", cut + 1)
        if not 0 <= cut < len(text) - 1:
            break
        yield text[start:cut]
        start = cut
    yield text[start:]


def _line_breaks_begin_tokens(backend: Tokenizer) -> bool:
    spec = json.loads(backend.pre_tokenizer.__getstate__()) if backend.pre_tokenizer else {}
    gpt2_rule = spec.get("type") == "ByteLevel" and spec["use_regex"] and not spec["add_prefix_space"]
    characters = spec.get("type") == "Split" and spec["pattern"] == {"Regex": ANY_CHARACTER}
    return backend.normalizer is None and (gpt2_rule or characters)

"""Text as text: encoding in which no word of a stranger's can be a special token."""

import json
import re
import secrets
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from tokenizers import Encoding, Tokenizer

from wenloom.core.errors import CheckpointError
from wenloom.core.foreign import quiet_panics, reading

Range = tuple[int, int]
"""Begin and end in characters."""


class Placed(NamedTuple):
    """Tokens, and where in the text each begins."""

    ids: list[int]
    starts: list[int]


class LiteralEncoder:
    """A copy of a tokenizer's backend that knows its control tokens by secret names only.

    What is called `<|im_end|>` in a text is ten characters to it. A text that does hold control tokens, as chat
    templates write them, is given with the ranges that are somebody's words; outside of them names are control tokens.
    The copy is never changed, so that threads share it.

    Args:
        backend: the tokenizer; not changed.
        control: names of added tokens that are control tokens.

    Raises:
        CheckpointError: the backend does not read what it writes, as where two tokens have one number.
    """

    def __init__(self, backend: Tokenizer, control: Iterable[str]):
        secret = secrets.token_hex(8)
        self._alias = {name: f"\U00100000{secret}{number}\U00100001" for number, name in enumerate(sorted(control))}
        self.pattern = names_pattern(self._alias)
        with reading("tokenizer", CheckpointError, "cannot be written and read again"), quiet_panics():
            self._backend = Tokenizer.from_str(json.dumps(_renamed(json.loads(backend.to_str()), self._alias)))
        self._backend.no_truncation()
        self._backend.no_padding()

    def batch(self, texts: Sequence[str], add_special_tokens: bool) -> list[list[int]]:
        """Ids of texts that are nothing but text, on all cores."""
        return [
            each.ids for each in self._backend.encode_batch_fast(list(texts), add_special_tokens=add_special_tokens)
        ]

    def encoding(self, text: str, add_special_tokens: bool) -> Encoding:
        """One text that is nothing but text, with all that the backend knows of it."""
        return self._backend.encode(text, add_special_tokens=add_special_tokens)

    def encode(self, text: str, words: Sequence[Range]) -> Placed:
        """Tokens of a text whose control tokens count outside of `words` only.

        Args:
            words: ranges that are somebody's words, in order, none in another.
        """
        parts: list[str] = []
        ours, theirs = [0], [0]  # where a stretch begins in what is encoded, and in the text
        at = length = 0
        for begin, end in [*words, (len(text), len(text))]:
            for match in self.pattern.finditer(text, at, begin):
                alias = self._alias[match.group()]
                parts += [text[at : match.start()], alias]
                ours += [length + match.start() - at, length + match.start() - at + len(alias)]
                theirs += [match.start(), match.end()]
                length, at = ours[-1], match.end()
            parts.append(text[at:end])
            length, at = length + end - at, end
        encoded = self._backend.encode("".join(parts), add_special_tokens=False)
        starts = []
        for begin, _ in encoded.offsets:
            stretch = bisect_right(ours, begin) - 1
            starts.append(theirs[stretch] + (begin - ours[stretch] if stretch % 2 == 0 else 0))
        return Placed(encoded.ids, starts)


def names_pattern(names: Iterable[str]) -> re.Pattern[str]:
    """What finds any of some names, of two that begin alike the longer."""
    longest_first = sorted(names, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or "(?!)")


def _renamed(spec: dict[str, Any], alias: dict[str, str]) -> dict[str, Any]:
    """A tokenizer.json in which tokens have other names and the same ids, and no text can spell them."""
    model = spec["model"]
    vocab = model["vocab"]
    if isinstance(vocab, dict):
        model["vocab"] = {alias.get(token, token): number for token, number in vocab.items()}
    else:  # unigram: pairs of token and score
        model["vocab"] = [[alias.get(token, token), score] for token, score in vocab]
    if model.get("unk_token") in alias:
        model["unk_token"] = alias[model["unk_token"]]
    if merges := model.get("merges"):
        pairs = (each.split(" ") if isinstance(each, str) else each for each in merges)
        model["merges"] = [each for each in pairs if alias.keys().isdisjoint((*each, "".join(each)))]
    for token in spec["added_tokens"]:
        if token["content"] in alias:
            token |= {"content": alias[token["content"]], "normalized": False, "special": False}
    return spec

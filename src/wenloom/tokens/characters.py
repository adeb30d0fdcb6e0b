"""Byte-level vocabularies in which the usual characters of a text are tokens, however many its writing has.

Byte-pair encoding merges what is frequent first: of Chinese it spends a small vocabulary on pairs of frequent characters
and leaves most of the others in three bytes each, which a model then has to learn to spell. Here the characters come
first and the merges after them.
"""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import chain

from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

from wenloom.tokens.gpt2 import BYTE_OF, CHARACTER_OF, SPLIT

COVERED = 0.995
"""Part of the running characters of the text learned from that are to be whole tokens: of unseen text it is then 99 %."""
_LETTERS = range(0x17000, 0x18800)
"""Tangut: letters to the GPT-2 rule, and hardly ever met. Some stand for the bytes of characters that are no tokens."""


def count_characters(batches: Iterable[list[str]]) -> Counter[str]:
    """How often every character occurs."""
    return Counter(chain.from_iterable(chain.from_iterable(batches)))


def needed_characters(counts: Counter[str], covered: float = COVERED) -> str:
    """The fewest characters beyond ASCII that have to be tokens so that `covered` of a text are.

    ASCII characters are single bytes, which are tokens in any case: of English nothing is needed.

    >>> needed_characters(Counter("the lamp")), needed_characters(Counter("山山山山水水水月月风"), 0.9)
    ('', '山水月')
    """
    missing = covered * counts.total() - sum(count for each, count in counts.items() if each.isascii())
    needed = list[str]()
    for character, count in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0])):
        if missing <= 0:
            break
        if not character.isascii():
            needed.append(character)
            missing -= count
    return "".join(needed)


def ascii_part(counts: Counter[str]) -> float:
    """The part of the running characters that is ASCII.

    >>> ascii_part(Counter("oil 油"))
    0.8
    """
    return sum(count for each, count in counts.items() if each.isascii()) / max(1, counts.total())


def merges_of(characters: str) -> list[tuple[bytes, bytes]]:
    """Merges of bytes that make every character a token: beginnings first, which many share, so that no merge reaches
    from one character into the next.

    >>> merges_of("éè")
    [(b'\\xc3', b'\\xa8'), (b'\\xc3', b'\\xa9')]
    """
    parts = {data[:end] for data in map(str.encode, characters) for end in range(2, len(data) + 1)}
    return [(part[:-1], part[-1:]) for part in sorted(parts, key=lambda part: (len(part), part))]


def train_with_characters(
    texts: Iterable[str] | Iterable[list[str]], characters: str, vocab_size: int, special: Sequence[str]
) -> Tokenizer:
    """Learn merges of whole characters (Sennrich et al. 2016), cut as GPT-2 cuts.

    Args:
        characters: those that are tokens; others stay in bytes.
        vocab_size: tokens in all; fewer where the text has no more to merge.
        special: tokens that stand first.

    Returns:
        A backend over GPT-2's byte alphabet, without pre-tokenizer and decoder.
    """
    merges = merges_of(characters)
    spelling = _Spelling(characters, merges)
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.Split(Regex(SPLIT), "isolated")
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(special), initial_alphabet=list(spelling.symbols), show_progress=False
    )
    learner.train_from_iterator(map(spelling.spelled, texts), trainer)
    for left, right in json.loads(learner.to_str())["model"]["merges"]:
        merges.append((spelling.bytes_of(left), spelling.bytes_of(right)))
    tokens = dict.fromkeys([*special, *sorted(BYTE_OF), *(_written(left + right) for left, right in merges)])
    pairs = [(_written(left), _written(right)) for left, right in merges]
    backend = Tokenizer(models.BPE({token: number for number, token in enumerate(tokens)}, pairs))
    backend.add_special_tokens(list(special))
    return backend


def _written(token: bytes) -> str:
    return "".join(CHARACTER_OF[byte] for byte in token)


class _Spelling(dict[int, str]):
    """A table for `str.translate`: characters that are tokens stay, others are spelled by letters, one for each byte or
    beginning that is a token."""

    def __init__(self, characters: str, merges: Sequence[tuple[bytes, bytes]]):
        super().__init__({code: chr(code) for code in range(128)} | {ord(each): each for each in characters})
        whole = {each.encode() for each in characters}
        parts = [bytes([byte]) for byte in range(0x80, 0x100)]
        parts += [left + right for left, right in merges if left + right not in whole]
        letters = (chr(code) for code in _LETTERS if chr(code) not in characters)
        self._letters = dict(zip(parts, letters, strict=False))
        self.symbols = {chr(byte): bytes([byte]) for byte in range(128)}
        """The bytes of every letter and character that a spelled text may have."""
        self.symbols |= {letter: part for part, letter in self._letters.items()}
        self.symbols |= {character: character.encode() for character in characters}

    def __missing__(self, code: int) -> str:
        data = chr(code).encode()
        end = max(end for end in range(1, len(data)) if data[:end] in self._letters)
        rest = (data[place : place + 1] for place in range(end, len(data)))
        self[code] = "".join(self._letters[part] for part in (data[:end], *rest))
        return self[code]

    def spelled(self, texts: str | list[str]) -> str | list[str]:
        return texts.translate(self) if isinstance(texts, str) else [each.translate(self) for each in texts]

    def bytes_of(self, token: str) -> bytes:
        return b"".join(self.symbols[each] for each in token)

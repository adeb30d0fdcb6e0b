"""Training a tokenizer on one's own text, in any language."""

import math
from collections.abc import Iterable
from typing import Literal

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from wenloom.core.errors import InputError
from wenloom.tokens.characters import merges_of, train_with_characters
from wenloom.tokens.cutting import ANY_CHARACTER
from wenloom.tokens.gpt2 import END_OF_TEXT
from wenloom.tokens.tokenizer import TextTokenizer

Kind = Literal["bpe", "unigram", "byte", "char"]
PAD, UNKNOWN = "<|pad|>", "<|unk|>"
SMALLEST_VOCAB = 256 + 2
"""Every byte, and the tokens between documents and for padding."""
_LEAST = 512
"""Of a text too short to say how many it can teach."""


def default_vocab_size(
    n_bytes: int, characters: str = "", ascii_part: float = 0.0, factor: float = 2.0, most: int = 2**15
) -> int:
    """A vocabulary that the text can teach: the power of two nearest to factor x sqrt(bytes), and at least 512 tokens, or
    the bytes and the characters that are to be tokens.

    Rare tokens are barely trained, so the vocabulary should grow more slowly than the text; Heaps' law
    (vocabulary ~ length^0.5 for running text) gives the exponent, short runs the factor (docs/experiments.md).

    Args:
        n_bytes: size of the text.
        characters: see `characters.needed_characters`.
        ascii_part: part of the text that is ASCII; so many of the merges come on top of the characters, so that some
            symbols in English text or code do not take the place of its words.
        most: the largest power of two.

    >>> default_vocab_size(1_115_394), default_vocab_size(56_000_000), default_vocab_size(1000, "山水")
    (2048, 16384, 512)
    """
    power = round(math.log2(factor * math.sqrt(max(n_bytes, 1))))
    size = max(min(2 ** max(0, power), most), _LEAST)
    merges = round(ascii_part * (size - SMALLEST_VOCAB))
    return max(size, SMALLEST_VOCAB + len(merges_of(characters)) + merges)


def train_tokenizer(
    texts: Iterable[str] | Iterable[list[str]],
    kind: Kind = "bpe",
    vocab_size: int | None = None,
    exact: bool = True,
    characters: str = "",
) -> TextTokenizer:
    """Learn a vocabulary.

    Args:
        texts: documents, or lists of documents (faster).
        kind: `bpe`, byte-level byte-pair encoding (Sennrich et al. 2016; GPT-2's byte alphabet);
            `unigram`, the unigram language model (Kudo 2018) over the same bytes; `byte`, one token a
            byte; `char`, one token a character.
        vocab_size: number of tokens, the special ones included. `byte` has always 258; None means all
            characters for `char`, and is not allowed for `bpe` and `unigram`.
        exact: refuse a text that supports fewer tokens; False takes what it supports.
        characters: of `bpe`, these are tokens before anything else is merged, if they all fit.

    Returns:
        A tokenizer whose decode(encode(text)) is the text, whatever the language; only `char` maps
        characters it has not seen to an unknown token.

    Raises:
        InputError: the text supports no vocabulary of this size; says what it supports.
    """
    if kind == "char":
        return _train_characters(texts, vocab_size)
    special = [END_OF_TEXT, PAD]
    if kind == "byte":
        if vocab_size not in (None, SMALLEST_VOCAB):
            raise InputError(
                f"--vocab-size {vocab_size}: a byte tokenizer has always {SMALLEST_VOCAB} tokens; leave it out."
            )
        vocab_size = SMALLEST_VOCAB
    if vocab_size is None or vocab_size < SMALLEST_VOCAB:
        raise InputError(
            f"--vocab-size {vocab_size}: must be at least {SMALLEST_VOCAB} (256 bytes and {len(special)} special tokens)."
        )
    if kind == "bpe" and characters and SMALLEST_VOCAB + len(merges_of(characters)) <= vocab_size:
        backend = train_with_characters(texts, characters, vocab_size, special)
    else:
        backend = _train_over_bytes(texts, kind, vocab_size, special)
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    if exact and backend.get_vocab_size() < vocab_size:
        raise InputError(
            f"--vocab-size {vocab_size:,}: this text supports at most {backend.get_vocab_size():,} tokens. "
            "Ask for no more than that, or give more text."
        )
    backend = Tokenizer.from_str(backend.to_str())  # unigram scores lose their last bit when saved: now, not later
    return TextTokenizer(backend, {"bos_token": END_OF_TEXT, "eos_token": END_OF_TEXT, "pad_token": PAD})


def _train_over_bytes(
    texts: Iterable[str] | Iterable[list[str]], kind: Kind, vocab_size: int, special: list[str]
) -> Tokenizer:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    if kind == "unigram":
        backend = Tokenizer(models.Unigram())
        trainer = trainers.UnigramTrainer(
            vocab_size=vocab_size, special_tokens=special, initial_alphabet=alphabet, show_progress=False
        )
    else:
        backend = Tokenizer(models.BPE())
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size, special_tokens=special, initial_alphabet=alphabet, show_progress=False
        )
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.train_from_iterator(texts, trainer)
    return backend


def _train_characters(texts: Iterable[str] | Iterable[list[str]], vocab_size: int | None) -> TextTokenizer:
    special = [END_OF_TEXT, PAD, UNKNOWN]
    backend = Tokenizer(models.WordLevel(unk_token=UNKNOWN))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(ANY_CHARACTER), "isolated")
    backend.decoder = decoders.Fuse()
    trainer = trainers.WordLevelTrainer(vocab_size=vocab_size or 2**31, special_tokens=special, show_progress=False)
    backend.train_from_iterator(texts, trainer)
    if backend.get_vocab_size() == len(special):
        raise InputError("the text holds no character to learn from.")
    if vocab_size and backend.get_vocab_size() < vocab_size:
        raise InputError(
            f"--vocab-size {vocab_size:,}: this text has only {backend.get_vocab_size() - len(special):,} characters, "
            f"{backend.get_vocab_size():,} tokens with the special ones. Leave --vocab-size out to take them all."
        )
    names = {"bos_token": END_OF_TEXT, "eos_token": END_OF_TEXT, "pad_token": PAD, "unk_token": UNKNOWN}
    return TextTokenizer(backend, names)

"""Plain text in stretches, to learn from without anybody's answers, and vocabularies."""

from wenloom.checkpoint.hub import resolve
from wenloom.core.errors import InputError
from wenloom.tasks.rows import files_in
from wenloom.tasks.settings import FreshSettings
from wenloom.text.clean import normalize
from wenloom.text.documents import find_files, read_documents
from wenloom.text.refusals import Refusals
from wenloom.tokens.characters import ascii_part, count_characters, merges_of, needed_characters
from wenloom.tokens.tokenizer import TextTokenizer
from wenloom.tokens.train import SMALLEST_VOCAB, default_vocab_size, train_tokenizer

_PIECE = 2000
"""Characters of text that are divided between training and measuring together."""


def read_stretches(where: str, refusals: Refusals) -> list[str]:
    """Stretches of about 2,000 characters, cut between paragraphs.

    Args:
        where: files, folders and globs, comma-separated.
        refusals: told what is left out.

    Raises:
        InputError: a file cannot be read, or there is too little text to divide.
    """
    pieces = []
    for document in read_documents(find_files([str(each) for each in files_in(where)]), refusals=refusals):
        piece = ""
        for paragraph in normalize(document.text).split("\n"):
            if piece and len(piece) + len(paragraph) > _PIECE:
                pieces.append(piece)
                piece = ""
            piece += ("\n" if piece else "") + paragraph
        if piece.strip():
            pieces.append(piece)
    if len(pieces) < 2:
        first = f" Left out: {refusals.refused[0]}." if refusals.refused else ""
        raise InputError(f"{where}: has too little text: some must be kept for validation.{first}")
    return pieces


def fresh_tokenizer(fresh: FreshSettings, texts: list[str], factor: float = 2.0, most: int = 2**15) -> TextTokenizer:
    """The vocabulary that was named, or one learned from the texts.

    Args:
        factor, most: see `default_vocab_size`.
    """
    if fresh.tokenizer is not None:
        return TextTokenizer.from_pretrained(resolve(fresh.tokenizer))
    if fresh.vocab_size is not None:
        return train_tokenizer([texts], "bpe", fresh.vocab_size)
    counts = count_characters([texts])
    characters = needed_characters(counts)
    size = default_vocab_size(sum(len(text.encode()) for text in texts), characters, ascii_part(counts), factor, most)
    return train_tokenizer([texts], "bpe", size, exact=False, characters=characters)


def character_tokenizer(texts: list[str]) -> TextTokenizer:
    """A vocabulary that learns no pieces of words: bytes, and the characters that are several bytes."""
    characters = needed_characters(count_characters([texts]))
    size = SMALLEST_VOCAB + len(merges_of(characters))
    return train_tokenizer([texts], "bpe", size, exact=False, characters=characters)

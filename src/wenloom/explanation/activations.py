"""What flows at places of a model for text as it comes, without computing what follows them."""

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import torch
from torch import Tensor

from wenloom.evaluation.likelihood import tokens_before
from wenloom.explanation.subject import Subject
from wenloom.model.decoder import Decoder
from wenloom.model.taps import Taps
from wenloom.text.documents import find_files, read_documents

_BATCH_TOKENS = 2048


class _Enough(Exception):
    """What was asked for has been computed."""


def token_rows(subject: Subject, texts: Sequence[str], length: int) -> Iterator[list[int]]:
    """Text of files and folders as rows of so many tokens, each after the one that stands before all texts.

    Raises:
        InputError: see `text.documents.find_files` and `read_documents`.
    """
    before = tokens_before(subject.tokenizer, is_empty=True)
    inside = length - len(before)
    kept: list[int] = []
    for document in read_documents(find_files(list(texts))):
        kept += subject.tokenizer.encode(document.text, False)
        while len(kept) >= inside:
            yield [*before, *kept[:inside]]
            kept = kept[inside:]


def row_length(subject: Subject, most: int) -> int:
    """Tokens of a row."""
    return min(most, subject.stack.config.context_length)


def batches(subject: Subject, rows: Iterable[list[int]]) -> Iterator[Tensor]:
    """Rows of one length in batches, shape (B, T)."""
    rows = iter(rows)
    while first := next(rows, None):
        some = [first, *islice(rows, max(1, _BATCH_TOKENS // len(first)) - 1)]
        yield torch.tensor(some, device=subject.stack.embed.weight.device)


@torch.no_grad()
def flowing(decoder: Decoder, places: Sequence[str], tokens_BT: Tensor) -> Tensor:
    """What flows at places that lie one after the other, at all tokens but each row's first, shape (B * (T - 1), places * D), float32.

    Attention rests at a row's first token, whose stream is like no other's and many times longer.
    """
    kept: list[Tensor] = []

    def keep(x_BTD: Tensor) -> None:
        kept.append(x_BTD[:, 1:].flatten(0, 1).float())
        if len(kept) == len(places):
            raise _Enough

    with contextlib.suppress(_Enough):
        decoder.hidden(tokens_BT, taps=Taps(dict.fromkeys(places, keep), decoder.places))
    return torch.cat(kept, 1)

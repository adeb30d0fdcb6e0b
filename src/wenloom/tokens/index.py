"""An index of a prepared corpus: where any run of tokens stands in its training text, how often, and what follows it there
(as infini-gram: Liu et al. 2024).

The text is cut into blocks, each with a suffix array, four bytes a token, that lies memory-mapped beside the shards. A block's
places are told apart by tokens beyond its end as well, so that nothing is missed between two blocks.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from wenloom.core.errors import InputError
from wenloom.core.files import folder_aside
from wenloom.core.foreign import json_text, read_json_object, reading, regular_file
from wenloom.core.progress import progress
from wenloom.tokens.shards import Dataset, TokenStream
from wenloom.tokens.suffixes import suffix_order

FOLDER, ABOUT = "index", "index.json"
BLOCK_TOKENS = 2**24
"""Places of a block: making its index takes about 0.6 GB and some seconds."""
DEPTH = 1024
"""Tokens of the longest run that is looked for."""
_FORMAT = 1


@dataclass(frozen=True)
class Match:
    """The end of a row of tokens, as far as it stands in the training text."""

    length: int
    """Tokens of it that stand there; 0: not even the last one does."""
    parts: list[tuple[int, int, int]]
    """By block in which it stands: its number, and from where to where in its order."""

    @property
    def count(self) -> int:
        """How often it stands there."""
        return sum(end - begin for _, begin, end in self.parts)


@dataclass(frozen=True)
class TokenIndex:
    """The training text of a corpus with its index."""

    dataset: Dataset
    stream: TokenStream
    block_tokens: int
    orders: list[np.ndarray[Any, Any]] = field(repr=False)
    """By block: its places in the order of what is read from each on, counted from the block's first."""

    @classmethod
    def open(cls, dataset: Dataset) -> "TokenIndex":
        """The index that lies beside a corpus.

        Raises:
            InputError: there is none, it is another corpus', or it is damaged.
        """
        folder = dataset.folder / FOLDER
        if not (folder / ABOUT).exists():
            raise InputError(f"{dataset.folder}: has no index. Make one: wenloom index {dataset.folder}")
        about, stream = read_json_object(folder / ABOUT), dataset.stream("train")
        with reading(folder, what="is damaged; remove it and run wenloom index again"):
            if about["format"] != _FORMAT or about["key"] != dataset.key or about["tokens"] != len(stream):
                raise ValueError("it was made of another text")
            size = about["block_tokens"]
            if not isinstance(size, int) or size < 1:
                raise ValueError('"block_tokens" is no number of tokens')
            orders = [
                _order(folder / _file(block), min(size, len(stream) - block * size))
                for block in range(-(-len(stream) // size))
            ]
        return cls(dataset, stream, size, orders)

    def longest(self, tokens: Sequence[int]) -> Match:
        """The longest end of a row that stands in the training text, and where; at most `DEPTH` tokens of it.

        By halving: where an end stands, every shorter one does.
        """
        row = np.asarray(tokens[-DEPTH:], dtype=np.int64)
        low, high = 0, len(row)
        while low < high:
            middle = (low + high + 1) // 2
            if any(begin < end for begin, end in self._ranges(row[len(row) - middle :])):
                low = middle
            else:
                high = middle - 1
        return self.find(row[len(row) - low :].tolist())

    def find(self, tokens: Sequence[int]) -> Match:
        """Where a row stands as a whole; at most `DEPTH` tokens."""
        row = np.asarray(tokens, dtype=np.int64)
        assert len(row) <= DEPTH
        if not len(row):
            return Match(0, [])
        found = enumerate(self._ranges(row))
        return Match(len(row), [(block, begin, end) for block, (begin, end) in found if begin < end])

    def places(self, match: Match, most: int) -> list[int]:
        """Where it begins, places of the stream in ascending order; of more than so many some that are evenly spread over what
        comes behind them."""
        wanted = np.unique(np.linspace(0, match.count - 1, min(most, match.count)).astype(np.int64))
        found, before = list[int](), 0
        for block, begin, end in match.parts:
            inside = wanted[(wanted >= before) & (wanted < before + end - begin)] - before
            found += [int(self._places(block, begin + at, begin + at + 1)[0]) for at in inside.tolist()]
            before += end - begin
        return sorted(found)

    def following(self, match: Match) -> tuple[np.ndarray, np.ndarray]:
        """What follows it there: tokens, the most frequent first, and how often each does; where the text ends, nothing."""
        counts: dict[int, int] = {}
        for block, begin, end in match.parts:
            places = self._places(block, begin, end).astype(np.int64) + match.length
            tokens, numbers = np.unique(self.stream.at(places[places < len(self.stream)]), return_counts=True)
            for token, number in zip(tokens.tolist(), numbers.tolist(), strict=True):
                counts[token] = counts.get(token, 0) + number
        ranked = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
        return np.array([token for token, _ in ranked], dtype=np.int64), np.array(
            [n for _, n in ranked], dtype=np.int64
        )

    def _ranges(self, row: np.ndarray) -> Iterator[tuple[int, int]]:
        """From where to where a row stands in the order of each block."""
        wanted = row.tolist()
        for block, order in enumerate(self.orders):
            begin = self._bisect(block, wanted, 0, len(order), is_after=False)
            is_there = begin < len(order) and self._read(block, begin, len(wanted)) == wanted
            yield begin, self._bisect(block, wanted, begin, len(order), is_after=True) if is_there else begin

    def _bisect(self, block: int, wanted: list[int], low: int, high: int, is_after: bool) -> int:
        """The first place of an order from which on not less (or, after, more) is read than a row."""
        while low < high:
            middle = (low + high) // 2
            there = self._read(block, middle, len(wanted))
            if there < wanted or (is_after and there == wanted):
                low = middle + 1
            else:
                high = middle
        return low

    def _read(self, block: int, at: int, length: int) -> list[int]:
        """Tokens from a place of an order on, fewer at the end of the text."""
        place = int(self._places(block, at, at + 1)[0])
        return self.stream.window(place, min(length, len(self.stream) - place)).tolist()

    def _places(self, block: int, begin: int, end: int) -> np.ndarray:
        """Places of the stream, of a part of an order.

        Raises:
            InputError: some are beyond the block.
        """
        part = self.orders[block][begin:end].astype(np.int64)
        if len(part) and part.max() >= len(self.orders[block]):
            raise InputError(
                f"{self.dataset.folder / FOLDER / _file(block)}: is damaged; remove it and run wenloom index again."
            )
        return part + block * self.block_tokens


def build_index(dataset: Dataset, block_tokens: int = BLOCK_TOKENS) -> TokenIndex:
    """Index the training text of a corpus, whose folder then holds it; it goes when the corpus is prepared anew.

    Raises:
        WenloomError: the disk refused.
    """
    stream, vocab_size = dataset.stream("train"), dataset.manifest["tokenizer"]["vocab_size"]
    ends = [(begin, min(begin + block_tokens + DEPTH, len(stream))) for begin in range(0, len(stream), block_tokens)]
    total = sum(end - begin for begin, end in ends)
    with folder_aside(dataset.folder / FOLDER) as folder, progress("Indexing", total, "tokens") as bar:
        for block, (begin, end) in enumerate(ends):
            count = min(block_tokens, len(stream) - begin)
            order = suffix_order(stream.window(begin, end - begin), count, vocab_size, DEPTH, bar.advance)
            np.save(folder / _file(block), order)
        about = {"format": _FORMAT, "key": dataset.key, "tokens": len(stream), "block_tokens": block_tokens}
        (folder / ABOUT).write_text(json_text(about, indent=1) + "\n", encoding="utf-8")
    return TokenIndex.open(dataset)


def indexed(dataset: Dataset) -> tuple[TokenIndex, bool]:
    """The index of a corpus, made where there is none of its text, and whether it was there already.

    Raises:
        InputError: it is damaged.
        WenloomError: the disk refused.
    """
    if has_index(dataset):
        return TokenIndex.open(dataset), True
    return build_index(dataset), False


def has_index(dataset: Dataset) -> bool:
    """Whether a corpus has an index of the text that it holds now."""
    path = dataset.folder / FOLDER / ABOUT
    return path.exists() and read_json_object(path).get("key") == dataset.key


def _file(block: int) -> str:
    return f"order-{block:05}.npy"


def _order(path: Path, size: int) -> np.ndarray[Any, Any]:
    regular_file(path)
    order = np.load(path, mmap_mode="r", allow_pickle=False)
    if not isinstance(order, np.ndarray) or order.shape != (size,) or order.dtype != np.uint32:
        raise ValueError(f"{path.name} is not the order of {size:,} places")
    return order

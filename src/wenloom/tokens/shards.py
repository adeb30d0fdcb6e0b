"""Token shards: the corpus as numbers on disk, memory-mapped, so that its size does not matter."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from wenloom.core.errors import InputError
from wenloom.tokens.tokenizer import TextTokenizer

MANIFEST = "dataset.json"
SHARD_TOKENS = 2**26
"""Tokens in a shard: 128 MiB at two bytes each, which is also all that writing one keeps in memory."""


def token_dtype(vocab_size: int) -> np.dtype[Any]:
    """Two bytes a token while they suffice, else four.

    >>> token_dtype(65536), token_dtype(65537)
    (dtype('uint16'), dtype('uint32'))
    """
    return np.dtype(np.uint16 if vocab_size <= 2**16 else np.uint32)


@dataclass(frozen=True)
class Split:
    """One side of the corpus and its measures, from which bits per byte are computed."""

    documents: int
    bytes: int
    """UTF-8 bytes of the text, separators not counted."""
    characters: int
    tokens: int
    """Tokens, the ones that open and close documents included."""
    unknown: int = 0
    """Tokens that stand for something the vocabulary cannot express."""
    shards: list[str] = field(default_factory=list)


class ShardWriter:
    """Collects token ids and writes a shard whenever enough are together."""

    def __init__(self, folder: Path, name: str, dtype: np.dtype[Any]):
        self._folder, self._name, self._dtype = folder, name, dtype
        self._pending: list[np.ndarray[Any, Any]] = []
        self._n_pending = self.n_tokens = 0
        self.shards: list[str] = []

    def append(self, ids: Iterable[int]) -> None:
        """Add tokens to the end of the stream."""
        array = np.fromiter(ids, self._dtype)
        self._pending.append(array)
        self._n_pending += len(array)
        self.n_tokens += len(array)
        if self._n_pending >= SHARD_TOKENS:
            self.close()

    def close(self) -> None:
        """Write what is pending."""
        if self._n_pending:
            self.shards.append(f"{self._name}-{len(self.shards):05}.npy")
            np.save(self._folder / self.shards[-1], np.concatenate(self._pending))
        self._pending, self._n_pending = [], 0


class TokenStream:
    """The tokens of one split as one long circular row, read from memory-mapped shards."""

    def __init__(self, shards: list[np.ndarray[Any, Any]]):
        self._shards = shards
        self._ends = np.cumsum([len(shard) for shard in shards]) if shards else np.zeros(0, int)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def window(self, start: int, length: int) -> np.ndarray[Any, Any]:
        """`length` tokens from `start`, int64; the end of the stream is followed by its beginning."""
        parts, position = [], start % len(self)
        while length > 0:
            shard = int(np.searchsorted(self._ends, position, side="right"))
            offset = position - (int(self._ends[shard - 1]) if shard else 0)
            part = self._shards[shard][offset : offset + length]
            parts.append(part)
            length -= len(part)
            position = (position + len(part)) % len(self)
        return np.concatenate(parts).astype(np.int64)


@dataclass(frozen=True)
class Dataset:
    """A prepared corpus."""

    folder: Path
    manifest: dict[str, Any]
    splits: dict[str, Split]

    @classmethod
    def open(cls, folder: Path) -> "Dataset":
        """Read the manifest of a prepared corpus.

        Raises:
            InputError: the folder is not one, or a shard is missing or cut short.
        """
        if not (folder / MANIFEST).exists():
            raise InputError(
                f"{folder}: is no prepared corpus (it has no {MANIFEST}). Make one: wenloom prepare TEXT --out {folder}"
            )
        try:
            manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
            dataset = cls(folder, manifest, {name: Split(**split) for name, split in manifest["splits"].items()})
            for name, split in dataset.splits.items():
                if len(dataset.stream(name)) != split.tokens:
                    raise ValueError(f"{name} has {len(dataset.stream(name)):,} tokens, expected {split.tokens:,}")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise InputError(f"{folder}: is damaged ({error}). Prepare it again.") from None
        return dataset

    def stream(self, split: str) -> TokenStream:
        """The tokens of `train` or `validation`."""
        shards = [np.load(self.folder / name, mmap_mode="r", allow_pickle=False) for name in self.splits[split].shards]
        return TokenStream(shards)

    def tokenizer(self) -> TextTokenizer:
        """The tokenizer the tokens were made with."""
        return TextTokenizer.from_pretrained(self.folder)

    @property
    def key(self) -> str:
        """Hash of the texts, the reading options and the tokenizer."""
        return self.manifest["key"]


def write_manifest(folder: Path, splits: dict[str, Split], **facts: Any) -> None:
    """Write dataset.json."""
    manifest = {**facts, "splits": {name: asdict(split) for name, split in splits.items()}}
    (folder / MANIFEST).write_text(json.dumps(manifest, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")

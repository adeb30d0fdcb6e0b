"""Token shards: the corpus as numbers on disk, memory-mapped, so that its size does not matter."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from wenloom.core.errors import InputError
from wenloom.core.foreign import json_text, read_json_object, reading, regular_file
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

    def __init__(self, shards: list[np.ndarray[Any, Any]], vocab_size: int | None = None):
        self._shards, self._vocab_size = shards, vocab_size
        self._ends = np.cumsum([len(shard) for shard in shards]) if shards else np.zeros(0, int)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def window(self, start: int, length: int) -> np.ndarray[Any, Any]:
        """`length` tokens from `start`, int64; the end of the stream is followed by its beginning.

        Raises:
            InputError: a token that the vocabulary does not have.
        """
        parts, position = [], start % len(self)
        while length > 0:
            shard = int(np.searchsorted(self._ends, position, side="right"))
            offset = position - (int(self._ends[shard - 1]) if shard else 0)
            part = self._shards[shard][offset : offset + length]
            parts.append(part)
            length -= len(part)
            position = (position + len(part)) % len(self)
        found = np.concatenate(parts).astype(np.int64)
        return self._known(found, start)

    def at(self, places: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """The tokens at places of the stream, int64.

        Raises:
            InputError: a token that the vocabulary does not have.
        """
        found = np.empty(len(places), dtype=np.int64)
        of_shard = np.searchsorted(self._ends, places, side="right")
        for shard in np.unique(of_shard).tolist():
            is_here = of_shard == shard
            found[is_here] = self._shards[shard][places[is_here] - (int(self._ends[shard - 1]) if shard else 0)]
        return self._known(found, int(places[0]) if len(places) else 0)

    def _known(self, tokens: np.ndarray[Any, Any], near: int) -> np.ndarray[Any, Any]:
        if self._vocab_size is not None and tokens.max(initial=0) >= self._vocab_size:
            raise InputError(
                f"the corpus is damaged: token {tokens.max():,} near place {near:,}, but the vocabulary has "
                f"{self._vocab_size:,}. Prepare it again."
            )
        return tokens


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
                f"{folder}: is not a prepared corpus (it has no {MANIFEST}). Make one: wenloom prepare TEXT --out {folder}"
            )
        manifest = read_json_object(folder / MANIFEST)
        with reading(folder, what="is damaged, prepare it again"):
            _check(manifest)
            dataset = cls(folder, manifest, {name: Split(**split) for name, split in manifest["splits"].items()})
            for name, split in dataset.splits.items():
                if len(dataset.stream(name)) != split.tokens:
                    raise ValueError(f"{name} has {len(dataset.stream(name)):,} tokens, expected {split.tokens:,}")
        return dataset

    def stream(self, split: str) -> TokenStream:
        """The tokens of `train` or `validation`.

        Raises:
            InputError: a shard is missing or damaged.
        """
        return TokenStream(self._shards(split), self.manifest["tokenizer"]["vocab_size"])

    def _shards(self, split: str) -> list[np.ndarray[Any, Any]]:
        own = [_shard(self.folder / name) for name in self.splits[split].shards]
        return own + [shard for part in self.parts for shard in part.dataset._shards(split)]

    @property
    def parts(self) -> list["Part"]:
        """Of a mixture, its corpora.

        Raises:
            InputError: one is gone, or was prepared again since.
        """
        found = []
        for part in self.manifest.get("mixture", []):
            dataset = Dataset.open(Path(part["folder"]))
            if dataset.key != part["key"]:
                raise InputError(
                    f"{dataset.folder}: is not the corpus that {self.folder} was mixed of (it was prepared again since). "
                    "Prepare the old texts there, or start a new run."
                )
            found.append(Part(part["name"], part["share"], dataset))
        return found

    def tokenizer(self) -> TextTokenizer:
        """The tokenizer the tokens were made with."""
        return TextTokenizer.from_pretrained(self.folder)

    @property
    def key(self) -> str:
        """Hash of the texts, the reading options and the tokenizer."""
        return self.manifest["key"]


class Part(NamedTuple):
    """A corpus of a mixture."""

    name: str
    share: float
    """Of the samples."""
    dataset: Dataset


_FACTS = {"key": str, "split_rule": str, "duplicates_removed": int, "empty_documents": int, "tokenizer": dict,
          "sources": list, "splits": dict}  # fmt: skip
_COUNTS = ("documents", "bytes", "characters", "tokens", "unknown")


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _check(manifest: dict[str, Any]) -> None:
    """
    Raises:
        ValueError: a manifest that we did not write.
    """
    for name, kind in _FACTS.items():
        if not isinstance(manifest.get(name), kind):
            raise ValueError(f'{MANIFEST} has no "{name}", or a strange one')
    vocab_size = manifest["tokenizer"].get("vocab_size")
    if not _is_count(vocab_size) or vocab_size < 1 or "kind" not in manifest["tokenizer"]:
        raise ValueError(f'{MANIFEST} does not tell the "kind" and "vocab_size" of the tokenizer')
    if not all(isinstance(each, dict) and isinstance(each.get("file"), str) for each in manifest["sources"]):
        raise ValueError(f'{MANIFEST} has strange "sources"')
    if not {"train", "validation"} <= manifest["splits"].keys():
        raise ValueError(f'{MANIFEST} has no "train" or no "validation" in its "splits"')
    for part in manifest.get("mixture", []):
        if not (
            isinstance(part.get("folder"), str) and isinstance(part.get("name"), str) and 0 < part.get("share", 0) <= 1
        ):
            raise ValueError(f'{MANIFEST} has a strange "mixture"')
    for name, split in manifest["splits"].items():
        counts = [split[each] for each in _COUNTS if each in split]
        if not all(map(_is_count, counts)):
            raise ValueError(f'{MANIFEST}: the split "{name}" holds a count that is none')
        shards = split.get("shards", [])
        if not isinstance(shards, list) or not all(
            isinstance(each, str) and Path(each).name == each for each in shards
        ):
            raise ValueError(f'{MANIFEST}: the split "{name}" holds a shard that is not a file of the folder')


def _shard(path: Path) -> np.ndarray[Any, Any]:
    regular_file(path)
    with reading(path, what="is damaged, prepare the corpus again"):
        shard = np.load(path, mmap_mode="r", allow_pickle=False)
        if not isinstance(shard, np.ndarray) or shard.ndim != 1 or shard.dtype not in (np.uint16, np.uint32):
            raise ValueError("no row of tokens")
    return shard


def write_manifest(folder: Path, splits: dict[str, Split], **facts: Any) -> None:
    """Write dataset.json."""
    manifest = {**facts, "splits": {name: asdict(split) for name, split in splits.items()}}
    (folder / MANIFEST).write_bytes((json_text(manifest, indent=2) + "\n").encode())

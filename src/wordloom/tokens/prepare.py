"""From files of text to token shards: read, normalise, de-duplicate, split, learn a vocabulary, encode."""

import hashlib
import json
import tempfile
from array import array
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from wordloom.core.console import progress
from wordloom.core.errors import InputError
from wordloom.core.files import folder_aside, sha256_of_file
from wordloom.text.clean import normalize
from wordloom.text.dedup import SeenBefore, content_hash
from wordloom.text.documents import ReadOptions, find_files, read_documents
from wordloom.text.split import check_fraction, is_validation, tail_start
from wordloom.tokens.shards import MANIFEST, Dataset, ShardWriter, Split, token_dtype, write_manifest
from wordloom.tokens.tokenizer import TextTokenizer
from wordloom.tokens.train import Kind, default_vocab_size, train_tokenizer

_FORMAT = 1
_BATCH_CHARACTERS = 2_000_000
"""Text encoded at a time; bounds memory and keeps all cores busy."""


@dataclass(frozen=True)
class PrepareOptions:
    """How a corpus is prepared."""

    kind: Kind = "bpe"
    """Tokenizer to learn: bpe (byte-level), unigram, byte or char."""
    vocab_size: int | None = None
    """Tokens in the vocabulary; default: near the square root of the text's bytes, a power of two."""
    validation: float = 0.1
    """Part of the documents kept for validation, chosen by content hash. A corpus of fewer documents than
    1/validation gives the last part of each document instead."""


@dataclass(frozen=True)
class Prepared:
    """What `prepare` made or found."""

    dataset: Dataset
    reused: bool
    """Whether everything was there already."""


def prepare(
    paths: list[str],
    out: Path,
    options: PrepareOptions | None = None,
    reading: ReadOptions | None = None,
    tokenizer: TextTokenizer | None = None,
) -> Prepared:
    """Make a corpus that training can read.

    Args:
        paths: files, folders and globs.
        out: folder to write; replaced only if it is an earlier prepared corpus.
        options: see `PrepareOptions`.
        reading: see `text.documents.ReadOptions`.
        tokenizer: use this one instead of learning one.

    Returns:
        The corpus, and whether it was there already: it is keyed by the content of the files, the options
        and the tokenizer, so an unchanged call does nothing and any change is noticed.

    Raises:
        InputError: see `text.documents.read_documents` and `train_tokenizer`; or there is too little text.
    """
    options, reading = options or PrepareOptions(), reading or ReadOptions()
    check_fraction(options.validation)
    if out.exists() and not (out / MANIFEST).exists() and any(out.iterdir() if out.is_dir() else [out]):
        raise InputError(f"{out}: exists and is no prepared corpus, so it is not replaced. Choose another --out.")
    files = find_files(paths)
    sources = [{"file": str(file), "bytes": file.stat().st_size, "sha256": sha256_of_file(file)} for file in files]
    learning = {"kind": options.kind, "vocab_size": options.vocab_size}
    spec = {
        "format": _FORMAT,
        "texts": [[source["sha256"], "".join(file.suffixes)] for source, file in zip(sources, files, strict=True)],
        "reading": asdict(reading),
        "validation": options.validation,
        "tokenizer": tokenizer.fingerprint() if tokenizer else learning,
    }
    key = hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()
    if _key_of(out) == key:
        return Prepared(Dataset.open(out), reused=True)

    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=out.parent) as spool, folder_aside(out) as folder:
        corpus = _collect(files, reading, options.validation, spool)
        if tokenizer is None:
            vocab_size = options.vocab_size
            if vocab_size is None and options.kind in ("bpe", "unigram"):
                vocab_size = default_vocab_size(corpus.n_bytes)
                tokenizer = _learn(corpus, options.kind, vocab_size, may_shrink=True)
            else:
                tokenizer = _learn(corpus, options.kind, vocab_size, may_shrink=False)
        tokenizer.save_pretrained(folder)
        splits = _encode(corpus, tokenizer, folder)
        write_manifest(
            folder,
            splits,
            key=key,
            split_rule=corpus.rule,
            duplicates_removed=corpus.n_duplicates,
            empty_documents=corpus.n_empty,
            tokenizer={"kind": tokenizer.kind, "vocab_size": tokenizer.vocab_size, "sha256": tokenizer.fingerprint()},
            reading=asdict(reading),
            sources=sources,
        )
    return Prepared(Dataset.open(out), reused=False)


def _key_of(folder: Path) -> str | None:
    """The key of the corpus in a folder; None if there is none or it is not whole."""
    try:
        return Dataset.open(folder).key
    except InputError:
        return None


class _Corpus:
    """The cleaned documents, spooled to disk so that two passes cost neither memory nor parsing twice."""

    def __init__(self, spool: IO[bytes]):
        self._spool = spool
        self._lengths, self._validates = array("Q"), array("B")
        self.n_bytes = self.n_duplicates = self.n_empty = 0
        self.rule, self._tail = "by document, content hash", 0.0

    def add(self, text: str, validates: bool) -> None:
        data = text.encode()
        self._spool.write(data)
        self._lengths.append(len(data))
        self._validates.append(validates)
        self.n_bytes += len(data)

    def split_off(self, fraction: float, lowest: int) -> None:
        """Decide the split once all documents are known; `lowest` is the one with the lowest hash."""
        if len(self._lengths) < 1 / fraction:
            self.rule, self._tail = f"last {fraction:.0%} of each document", fraction
        elif not any(self._validates):
            self._validates[lowest] = True

    def documents(self) -> Iterator[tuple[str, str]]:
        """(split, text) in the order of reading."""
        self._spool.seek(0)
        for length, validates in zip(self._lengths, self._validates, strict=True):
            text = self._spool.read(length).decode()
            if not self._tail:
                yield "validation" if validates else "train", text
            else:
                cut = tail_start(text, self._tail)
                yield "train", text[:cut]
                yield "validation", text[cut:]

    def batches(self) -> Iterator[list[tuple[str, str]]]:
        """Documents in lists of about _BATCH_CHARACTERS."""
        batch: list[tuple[str, str]] = []
        size = 0
        for each in self.documents():
            batch.append(each)
            size += len(each[1])
            if size >= _BATCH_CHARACTERS:
                yield batch
                batch, size = [], 0
        if batch:
            yield batch


def _collect(files: list[Path], reading: ReadOptions, fraction: float, spool: IO[bytes]) -> _Corpus:
    corpus, seen_before = _Corpus(spool), SeenBefore()
    lowest, lowest_hash = 0, b"\xff" * 17
    with progress("Reading", sum(file.stat().st_size for file in files)) as bar:
        for document in read_documents(files, reading, on_bytes=bar.advance):
            text = normalize(document.text)
            digest = content_hash(text)
            if not text.strip():
                corpus.n_empty += 1
            elif seen_before(digest):
                corpus.n_duplicates += 1
            else:
                if digest < lowest_hash:
                    lowest, lowest_hash = len(corpus._lengths), digest
                corpus.add(text, is_validation(digest, fraction))
    if not corpus.n_bytes:
        raise InputError(f"{', '.join(map(str, files[:3]))}: no text found ({corpus.n_empty} empty documents).")
    corpus.split_off(fraction, lowest)
    return corpus


def _learn(corpus: _Corpus, kind: Kind, vocab_size: int | None, may_shrink: bool) -> TextTokenizer:
    """Learn from the training side only; validation must stay unseen."""
    while True:
        with progress("Learning the vocabulary", corpus.n_bytes) as bar:

            def texts(bar=bar) -> Iterator[list[str]]:
                for batch in corpus.batches():
                    yield [text for split, text in batch if split == "train"]
                    bar.advance(sum(len(text.encode()) for _, text in batch))

            try:
                return train_tokenizer(texts(), kind, vocab_size)
            except InputError:
                if not may_shrink or vocab_size is None or vocab_size <= 258:
                    raise
        vocab_size = max(258, vocab_size // 2)


def _encode(corpus: _Corpus, tokenizer: TextTokenizer, folder: Path) -> dict[str, Split]:
    """Every document as <bos> text <eos>; where both are one token, one stands between two documents."""
    opening = [tokenizer.bos_token_id] if tokenizer.bos_token_id is not None else []
    closing = [tokenizer.eos_token_id] if tokenizer.eos_token_id is not None else []
    between = [] if opening == closing else closing
    dtype = token_dtype(tokenizer.vocab_size)
    writers = {name: ShardWriter(folder, name, dtype) for name in ("train", "validation")}
    measures = {name: {"documents": 0, "bytes": 0, "characters": 0} for name in writers}
    with progress("Encoding", corpus.n_bytes) as bar:
        for batch in corpus.batches():
            encoded = tokenizer.encode_documents([text for _, text in batch])
            for (split, text), ids in zip(batch, encoded, strict=True):
                n_bytes = len(text.encode())
                writers[split].append([*opening, *ids, *between])
                measures[split]["documents"] += 1
                measures[split]["bytes"] += n_bytes
                measures[split]["characters"] += len(text)
                bar.advance(n_bytes)
    for writer in writers.values():
        if opening == closing:
            writer.append(closing)
        writer.close()
    return {
        name: Split(**measures[name], tokens=writers[name].n_tokens, shards=writers[name].shards) for name in writers
    }

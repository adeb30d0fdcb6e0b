"""From files of text to token shards: read, normalise, de-duplicate, split, learn a vocabulary, encode."""

import contextlib
import hashlib
import json
import shutil
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from wenloom.core.console import remark
from wenloom.core.errors import InputError, WenloomError
from wenloom.core.files import folder_aside, sha256_of_file
from wenloom.core.progress import ProgressBar, progress
from wenloom.core.quantities import counted, show_count
from wenloom.text.blocks import VERSION as BLOCKS
from wenloom.text.card_page import write_card
from wenloom.text.corpus import Corpus, read_corpus, read_sifted
from wenloom.text.documents import ReadOptions, find_files, refuse_idle
from wenloom.text.executors import Cluster
from wenloom.text.pipeline import check_steps, dropped_file, dropped_folder
from wenloom.text.recipe import Recipe
from wenloom.text.skipped import SkippedFile
from wenloom.text.split import check_fraction
from wenloom.tokens.characters import ascii_part, count_characters, needed_characters
from wenloom.tokens.places import PlaceWriter, has_places, write_beginnings
from wenloom.tokens.shards import MANIFEST, Dataset, ShardWriter, Split, token_dtype, write_manifest
from wenloom.tokens.tokenizer import TextTokenizer
from wenloom.tokens.train import Kind, default_vocab_size, train_tokenizer

_FORMAT = 2
_MOST_NAMED = 10_000
"""Skipped files that the manifest lists."""


@dataclass(frozen=True)
class PrepareOptions:
    """How a corpus is prepared."""

    kind: Kind = "bpe"
    """Tokenizer to learn: bpe (byte-level), unigram, byte or char."""
    vocab_size: int | None = None
    """Tokens in the vocabulary; default: about twice the square root of the text's bytes, and
    every character that 99 % of the text needs."""
    validation: float = 0.1
    """Part of the documents kept for validation, chosen by content hash. A corpus of fewer documents than
    1/validation gives the last part of each document instead."""
    validation_files: tuple[str, ...] = ()
    """Files, folders and globs that are the validation text, instead of a part of the other documents."""
    text_steps: tuple[str, ...] = ()
    """Further steps that every document goes through, in this order: repetition (drops what repeats itself)."""
    keep_duplicates: bool = False
    """Keep exact duplicates of documents."""
    show_skipped: bool = False
    """Name every file of a folder that is not read, instead of counting them by kind."""


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
    dropped: Path | None = None,
    recipe: Recipe | None = None,
    keep_dropped: Path | None = None,
    processes: int | None = None,
    on: Cluster | None = None,
) -> Prepared:
    """Make a corpus that training can read.

    Args:
        paths: files, folders and globs.
        out: folder to write; replaced only if it is an earlier prepared corpus.
        options: see `PrepareOptions`.
        reading: see `text.documents.ReadOptions`.
        tokenizer: use this one instead of learning one.
        dropped: write there what is left out and why, as JSON lines; everything is then read anew.
        recipe: steps that documents go through on all cores, instead of `options.text_steps`. An interrupted call goes on with the
            blocks that are done, which lie beside `out` until all is.
        keep_dropped: folder for whole documents that the recipe drops, by step.
        processes: for the recipe; default: one a core.
        on: a cluster that the recipe runs on; `out` then lies where all its machines see it.

    Returns:
        The corpus, and whether it was there already: it is keyed by the content of the files, the options
        and the tokenizer, so an unchanged call does nothing and any change is noticed.

    Raises:
        InputError: see `text.documents.read_documents` and `train_tokenizer`; or there is too little text.
    """
    options, reading = options or PrepareOptions(), reading or ReadOptions()
    check_fraction(options.validation)
    check_steps(options.text_steps)
    if out.exists() and not (out / MANIFEST).exists() and any(out.iterdir() if out.is_dir() else [out]):
        raise InputError(f"{out}: exists and is not a prepared corpus, so it is not replaced. Choose another --out.")
    skipped = list[SkippedFile]()
    files = find_files(paths, skipped, options.show_skipped)
    validation_files = find_files(list(options.validation_files)) if options.validation_files else []
    if both := set(files) & set(validation_files):
        raise InputError(f"{sorted(both)[0]}: cannot be training and validation text at once.")
    refuse_idle([*files, *validation_files], reading)
    for option, place in (("--write-dropped", dropped), ("--keep-dropped", keep_dropped)):
        if place is not None:
            _check_elsewhere(option, place, out, [*files, *validation_files])
    sources, validation_sources = _sources(files), _sources(validation_files)
    learning = {"kind": options.kind, "vocab_size": options.vocab_size}
    spec = {
        "format": _FORMAT,
        "texts": [[source["sha256"], "".join(Path(source["file"]).suffixes)] for source in sources],
        "validation_texts": [
            [source["sha256"], "".join(Path(source["file"]).suffixes)] for source in validation_sources
        ],
        "reading": _what_matters(reading),
        "validation": options.validation,
        "tokenizer": tokenizer.fingerprint() if tokenizer else learning,
        **({"text_steps": options.text_steps} if options.text_steps else {}),
        **({"keep_duplicates": True} if options.keep_duplicates else {}),
        **({"recipe": recipe.fingerprint(), "blocks": BLOCKS} if recipe else {}),
    }
    key = hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()
    work = out.with_name(f".{out.name}.work") / key[:16]
    if dropped is None and keep_dropped is None and _key_of(out) == key and has_places(out):
        shutil.rmtree(work.parent, ignore_errors=True)
        return Prepared(Dataset.open(out), reused=True)

    out.parent.mkdir(parents=True, exist_ok=True)
    with dropped_file(dropped) as told, dropped_folder(keep_dropped) as kept:
        if recipe is None:
            corpus = read_corpus(files, reading, options.validation, out.parent, validation_files, options.text_steps, told,
                                 options.keep_duplicates)  # fmt: skip
        else:
            tell = [each.document for each in (told, kept) if each is not None]
            with _kept_if_stopped(work):
                corpus = read_sifted(
                    files, reading, options.validation, out.parent, recipe, work, validation_files, tell, processes, on
                )
    whole = corpus.refusals.whole_files
    if tokenizer is None:
        tokenizer = learn(corpus, options.kind, options.vocab_size)
    left_out = {"rows": corpus.refusals.count, "first": corpus.refusals.as_json()}
    passed_over = [{"file": str(each.path), "why": each.why} for each in skipped[:_MOST_NAMED]]
    with folder_aside(out) as folder:
        tokenizer.save_pretrained(folder)
        splits = _encode(corpus, tokenizer, folder)
        write_manifest(
            folder,
            splits,
            key=key,
            split_rule=corpus.rule,
            duplicates_removed=corpus.dropped["duplicates"],
            empty_documents=corpus.dropped["empty"],
            text_steps={name: count for name, count in corpus.dropped.items() if name not in ("duplicates", "empty")},
            **({"recipe": {"name": recipe.name, "steps": recipe.resolved()}} if recipe else {}),
            left_out=left_out,
            tokenizer={"kind": tokenizer.kind, "vocab_size": tokenizer.vocab_size, "sha256": tokenizer.fingerprint()},
            reading=asdict(reading),
            skipped=passed_over,
            sources=[each for each in sources + validation_sources if Path(each["file"]) not in whole],
        )
        if corpus.card is not None:
            write_card(folder, corpus.card, sources + validation_sources, left_out, passed_over)
    shutil.rmtree(work.parent, ignore_errors=True)
    return Prepared(Dataset.open(out), reused=False)


@contextlib.contextmanager
def _kept_if_stopped(work: Path) -> Iterator[None]:
    """Say what Ctrl-C, a full disk and a process that ends do not lose."""
    try:
        yield
    except (KeyboardInterrupt, OSError, BrokenExecutor) as error:
        done = len(list(work.glob("*.npz"))) if work.is_dir() else 0
        if done:
            are = "is" if done == 1 else "are"
            remark(
                f"{counted(done, 'block')} of documents {are} done and kept in {work}: the same command goes on from there."
            )
        if isinstance(error, BrokenExecutor):
            raise WenloomError(
                "A process that took documents through the recipe was killed; where memory ran out, --processes takes fewer at a time."
            ) from None
        raise


def _check_elsewhere(option: str, dropped: Path, out: Path, files: list[Path]) -> None:
    """
    Raises:
        InputError: what is left out would be written over a text, or into the folder that is replaced as a whole.
    """
    place = dropped.resolve()
    if place.is_relative_to(out.resolve()):
        raise InputError(f"{option} {dropped}: lies in --out {out}, which is replaced as a whole; choose another.")
    if out.resolve().is_relative_to(place):
        raise InputError(f"{option} {dropped}: holds --out {out}; choose another.")
    if any(file.resolve().is_relative_to(place) for file in files):
        raise InputError(f"{option} {dropped}: is one of the texts, or holds one; choose another.")


def _what_matters(reading: ReadOptions) -> dict[str, Any]:
    """The options on which the text depends: a limit that stops the reading leaves no trace in what was read."""
    facts = asdict(reading)
    if not reading.skip_bad:
        del facts["skip_bad"], facts["max_document_mb"]
    return facts


def _sources(files: list[Path]) -> list[dict[str, Any]]:
    return [{"file": str(file), "bytes": file.stat().st_size, "sha256": sha256_of_file(file)} for file in files]


def _key_of(folder: Path) -> str | None:
    """The key of the corpus in a folder; None if there is none or it is not whole."""
    try:
        return Dataset.open(folder).key
    except InputError:
        return None


def learn(corpus: Corpus, kind: Kind, vocab_size: int | None) -> TextTokenizer:
    """Learn a vocabulary from a corpus: of the size that is asked for by frequency alone; without one, of the default size
    or what the text supports, in which the characters of the text are whole.

    Raises:
        InputError: the text does not support the size that was asked for.
    """
    if kind == "byte":
        return train_tokenizer([], kind, vocab_size)
    with progress("Learning the vocabulary") as bar:
        if kind == "char":  # a character left out of the sample would be unknown for ever
            return train_tokenizer(_counted(corpus.learning_sample(None), bar), kind, vocab_size)
        if vocab_size is not None:
            return train_tokenizer(_counted(corpus.learning_sample(), bar), kind, vocab_size)
        counts = count_characters(corpus.learning_sample())
        characters = needed_characters(counts)
        size = default_vocab_size(corpus.n_bytes, characters, ascii_part(counts))
        sample = _counted(corpus.learning_sample(), bar)
        return train_tokenizer(sample, kind, size, exact=False, characters=characters)


def _counted(batches: Iterator[list[str]], bar: ProgressBar) -> Iterator[list[str]]:
    read = 0
    for batch in batches:
        yield batch
        read += sum(map(len, batch))
        bar.advance(0, f"{show_count(read)} characters read, merging follows")


def _encode(corpus: Corpus, tokenizer: TextTokenizer, folder: Path) -> dict[str, Split]:
    """Every document as <bos> text <eos>; where both are one token, one stands between two documents."""
    opening = [tokenizer.bos_token_id] if tokenizer.bos_token_id is not None else []
    closing = [tokenizer.eos_token_id] if tokenizer.eos_token_id is not None else []
    between = [] if opening == closing else closing
    dtype, unknown = token_dtype(tokenizer.vocab_size), tokenizer.unk_token_id
    writers = {name: ShardWriter(folder, name, dtype) for name in ("train", "validation")}
    places = {name: PlaceWriter() for name in writers}
    measures = {name: {"documents": 0, "bytes": 0, "characters": 0, "unknown": 0} for name in writers}
    origins, n_read = corpus.origins, 0
    with progress("Encoding", corpus.n_bytes, "bytes") as bar:
        for batch in corpus.batches():
            encoded = tokenizer.encode_documents([text for _, text in batch])
            for (split, text), ids in zip(batch, encoded, strict=True):
                n_bytes, number = len(text.encode()), n_read // 2 if corpus.is_cut else n_read
                places[split].add(writers[split].n_tokens, origins.which[number], origins.numbers[number])
                n_read += 1
                writers[split].append([*opening, *ids, *between])
                measures[split]["documents"] += 1
                measures[split]["bytes"] += n_bytes
                measures[split]["characters"] += len(text)
                measures[split]["unknown"] += ids.count(unknown) if unknown is not None else 0
                bar.advance(n_bytes)
    for name, writer in writers.items():
        if opening == closing:
            writer.append(closing)
        writer.close()
        places[name].write(folder, name)
    write_beginnings(folder, origins.beginnings)
    return {
        name: Split(**measures[name], tokens=writers[name].n_tokens, shards=writers[name].shards) for name in writers
    }

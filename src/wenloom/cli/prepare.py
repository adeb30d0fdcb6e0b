"""`wenloom prepare`."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from wenloom.checkpoint.hub import resolve
from wenloom.cli.options import Json, Reading, flags, refuse_unused
from wenloom.core.console import print_json, say
from wenloom.core.errors import InputError
from wenloom.text.documents import ReadOptions
from wenloom.tokens.prepare import Prepared, PrepareOptions
from wenloom.tokens.prepare import prepare as prepare_corpus
from wenloom.tokens.shards import MANIFEST
from wenloom.tokens.tokenizer import TextTokenizer


def prepare(
    paths: list[str],
    /,
    *,
    out: Path,
    options: Annotated[PrepareOptions, flags("Corpus", 2)] = PrepareOptions(),
    reading: Reading = ReadOptions(),
    tokenizer: Annotated[
        str | None, Parameter(help="Use the tokenizer of this folder (or hub model) instead of learning one.")
    ] = None,
    write_dropped: Path | None = None,
    json: Json = False,
) -> None:
    """Turn text files into a training corpus.

    Reads txt, md, html, csv, tsv, json, jsonl, tex, rst, xml and code, also compressed (.gz, .zst); normalises Unicode, drops exact
    duplicates, keeps part of the documents for validation, learns a tokenizer, and writes memory-mapped
    token shards. Running it again does nothing unless a file, an option or the tokenizer changed.

        wenloom prepare my-texts/ --out data/mine
        wenloom prepare 'poems/*.jsonl.gz' --text-field title --text-field paragraphs --out data/poems
        wenloom prepare hf:roneneldan/TinyStories:validation --out data/tiny
        wenloom prepare stories.txt --separator '<|endoftext|>' --out data/stories

    Parameters
    ----------
    paths
        Files, folders (everything readable below), globs, and data sets of the hub as hf:owner/name, with a configuration
        (hf:owner/name/config) or a split (hf:owner/name:train).
    out
        Folder for the corpus.
    write_dropped
        Write what is left out here, as JSON lines: where it stands, which step dropped it and why, and how it begins.
        Everything is then read anew.
    """
    if options.validation_files:
        refuse_unused("--validation-files are the validation text; leave it out",
                      validation=options.validation != PrepareOptions.validation)  # fmt: skip
    given = None
    if tokenizer is not None:
        if options.kind != PrepareOptions.kind or options.vocab_size is not None:
            raise InputError("--tokenizer brings its own vocabulary: leave out --kind and --vocab-size.")
        given = TextTokenizer.from_pretrained(resolve(tokenizer))
    prepared = prepare_corpus(paths, out, options, reading, given, write_dropped)
    print_json(prepared.dataset.manifest | {"reused": prepared.reused}) if json else say(summary(prepared))


_COUNTS = ("documents", "bytes", "tokens")


def summary(prepared: Prepared) -> str:
    """What was made, in a few lines."""
    dataset = prepared.dataset
    facts, splits = dataset.manifest, dataset.splits
    lines = [
        f"{dataset.folder}: nothing changed since it was prepared."
        if prepared.reused
        else f"{dataset.folder}: prepared."
    ]
    widths = [max(len(f"{getattr(split, count):,}") for split in splits.values()) for count in _COUNTS]
    for name, split in splits.items():
        counts = ", ".join(
            f"{getattr(split, each):>{width},} {each}" for each, width in zip(_COUNTS, widths, strict=True)
        )
        lines.append(
            f"  {name:10} {counts} ({split.bytes / max(1, split.tokens):.2f} bytes each)"
            + f", {split.unknown:,} of them unknown" * bool(split.unknown)
        )
    dropped = [f"{facts['duplicates_removed']:,} duplicates" * bool(facts["duplicates_removed"]),
               f"{facts['empty_documents']:,} empty documents" * bool(facts["empty_documents"])]  # fmt: skip
    dropped += [f"{count:,} by {name}" for name, count in facts.get("text_steps", {}).items() if count]
    if n_bad := facts.get("left_out", {}).get("rows"):
        dropped.append(f"{n_bad:,} rows or files that cannot be used (listed in {dataset.folder / MANIFEST})")
    if any(dropped):
        lines.append(f"  left out   {' and '.join(filter(None, dropped))}")
    tokenizer = facts["tokenizer"]
    lines.append(
        f"  tokenizer  {tokenizer['kind']}, {tokenizer['vocab_size']:,} tokens; validation is {facts['split_rule']}"
    )
    return "\n".join(lines)

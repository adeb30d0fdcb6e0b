"""`wenloom tokenizer train` and `wenloom tokenizer report`."""

import shlex
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.table import Table

from wenloom.checkpoint.hub import resolve
from wenloom.cli.options import Json, Reading, changed, refuse_unused
from wenloom.core.console import out as console
from wenloom.core.console import print_json, say
from wenloom.core.errors import InputError
from wenloom.core.files import folder_aside
from wenloom.core.progress import progress
from wenloom.text.corpus import read_corpus
from wenloom.text.documents import SKIP_BAD, Document, ReadOptions, find_files, hold_rows, read_documents, refuse_idle
from wenloom.text.refusals import Refusals
from wenloom.tokens.configuration import TOKENIZER
from wenloom.tokens.prepare import learn
from wenloom.tokens.report import Fit, measure, measure_passage
from wenloom.tokens.tokenizer import TextTokenizer
from wenloom.tokens.train import Kind


def train(
    paths: list[str],
    /,
    *,
    out: Path,
    kind: Kind = "bpe",
    vocab_size: int | None = None,
    reading: Reading = ReadOptions(),
    json: Json = False,
) -> None:
    """Train a tokenizer on text in any language.

    The folder it writes (tokenizer.json, tokenizer_config.json) is read by transformers too, and by
    `wenloom prepare --tokenizer`.

        wenloom tokenizer train my-texts/ --out my-tokenizer --vocab-size 8192
        wenloom tokenizer report my-tokenizer

    Parameters
    ----------
    paths
        Files, folders and globs.
    out
        Folder for the tokenizer.
    kind
        bpe (byte-level), unigram, byte or char.
    vocab_size
        Number of tokens; default: about twice the square root of the text's bytes, and every character that 99 % of
        the text needs.
    """
    if out.exists() and not (out / TOKENIZER).exists() and any(out.iterdir() if out.is_dir() else [out]):
        raise InputError(f"{out}: exists and is not a tokenizer, so it is not replaced. Choose another --out.")
    out.parent.mkdir(parents=True, exist_ok=True)
    tokenizer = learn(read_corpus(find_files(paths), reading, None, out.parent), kind, vocab_size)
    with folder_aside(out) as folder:
        tokenizer.save_pretrained(folder)
    if json:
        print_json({"folder": str(out), "kind": tokenizer.kind, "vocab_size": tokenizer.vocab_size})
    else:
        look = f"wenloom tokenizer report {shlex.quote(str(out))}"
        say(f"{out}: {tokenizer.kind}, {tokenizer.vocab_size:,} tokens. Look at it: {look}")


def _read(files: list[Path], reading: ReadOptions) -> Iterator[Document]:
    refuse_idle(files, reading)
    with progress("Reading", sum(file.stat().st_size for file in files), "bytes") as bar:
        yield from read_documents(files, reading, bar.advance, Refusals(not reading.skip_bad, SKIP_BAD))


def report(
    tokenizer: str,
    /,
    paths: Annotated[
        list[str] | None, Parameter(help="Files, folders and globs; default: a passage in twelve languages.")
    ] = None,
    *,
    language_field: Annotated[
        str | None, Parameter(help="Group jsonl or csv rows by this field; default: by file.")
    ] = None,
    reading: Reading = ReadOptions(),
    json: Json = False,
) -> None:
    """Report bytes, characters and words per token, by language.

    More bytes per token means shorter sequences, so more text for the same work. A tokenizer that never saw
    a language spends about one token a byte on it.

        wenloom tokenizer report runs/quickstart
        wenloom tokenizer report my-tokenizer 'texts/*.txt'

    Parameters
    ----------
    tokenizer
        A folder with a tokenizer, or a hub model.
    """
    if not paths:
        refuse_unused(
            "goes with files to read; name some", language_field=language_field is not None, **changed(reading)
        )
    loaded = TextTokenizer.from_pretrained(resolve(tokenizer))
    files = find_files(paths) if paths else []
    if files and language_field is not None and not hold_rows(files):
        raise InputError("--language-field has no effect here: it names a field of jsonl, csv and tsv files.")
    documents = _read(files, reading) if files else None
    fits = measure(loaded, documents, language_field) if documents else measure_passage(loaded)
    if json:
        derived = ("bytes_per_token", "characters_per_token", "tokens_per_word")
        rows = [asdict(fit) | {name: getattr(fit, name) for name in derived} for fit in fits]
        print_json({"kind": loaded.kind, "vocab_size": loaded.vocab_size, "languages": rows})
    else:
        console.print(_table(loaded, fits), crop=False)


def _table(tokenizer: TextTokenizer, fits: list[Fit]) -> Table:
    table = Table(
        title=f"{tokenizer.kind}, {tokenizer.vocab_size:,} tokens",
        title_justify="left",
        box=None,
        width=max(66, min(console.width, 80)),
    )
    table.add_column("language", overflow="fold")
    for name in ("bytes\n/token", "characters\n/token", "tokens\n/word", "tokens", "unknown", "lossless"):
        table.add_column(name, justify="right", no_wrap=True)
    for fit in sorted(fits, key=lambda fit: -fit.bytes_per_token):
        table.add_row(
            fit.language,
            f"{fit.bytes_per_token:.2f}",
            f"{fit.characters_per_token:.2f}",
            f"{fit.tokens_per_word:.2f}",
            f"{fit.tokens:,}",
            f"{fit.unknown:,}",
            "yes" if fit.lossless else "no",
        )
    return table

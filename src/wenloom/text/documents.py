"""Documents, and readers of text, web pages, tables, JSON, code and markup, also compressed (gz, zst).

Every reader takes a file bit by bit: what it keeps in memory is one document, whose length is bounded.
"""

import glob
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from wenloom.core.errors import InputError, printable
from wenloom.core.foreign import kind_of, reading, regular_file
from wenloom.text.compression import COMPRESSIONS
from wenloom.text.encoding import check_encoding, decoded, encoding_of, pieces_of
from wenloom.text.html import visible_text
from wenloom.text.hub import download, is_hub_data
from wenloom.text.kinds import ABOUT_PACKAGES, CODE, NOTES
from wenloom.text.lines import ROW_BYTES, Line, json_lines
from wenloom.text.markup import rst_text, tex_text, xml_text
from wenloom.text.objects import json_rows
from wenloom.text.parquet import parquet_rows
from wenloom.text.refusals import Refusals
from wenloom.text.skipped import SkippedFile, counted, tell
from wenloom.text.spoken import spoken_sentences
from wenloom.text.tables import table_rows


@dataclass(frozen=True)
class Document:
    """One text and where it was found."""

    text: str
    """The text, as read."""
    source: str
    """File and, where a file holds several, line: `corpus.jsonl, line 17`."""
    fields: dict[str, Any] = field(default_factory=dict)
    """The other fields of its row (jsonl, csv)."""


@dataclass(frozen=True)
class ReadOptions:
    """How files are read."""

    text_field: tuple[str, ...] = ("text",)
    """Field or column that holds the text (jsonl, csv); several are joined by a line break. A list of
    strings counts as its lines."""
    separator: str | None = None
    """Text that separates documents inside txt and md files, such as '<|endoftext|>'."""
    encoding: str = "utf-8"
    """Character encoding of the files; 'auto' guesses per file. A byte order mark wins over both."""
    repair: bool = False
    """Replace bytes that are wrong in the encoding by U+FFFD instead of refusing the file."""
    spoken: bool = False
    """A document for each sentence, in bare words, as speech recognisers write: for `wenloom rescore`."""
    skip_bad: bool = False
    """Leave out rows and files that cannot be used, named and counted, instead of stopping at the first."""
    max_document_mb: int | None = None
    """Most megabytes (2^20 bytes) of one document; default: 256 in txt and md, 16 of a row or page."""

    def __post_init__(self):
        if self.separator == "":
            raise InputError("--separator '': is empty; name the text that stands between documents.")
        if not self.text_field or not all(self.text_field):
            raise InputError("--text-field '': is empty; name the field that holds the text.")
        if self.max_document_mb is not None and not 1 <= self.max_document_mb <= 2**20:
            raise InputError(f"--max-document-mb {self.max_document_mb}: must be between 1 and 1,048,576.")
        check_encoding(self.encoding)

    def most(self, default: int) -> int:
        """Bytes that a document may have."""
        return default if self.max_document_mb is None else self.max_document_mb * 2**20


SKIP_BAD = "--skip-bad leaves out what cannot be read"
_FRAME = "to_json('texts.jsonl', orient='records', lines=True, force_ascii=False)"
_CONVERSIONS = {
    ".arrow": f"; convert it: datasets.Dataset.from_file(FILE).{_FRAME}",
    ".xlsx": f"; convert it: pandas.read_excel(FILE).{_FRAME}",
}
"""What to do with files of other kinds."""
_TEXT_BYTES = 256 * 2**20
"""Of a txt or md file that is one document; enwik8 has 100 million bytes."""


_JSON_BYTES = 64 * 2**20
"""Of a JSON file, which is parsed as a whole."""


def find_files(paths: list[str], skipped: list[SkippedFile] | None = None, show_skipped: bool = False) -> list[Path]:
    """Files named by paths, folders, globs and data sets of the hub (`text.hub.download`), sorted.

    Of a folder, all files of known kinds below it are taken, but not hidden ones nor notes about the data
    (README, LICENSE, SOURCE and the like); name such a file itself to read it. Links to folders, pipes,
    devices and empty files in it are passed over, and a remark counts the files that are not read.

    Args:
        skipped: told which files of folders are not read.
        show_skipped: name each of them.

    Raises:
        InputError: a path does not exist, is not a file or cannot be looked into, or a glob or folder holds no
            readable file.
    """
    found: dict[Path, None] = {}
    for name in paths:
        if is_hub_data(name):
            found |= dict.fromkeys(download(name, lambda file: _why_unread(file) is None and _kind(file) not in CODE))
            continue
        with reading(name):
            path = Path(name).expanduser()
            if path.is_dir():
                readable, others = _files_below(path)
                tell(path, others, show_skipped)
                if skipped is not None:
                    skipped += others
            elif glob.has_magic(name) and not path.exists():
                readable = sorted(
                    Path(match) for match in glob.glob(str(path), recursive=True) if Path(match).is_file()
                )
                if not readable:
                    raise InputError(f"{name}: no file matches this pattern.")
            else:
                regular_file(path)
                readable = [path]
        found |= dict.fromkeys(readable)
    for file in found:
        if _kind(file) not in _READERS:
            known = _KNOWN
            mend = _CONVERSIONS.get(_kind(file), "")
            raise InputError(
                f"{file}: kind {_kind(file) or '(no ending)'!r} is not known{mend}. Known: {known}, also .gz and .zst."
            )
    return list(found)


def hold_rows(files: list[Path]) -> bool:
    """Whether one of the files has rows with fields."""
    return any(_READERS[_kind(file)] in (_jsonl, _json, _parquet, _csv) for file in files)


def refuse_idle(files: list[Path], options: ReadOptions) -> None:
    """
    Raises:
        InputError: an option is for files of a kind of which there is none.
    """
    if options.separator is not None and all(_READERS[_kind(file)] is not _plain for file in files):
        raise InputError(
            "--separator has no effect here: it parts the documents of txt and md files, and none is read."
        )
    if options.text_field != ReadOptions.text_field and not hold_rows(files):
        raise InputError(
            "--text-field has no effect here: it names a field of rows (jsonl, json, csv, tsv, parquet), and none is read."
        )


def _files_below(folder: Path) -> tuple[list[Path], list[SkippedFile]]:
    readable, others = list[Path](), list[SkippedFile]()

    def refuse(error: OSError) -> None:
        raise InputError(f"{error.filename}: cannot be looked into ({(error.strerror or str(error)).lower()}).")

    for root, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [each for each in folders if not each.startswith(".")]
        for name in names:
            file = Path(root, name)
            if name.startswith(".") or not file.is_file():
                continue
            why = _why_skipped(file)
            if why is None:
                readable.append(file)
            else:
                others.append(SkippedFile(file, why))
    if not readable:
        what = f"{len(others)} file(s), none to read ({counted(others)})" if others else "no files"
        raise InputError(f"{folder}: holds {what}. Known kinds: {_KNOWN}, also .gz and .zst.")
    return sorted(readable), sorted(others)


def _why_skipped(file: Path) -> str | None:
    return _why_unread(file) or (None if file.stat().st_size else "empty")


def _why_unread(file: Path) -> str | None:
    """By its name."""
    if _kind(file) not in _READERS:
        return _kind(file) or "no ending"
    if NOTES.match(file.name) and _kind(file) not in CODE:
        return "notes"
    if ABOUT_PACKAGES.fullmatch(file.name):
        return "about a package"
    return None


def read_documents(
    files: list[Path],
    options: ReadOptions | None = None,
    on_bytes: Callable[[int], None] = lambda n: None,
    refusals: Refusals | None = None,
) -> Iterator[Document]:
    """Read files one after the other, each as a stream.

    Args:
        files: see `find_files`.
        options: see `ReadOptions`.
        on_bytes: told the size of every file once it is read, for a progress bar.
        refusals: told what was left out (`ReadOptions.skip_bad`).

    Raises:
        InputError: a file that is empty, binary, wrongly encoded, damaged, changed while it was read or without the
            text field, or a document too long; the message names the file, the byte or line, and the mend.
    """
    options = options or ReadOptions()
    refusals = refusals or Refusals(strict=not options.skip_bad)
    for file in files:
        try:
            yield from _read(_Source(file, options, refusals))
        except InputError as error:
            if refusals.strict:
                raise refusals.with_mend(error) from None
            refusals.in_a_row = 0
            refusals.refuse(file, 0, str(error).removeprefix(f"{file}: "))
        on_bytes(file.stat().st_size if file.exists() else 0)


class _Source(NamedTuple):
    """A file, how it is read, and who is told what is left out."""

    file: Path
    options: ReadOptions
    refusals: Refusals


def _read(source: _Source) -> Iterator[Document]:
    file = source.file
    before = regular_file(file)
    if before.st_size == 0:
        raise InputError(f"{file}: is empty; leave it out.")
    documents = _READERS[_kind(file)](source)
    with reading(file):
        yield from _sentences(documents) if source.options.spoken else documents
    after = regular_file(file)
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise InputError(f"{file}: was changed while it was read; read it when nothing writes to it.")


def _sentences(documents: Iterator[Document]) -> Iterator[Document]:
    for document in documents:
        for number, sentence in enumerate(spoken_sentences(document.text), 1):
            yield Document(sentence, f"{document.source}, sentence {number}", document.fields)


def _kind(file: Path) -> str:
    """The ending that says what is inside, compression endings taken off: `a.jsonl.gz` is `.jsonl`."""
    suffixes = [suffix.lower() for suffix in file.suffixes[-2:]]
    if suffixes and suffixes[-1] in COMPRESSIONS:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def _whole(source: _Source, most: int) -> str:
    """
    Raises:
        InputError: more bytes than `most`.
    """
    parts, n_bytes = [], 0
    for text, size in pieces_of(source.file, source.options.encoding, source.options.repair):
        parts.append(text)
        n_bytes += size
        if n_bytes > most:
            raise InputError(
                f"{source.file}: is one document of more than {most:,} bytes; part it, with --separator where documents "
                "are joined in it, or allow more with --max-document-mb."
            )
    return "".join(parts)


def _plain(source: _Source) -> Iterator[Document]:
    most, separator = source.options.most(_TEXT_BYTES), source.options.separator
    if separator is None:
        yield Document(_whole(source, most), str(source.file))
        return
    number, size, waiting, tail = 1, 0, list[str](), ""
    for text, _ in pieces_of(source.file, source.options.encoding, source.options.repair):
        waiting.append(text)
        size += len(text)
        if separator in tail + text:
            *whole, rest = "".join(waiting).split(separator)
            for part in whole:
                yield Document(part.strip("\r\n"), f"{source.file}, part {number}")
                number += 1
            size, waiting, tail, text = len(rest), [rest], "", rest
        if size > most:
            raise InputError(
                f"{source.file}, part {number}: is longer than {most:,} characters; allow more with --max-document-mb."
            )
        tail = (tail + text)[1 - len(separator) :] if len(separator) > 1 else ""
    yield Document("".join(waiting).strip("\r\n"), f"{source.file}, part {number}")


def _html(source: _Source) -> Iterator[Document]:
    yield Document(visible_text(_whole(source, source.options.most(ROW_BYTES))), str(source.file))


def _markup(text_of: Callable[[str], str]) -> Callable[[_Source], Iterator[Document]]:
    def read(source: _Source) -> Iterator[Document]:
        yield Document(text_of(_whole(source, source.options.most(ROW_BYTES))), str(source.file))

    return read


def _json(source: _Source) -> Iterator[Document]:
    for number, row in json_rows(source.file, _whole(source, source.options.most(_JSON_BYTES))):
        if isinstance(row, str):
            row = dict.fromkeys(source.options.text_field[:1], row)
        yield from _of_row(row, number, source, "row")


def _parquet(source: _Source) -> Iterator[Document]:
    for number, row in parquet_rows(source.file):
        yield from _of_row(row, number, source, "row")


def _document(row: dict[str, Any], line: int, source: _Source, unit: str = "line") -> Document:
    """
    Raises:
        ValueError: the row has no text.
    """
    names = source.options.text_field
    parts = []
    for name in names:
        if name not in row:
            found = ", ".join(printable(str(each), 40) for each in row)[:200] or "none"
            table = "; line 1 names the columns" * (_READERS[_kind(source.file)] is _csv)
            raise ValueError(f'no field "{name}" (found: {found}{table}). Name it with --text-field')
        value = row[name]
        if isinstance(value, list) and all(isinstance(line, str) for line in value):
            value = "\n".join(value)
        if not isinstance(value, str):
            raise ValueError(f'field "{name}" holds {kind_of(value)}, not text')
        parts.append(value)
    others = {name: value for name, value in row.items() if name not in names}
    return Document("\n".join(parts), f"{source.file}, {unit} {line}", others)


def _jsonl(source: _Source) -> Iterator[Document]:
    file, options = source.file, source.options
    encoding = None

    def text_of(line: Line) -> str:
        nonlocal encoding
        if encoding is None:
            encoding = encoding_of(line.data[:65536], file, options.encoding)
            if encoding.startswith(("utf-16", "utf-32")):
                raise InputError(f"{file}: jsonl must be UTF-8, this is {encoding}.")
        return decoded(line.data, encoding, options.repair, line.offset)

    for number, row in json_lines(file, text_of, source.refusals, options.most(ROW_BYTES)):
        yield from _of_row(row, number, source)


def _csv(source: _Source) -> Iterator[Document]:
    options, delimiter = source.options, "\t" if _kind(source.file) == ".tsv" else None
    rows = table_rows(source.file, source.refusals, delimiter, options.encoding, options.repair,
                      options.most(ROW_BYTES), options.text_field)  # fmt: skip
    for number, row in rows:
        yield from _of_row(row, number, source)


def _of_row(row: Any, line: int, source: _Source, unit: str = "line") -> Iterator[Document]:
    """The document of a row, unless it is refused."""
    try:
        if not isinstance(row, dict):
            raise ValueError(f"holds {kind_of(row)}, expected an object {{...}} or a text")
        document = _document(row, line, source, unit)
    except ValueError as error:
        source.refusals.refuse(source.file, line, str(error), unit)
        return
    source.refusals.in_a_row = 0
    yield document


_READERS: dict[str, Callable[[_Source], Iterator[Document]]] = {
    ".txt": _plain,
    ".md": _plain,
    ".html": _html,
    ".htm": _html,
    ".jsonl": _jsonl,
    ".json": _json,
    ".parquet": _parquet,
    ".tex": _markup(tex_text),
    ".rst": _markup(rst_text),
    ".xml": _markup(xml_text),
    ".csv": _csv,
    ".tsv": _csv,
    **dict.fromkeys(CODE, _markup(str)),
}
_KNOWN = ", ".join(sorted(each for each in _READERS if each not in CODE)) + " and code (.py, .c, .js ...)"

"""Documents, and readers of txt, md, html, csv and jsonl, also compressed (gz, zst)."""

import codecs
import csv
import glob
import io
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wenloom.core.errors import InputError
from wenloom.text.compression import COMPRESSIONS, damaged_archive, open_decompressed
from wenloom.text.html import visible_text
from wenloom.text.spoken import spoken_sentences


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


_NOTES = re.compile(r"(readme|licen[cs]e|copying|notice|source|citation|changelog|datacard)\b", re.IGNORECASE)


def find_files(paths: list[str]) -> list[Path]:
    """Files named by paths, folders and globs, sorted.

    Of a folder, all files of known kinds below it are taken, but not hidden ones nor notes about the data
    (README, LICENSE, SOURCE and the like); name such a file itself to read it.

    Raises:
        InputError: a path does not exist or a glob or folder holds no readable file.
    """
    found: dict[Path, None] = {}
    for name in paths:
        path = Path(name).expanduser()
        if path.is_dir():
            files = [
                file
                for file in sorted(path.rglob("*"))
                if file.is_file() and not any(part.startswith(".") for part in file.relative_to(path).parts)
            ]
            readable = [file for file in files if _kind(file) in _READERS and not _NOTES.match(file.name)]
            if not readable:
                what = f"{len(files)} file(s), none to read" if files else "no files"
                raise InputError(
                    f"{path}: holds {what}. Known kinds: {', '.join(sorted(_READERS))}, also .gz and .zst."
                )
        elif glob.has_magic(name) and not path.exists():
            readable = sorted(Path(match) for match in glob.glob(str(path), recursive=True) if Path(match).is_file())
            if not readable:
                raise InputError(f"{name}: no file matches this pattern.")
        elif not path.exists():
            raise InputError(f"{path}: no such file or folder.")
        else:
            readable = [path]
        found |= dict.fromkeys(readable)
    for file in found:
        if _kind(file) not in _READERS:
            known = ", ".join(sorted(_READERS))
            raise InputError(
                f"{file}: kind {_kind(file) or '(no ending)'!r} is not known. Known: {known}, also .gz and .zst."
            )
    return list(found)


def read_documents(
    files: list[Path], options: ReadOptions | None = None, on_bytes: Callable[[int], None] = lambda n: None
) -> Iterator[Document]:
    """Read files one after the other; rows of jsonl and csv are streamed.

    Args:
        files: see `find_files`.
        options: see `ReadOptions`.
        on_bytes: told the size of every file once it is read, for a progress bar.

    Raises:
        InputError: a file that is empty, binary, wrongly encoded, damaged or without the text field; the
            message names the file, the byte or line, and the mend.
    """
    options = options or ReadOptions()
    for file in files:
        try:
            if file.stat().st_size == 0:
                raise InputError(f"{file}: is empty.")
            documents = _READERS[_kind(file)](file, options)
            yield from _sentences(documents) if options.spoken else documents
        except damaged_archive() as error:
            raise InputError(f"{file}: the compressed file is damaged or cut short ({error}).") from None
        except OSError as error:
            raise InputError(f"{file}: cannot be read ({error.strerror or error}).") from None
        on_bytes(file.stat().st_size)


def _sentences(documents: Iterator[Document]) -> Iterator[Document]:
    for document in documents:
        for number, sentence in enumerate(spoken_sentences(document.text), 1):
            yield Document(sentence, f"{document.source}, sentence {number}", document.fields)


def _kind(file: Path) -> str:
    """The ending that says what is inside, compression endings taken off: `a.jsonl.gz` is `.jsonl`."""
    suffixes = [suffix.lower() for suffix in file.suffixes]
    while suffixes and suffixes[-1] in COMPRESSIONS:
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
          (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))  # fmt: skip


def _encoding_of(head: bytes, file: Path, options: ReadOptions) -> str:
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return "utf-8-sig" if encoding == "utf-8" else encoding
    wide = options.encoding.lower().replace("_", "-").startswith(("utf-16", "utf-32"))
    if b"\0" in head and not wide:
        raise InputError(f"{file}: is binary, not text (a zero byte at offset {head.index(0)}).")
    if options.encoding != "auto":
        return options.encoding
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
        return "utf-8"
    except UnicodeDecodeError:
        guess = _guess(head)
        if guess is None:
            raise InputError(f"{file}: its encoding cannot be guessed. Name it with --encoding.") from None
        return guess


def _guess(data: bytes) -> str | None:
    from charset_normalizer import from_bytes

    best = from_bytes(data).best()
    if best is None:
        return None
    return "gb18030" if best.encoding in ("gb2312", "gbk", "hz") else best.encoding


def _decode(data: bytes, file: Path, options: ReadOptions, offset: int = 0, encoding: str | None = None) -> str:
    """Bytes to text; `offset` is where `data` stands in the (decompressed) file, for the message."""
    encoding = encoding or _encoding_of(data[:65536], file, options)
    try:
        return data.decode(encoding, "replace" if options.repair else "strict")
    except UnicodeDecodeError as error:
        guess = _guess(data[:65536])
        known = f"It looks like {guess}: add --encoding {guess}" if guess and guess not in ("utf_8", encoding) else ""
        raise InputError(
            f"{file}: byte 0x{data[error.start]:02x} at offset {offset + error.start:,} is not valid {encoding}. "
            f"{known or 'Name its encoding with --encoding'}, or --repair to replace such bytes."
        ) from None
    except LookupError:
        raise InputError(f"--encoding {encoding}: no such encoding.") from None


def _read_whole(file: Path, options: ReadOptions) -> str:
    with open_decompressed(file) as stream:
        return _decode(stream.read(), file, options)


def _plain(file: Path, options: ReadOptions) -> Iterator[Document]:
    text = _read_whole(file, options)
    if options.separator is None:
        yield Document(text, str(file))
        return
    for number, part in enumerate(text.split(options.separator), 1):
        yield Document(part.strip("\r\n"), f"{file}, part {number}")


def _html(file: Path, options: ReadOptions) -> Iterator[Document]:
    yield Document(visible_text(_read_whole(file, options)), str(file))


def _text_of_row(row: dict[str, Any], where: str, options: ReadOptions) -> str:
    parts = []
    for name in options.text_field:
        if name not in row:
            found = ", ".join(map(str, row)) or "none"
            raise InputError(f'{where}: no field "{name}" (found: {found}). Name it with --text-field.')
        value = row[name]
        if isinstance(value, list) and all(isinstance(line, str) for line in value):
            value = "\n".join(value)
        if not isinstance(value, str):
            raise InputError(f'{where}: field "{name}" holds {type(value).__name__}, not text.')
        parts.append(value)
    return "\n".join(parts)


def _jsonl(file: Path, options: ReadOptions) -> Iterator[Document]:
    offset, encoding = 0, None
    with open_decompressed(file) as stream:
        for number, line in enumerate(stream, 1):
            where = f"{file}, line {number}"
            if encoding is None:
                encoding = _encoding_of(line[:65536], file, options)
                if encoding.startswith(("utf-16", "utf-32")):
                    raise InputError(f"{file}: jsonl must be UTF-8, this is {encoding}.")
            text = _decode(line, file, options, offset, encoding)
            offset += len(line)
            if not text.strip():
                continue
            try:
                row = json.loads(text)
            except (json.JSONDecodeError, RecursionError) as error:
                raise InputError(f"{where}: not valid JSON ({getattr(error, 'msg', 'nested too deeply')}).") from None
            if not isinstance(row, dict):
                raise InputError(f"{where}: holds {type(row).__name__}, expected an object with a text field.")
            document = _text_of_row(row, where, options)
            yield Document(document, where, {k: v for k, v in row.items() if k not in options.text_field})


def _csv(file: Path, options: ReadOptions) -> Iterator[Document]:
    csv.field_size_limit(2**31 - 1)
    text = _read_whole(file, options)
    rows = csv.DictReader(io.StringIO(text, newline=""), delimiter="\t" if _kind(file) == ".tsv" else ",", strict=True)
    try:
        for row in rows:
            where = f"{file}, line {rows.line_num}"
            if row.get(None) or None in row.values():
                raise InputError(f"{where}: has another number of columns than the header.")
            document = _text_of_row(row, where, options)
            yield Document(document, where, {k: v for k, v in row.items() if k not in options.text_field})
    except csv.Error as error:
        raise InputError(f"{file}, line {rows.line_num}: not valid CSV ({error}).") from None


_READERS: dict[str, Callable[[Path, ReadOptions], Iterator[Document]]] = {
    ".txt": _plain,
    ".md": _plain,
    ".html": _html,
    ".htm": _html,
    ".jsonl": _jsonl,
    ".csv": _csv,
    ".tsv": _csv,
}

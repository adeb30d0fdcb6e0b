"""Documents, and readers of txt, md, html, csv and jsonl, also compressed (gz, zst)."""

import codecs
import csv
import glob
import gzip
import io
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import IO, Any

from wordloom.core.errors import InputError


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
            yield from _READERS[_kind(file)](file, options)
        except (EOFError, gzip.BadGzipFile, _zstd_error()) as error:
            raise InputError(f"{file}: the compressed file is damaged or cut short ({error}).") from None
        except OSError as error:
            raise InputError(f"{file}: cannot be read ({error.strerror or error}).") from None
        on_bytes(file.stat().st_size)


def _kind(file: Path) -> str:
    """The ending that says what is inside, compression endings taken off: `a.jsonl.gz` is `.jsonl`."""
    suffixes = [suffix.lower() for suffix in file.suffixes]
    while suffixes and suffixes[-1] in (".gz", ".zst"):
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def _zstd_error() -> type[Exception]:
    try:
        from zstandard import ZstdError

        return ZstdError
    except ImportError:
        return EOFError


class _Zstd(io.RawIOBase):
    """Bytes of a zstd file, frame after frame.

    The library's own reader ends silently where a file is cut short; this one says so.
    """

    def __init__(self, file: Path):
        self._file, self._frame, self._ready = file.open("rb"), None, b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        from zstandard import ZstdDecompressor

        while not self._ready:
            data = self._file.read(1 << 16)
            if not data:
                if self._frame is not None:
                    raise EOFError("the last frame is not complete")
                return 0
            while data:
                self._frame = self._frame or ZstdDecompressor().decompressobj()
                self._ready += self._frame.decompress(data)
                data = self._frame.unused_data if self._frame.eof else b""
                if self._frame.eof:
                    self._frame = None
        count = min(len(buffer), len(self._ready))
        buffer[:count], self._ready = self._ready[:count], self._ready[count:]
        return count

    def close(self) -> None:
        self._file.close()
        super().close()


def _open(file: Path) -> IO[bytes]:
    if file.suffix.lower() == ".gz":
        return gzip.open(file, "rb")  # pyright: ignore[reportReturnType]
    if file.suffix.lower() == ".zst":
        try:
            import zstandard  # noqa: F401
        except ImportError:
            raise InputError(f"{file}: reading .zst needs one more package: pip install 'wordloom[data]'.") from None
        return io.BufferedReader(_Zstd(file))  # pyright: ignore[reportReturnType]
    return file.open("rb")


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
    with _open(file) as stream:
        return _decode(stream.read(), file, options)


def _plain(file: Path, options: ReadOptions) -> Iterator[Document]:
    text = _read_whole(file, options)
    if options.separator is None:
        yield Document(text, str(file))
        return
    for number, part in enumerate(text.split(options.separator), 1):
        yield Document(part.strip("\r\n"), f"{file}, part {number}")


class _VisibleText(HTMLParser):
    """The text of a page: scripts, styles and the head dropped, block elements on lines of their own."""

    _SILENT = frozenset(("script", "style", "head", "template", "noscript", "svg"))
    _BLOCK = frozenset(
        [
            "address",
            "article",
            "aside",
            "blockquote",
            "br",
            "dd",
            "div",
            "dl",
            "dt",
            "figcaption",
            "figure",
            "footer",
            "form",
            "h1",
            "h2",
            "h3",
            "h4",
            "h5",
            "h6",
            "header",
            "hr",
            "li",
            "main",
            "nav",
            "ol",
            "p",
            "pre",
            "section",
            "table",
            "tr",
            "ul",
        ]
    )

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._parts: list[str] = []
        self._silent = self._verbatim = 0

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self._silent += tag in self._SILENT
        self._verbatim += tag == "pre"
        if tag in self._BLOCK:
            self._parts.append("\n")

    def handle_endtag(self, tag: str) -> None:
        self._silent = max(0, self._silent - (tag in self._SILENT))
        self._verbatim = max(0, self._verbatim - (tag == "pre"))
        if tag in self._BLOCK:
            self._parts.append("\n")

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self._parts.append(data if self._verbatim else _squeeze(data))

    def text(self) -> str:
        lines = (
            line.rstrip() if line[:1].isspace() and line.strip() else line.strip()
            for line in "".join(self._parts).split("\n")
        )
        kept: list[str] = []
        for line in lines:
            if line or (kept and kept[-1]):
                kept.append(line)
        return "\n".join(kept).strip("\n")


def _squeeze(data: str) -> str:
    """Runs of white space count as one blank, as a browser shows them."""
    words = " ".join(data.split())
    return f"{' ' * data[:1].isspace()}{words}{' ' * (data[-1:].isspace() and bool(words))}"


def _html(file: Path, options: ReadOptions) -> Iterator[Document]:
    parser = _VisibleText()
    parser.feed(_read_whole(file, options))
    parser.close()
    yield Document(parser.text(), str(file))


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
    with _open(file) as stream:
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

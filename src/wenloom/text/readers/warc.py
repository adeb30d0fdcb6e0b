"""WARC and WET files (ISO 28500), as crawls are kept: a document for each page or text that was fetched."""

import re
import zlib
from collections.abc import Iterator
from typing import IO, NamedTuple

from wenloom.core.errors import InputError
from wenloom.text.compression import open_decompressed, unpacking
from wenloom.text.document import Document, SourceFile
from wenloom.text.encoding import encoding_of
from wenloom.text.lines import ROW_BYTES

_HEADER_BYTES = 2**20
_CHARSET = re.compile(r"charset\s*=\s*[\"']?([\w.:-]{1,40})", re.IGNORECASE)
_META_CHARSET = re.compile(rb"<meta[^>]{0,200}charset\s*=\s*[\"']?([\w.:-]{1,40})", re.IGNORECASE)


class _Record(NamedTuple):
    number: int
    headers: dict[str, str]
    payload: bytes
    is_whole: bool = True
    """False: longer than allowed, and cut short."""


def read(source: SourceFile) -> Iterator[Document]:
    """Pages and texts of responses with status 200, resources and conversions; other records are passed over.

    A record that cannot be read is named by its number and left out.

    Raises:
        InputError: the file does not begin as one.
    """
    with unpacking(source.file), open_decompressed(source.file) as stream:
        for record in _records(stream, source):
            try:
                document = _document(record, source)
            except (ValueError, LookupError, zlib.error) as error:
                _leave_out(source, record.number, str(error))
                continue
            if document is not None:
                source.refusals.in_a_row = 0
                yield document


def _leave_out(source: SourceFile, number: int, why: str) -> None:
    source.refusals.leave_out(source.file, number, why, "record", source.options.strict)


def _records(stream: IO[bytes], source: SourceFile) -> Iterator[_Record]:
    """The records, found again by the line that each begins with where a length lies."""
    most, number, lost = source.options.most(ROW_BYTES), 0, False
    while line := stream.readline(_HEADER_BYTES):
        if not line.startswith(b"WARC/"):
            if line.strip() and not number:
                raise InputError(
                    f"{source.file}: is not a WARC or WET file, or damaged: it does not begin with WARC/1.0 or WARC/1.1."
                )
            if line.strip() and not lost:
                lost = True
                _leave_out(source, number + 1, "does not begin with WARC/1.0 or 1.1: the length before it is wrong")
            continue
        number, lost = number + 1, False
        headers = _headers(stream)
        size = headers.get("content-length", "")
        if not (size.isascii() and size.isdigit() and len(size) < 19):
            _leave_out(source, number, f"its Content-Length is {size[:40]!r}")
            continue
        left = int(size)
        payload = stream.read(min(left, most))
        left -= len(payload)
        is_whole = not left
        while left > 0 and (skipped := stream.read(min(left, 2**20))):
            left -= len(skipped)
        if left > 0:
            _leave_out(source, number, f"ends {left:,} bytes before its Content-Length of {int(size):,}")
            return
        yield _Record(number, headers, payload, is_whole)


def _headers(stream: IO[bytes]) -> dict[str, str]:
    """Names in lower case; a megabyte at most is taken."""
    found, size = dict[str, str](), 0
    while (line := stream.readline(_HEADER_BYTES)).strip() and size < _HEADER_BYTES:
        size += len(line)
        name, colon, value = line.decode("utf-8", "replace").partition(":")
        if colon:
            found.setdefault(name.strip().lower(), value.strip())
    return found


def _document(record: _Record, source: SourceFile) -> Document | None:
    """
    Raises:
        ValueError: it is too long, or damaged.
        LookupError: its encoding does not exist.
        zlib.error: it is packed, and damaged.
    """
    kind, headers, data = record.headers.get("warc-type", ""), record.headers, record.payload
    if kind not in ("response", "resource", "conversion"):
        return None
    content = headers.get("content-type", "")
    if kind == "response":
        if not content.startswith("application/http"):
            return None
        head, _, data = data.partition(b"\r\n\r\n")
        status, *lines = head.decode("latin-1").split("\r\n")
        if status.split(" ")[1:2] != ["200"]:
            return None
        http = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        content = http.get("content-type", "text/html")
    is_page = "html" in content.lower()
    if not is_page and not content.lower().startswith("text/plain"):
        return None
    most = source.options.most(ROW_BYTES)
    if not record.is_whole:
        raise ValueError(f"is longer than {most:,} bytes")
    if kind == "response":
        data = _unpacked(data, http, most)  # pyright: ignore[reportPossiblyUnboundVariable]
    text = _text(data, content, is_page, source)
    fields = {name: headers[header] for name, header in (("url", "warc-target-uri"), ("date", "warc-date"))
              if header in headers}  # fmt: skip
    return Document(text, f"{source.file}, record {record.number}", fields, is_page)


def _unpacked(data: bytes, http: dict[str, str], most: int) -> bytes:
    """What was sent, whole; crawlers that unpack it keep the old headers under other names, or as they were."""
    if http.get("transfer-encoding", "").lower() == "chunked" and re.match(
        rb"[0-9a-fA-F]{1,8}[ \t]*(;[^\n]*)?\r\n", data
    ):
        data = _joined(data)
    packed = http.get("content-encoding", "").lower()
    if packed in ("gzip", "x-gzip", "deflate") and data[:1] in (b"\x1f", b"\x78"):
        unpack = zlib.decompressobj(wbits=47)  # either header
        data = unpack.decompress(data, most + 1)
        if len(data) > most:
            raise ValueError(f"unpacks to more than {most:,} bytes")
    elif packed == "br":
        raise ValueError("is packed with brotli, which is not read")
    return data


def _joined(data: bytes) -> bytes:
    """The chunks of a body (RFC 9112, section 7.1)."""
    parts, at = list[bytes](), 0
    while (end := data.find(b"\r\n", at)) >= 0:
        size = int(data[at:end].partition(b";")[0] or b"0", 16)
        if not size:
            break
        parts.append(data[end + 2 : end + 2 + size])
        at = end + 2 + size + 2
    return b"".join(parts)


def _text(data: bytes, content: str, is_page: bool, source: SourceFile) -> str:
    """In the encoding that the server names, else the page, else UTF-8, else the one that it looks like."""
    named = _CHARSET.search(content)
    in_page = _META_CHARSET.search(data[:4096]) if is_page else None
    for name in (named and named[1], in_page and in_page[1].decode("ascii"), "utf-8"):
        try:
            if name:
                text = data.decode("gb18030" if name.lower() in ("gb2312", "gbk") else name)
                text.encode()  # some encodings make half surrogates
                return text
        except (LookupError, UnicodeError):
            continue
    return data.decode(encoding_of(data[:65536], source.file, "auto"), "replace")

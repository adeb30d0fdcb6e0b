"""From the bytes of a file to text, in whatever encoding."""

import codecs
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from wenloom.core.errors import InputError
from wenloom.text.compression import open_decompressed, unpacking
from wenloom.text.latin import latin_encoding

_PIECE = 2**20
_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
          (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))  # fmt: skip
_NOT_OF_FILES = ("idna", "punycode", "undefined", "unicode-escape", "raw-unicode-escape")
"""Codecs of names and of source code; two of them take quadratic time."""


_ADVICE = (
    (re.compile(r"(It looks like \S+: add|Name its encoding with) --encoding.*?(?=\.$)"), "Save it as UTF-8"),
    (re.compile(r"Name it with --text-field"), 'Call the field that holds the text "text"'),
    (re.compile(r"part it, with --separator where documents are joined in it, or allow more with --max-document-mb"), "part it"),
    (re.compile(r"allow more with --max-document-mb"), "part it"),
)  # fmt: skip


@contextmanager
def only_utf8() -> Iterator[None]:
    """For commands that read texts without the options of `prepare`: errors about bytes advise to save the file as UTF-8, those that
    name other options what to do with the file.

    Raises:
        InputError: the error with that advice.
    """
    try:
        yield
    except InputError as error:
        said = str(error)
        for advice, instead in _ADVICE:
            said = advice.sub(instead, said)
        raise InputError(said) from None


def check_encoding(name: str) -> None:
    """Refuse what is not an encoding of text files.

    Raises:
        InputError: it is none.
    """
    if name == "auto":
        return
    try:
        found = codecs.lookup(name)
        is_text = found._is_text_encoding and found.name not in _NOT_OF_FILES
    except (LookupError, ValueError):  # also a NUL in it
        is_text = False
    if not is_text:
        raise InputError(
            f"--encoding {name[:40]!r}: no such encoding of text. Examples: utf-8, latin-1, gb18030, auto."
        )


_BINARY = ((b"PK\x03\x04", "docx, epub or zip", ".docx"), (b"%PDF-", "pdf", ".pdf"), (b"PAR1", "parquet", ".parquet"))
"""How files begin that other readers read, and their endings."""


def encoding_of(head: bytes, file: Path, encoding: str) -> str:
    """The encoding of a file: by its mark, else as asked for, else guessed.

    Raises:
        InputError: the file is binary, or its encoding cannot be guessed.
    """
    for mark, marked in _MARKS:
        if head.startswith(mark):
            return "utf-8-sig" if marked == "utf-8" else marked
    wide = encoding.lower().replace("_", "-").startswith(("utf-16", "utf-32"))
    for mark, kind, ending in _BINARY:
        if head.startswith(mark):
            raise InputError(
                f"{file}: is binary, not text: it begins like a {kind} file; rename it, as in {file.stem}{ending}."
            )
    if b"\0" in head and not wide:
        raise InputError(f"{file}: is binary, not text (a zero byte at offset {head.index(0)}).")
    if encoding != "auto":
        return encoding
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

    if latin := latin_encoding(data):
        return latin
    best = from_bytes(data).best()
    if best is None:
        return None
    return "gb18030" if best.encoding in ("gb2312", "gbk", "hz") else best.encoding


def decoded(data: bytes, encoding: str, repair: bool, offset: int = 0) -> str:
    """Bytes to text.

    Args:
        offset: where `data` stands in the (decompressed) file, for the message.

    Raises:
        ValueError: bytes that are wrong in the encoding, or mean no character.
    """
    return _Decoder(encoding, repair, offset).decode(data, is_last=True)


class _Decoder:
    def __init__(self, encoding: str, repair: bool, offset: int = 0):
        self._encoding, self._offset = encoding, offset
        self._decoder = codecs.getincrementaldecoder(encoding)("replace" if repair else "strict")
        self._may_make_surrogates = "utf-7" in codecs.lookup(encoding).name

    def decode(self, data: bytes, is_last: bool) -> str:
        try:
            text = self._decoder.decode(data, is_last)
            if self._may_make_surrogates:
                text.encode()
        except UnicodeDecodeError as error:
            raise ValueError(self._sentence(error)) from None
        except UnicodeError as error:
            raise ValueError(f"not valid {self._encoding} ({getattr(error, 'reason', error)})") from None
        self._offset += len(data)
        return text

    def _sentence(self, error: UnicodeDecodeError) -> str:
        data = error.object
        waiting = len(self._decoder.getstate()[0])
        place = self._offset - waiting + error.start
        guess = _guess(data[max(0, error.start - 32768) : error.start + 32768])
        plain = self._encoding.replace("-", "_")
        known = f"It looks like {guess}: add --encoding {guess}" if guess and guess not in ("utf_8", plain) else ""
        return (
            f"byte 0x{data[error.start]:02x} at offset {place:,} is not valid {self._encoding}. "
            f"{known or 'Name its encoding with --encoding'}, or --repair to replace such bytes"
        )


def pieces_of(file: Path, encoding: str, repair: bool) -> Iterator[tuple[str, int]]:
    """The text of a file in pieces of about a megabyte, each with the bytes it was made of.

    Raises:
        InputError: the file is binary or cannot be decoded; see `open_decompressed`.
    """
    with unpacking(file), open_decompressed(file) as stream:
        data = stream.read(_PIECE)
        found = encoding_of(data[:65536], file, encoding)
        decoder, is_wide = _Decoder(found, repair), found.startswith(("utf-16", "utf-32"))
        offset = 0
        while data:
            if not is_wide and b"\0" in data:
                raise InputError(f"{file}: is binary, not text (a zero byte at offset {offset + data.index(0):,}).")
            following = stream.read(_PIECE)
            try:
                text = decoder.decode(data, is_last=not following)
            except ValueError as error:
                raise InputError(f"{file}: {error}.") from None
            yield text, len(data)
            offset += len(data)
            data = following

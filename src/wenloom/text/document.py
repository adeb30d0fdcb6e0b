"""A document, how files are read, and what a reader is given."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from wenloom.core.errors import InputError
from wenloom.text.encoding import check_encoding, pieces_of
from wenloom.text.refusals import Refusals


@dataclass(frozen=True)
class Document:
    """One text and where it was found."""

    text: str
    """The text, as read."""
    source: str
    """File and, where a file holds several, line: `corpus.jsonl, line 17`."""
    fields: dict[str, Any] = field(default_factory=dict)
    """The other fields of its row (jsonl, csv)."""
    is_page: bool = False
    """Whether the text is still the HTML of a page: `pages.finished` makes text of it."""


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
    strict: bool = False
    """Stop at the first member of an archive or record of a crawl that cannot be read, instead of naming and counting it."""
    html: Literal["main", "all"] = "main"
    """Of web pages: the main content (trafilatura, where wenloom[data] is installed), or all text that they show."""
    max_document_mb: int | None = None
    """Most megabytes (2^20 bytes) of one document; default: 256, 16 of a row or page; txt and md of
    more than 32, or of more than this, are split where lines end."""

    def __post_init__(self):
        if self.separator == "":
            raise InputError("--separator '': is empty; name the text that stands between documents.")
        if not self.text_field or not all(self.text_field):
            raise InputError("--text-field '': is empty; name the field that holds the text.")
        if self.max_document_mb is not None and not 1 <= self.max_document_mb <= 2**20:
            raise InputError(f"--max-document-mb {self.max_document_mb}: must be between 1 and 1,048,576.")
        if self.html not in ("main", "all"):
            raise InputError(f"--html {self.html}: must be main or all.")
        if self.strict and self.skip_bad:
            raise InputError("--strict stops at what --skip-bad leaves out: give one of them.")
        check_encoding(self.encoding)

    def most(self, default: int) -> int:
        """Bytes that a document may have."""
        return default if self.max_document_mb is None else self.max_document_mb * 2**20


@dataclass
class Room:
    """How much an archive may unpack to, together with the archives in it."""

    size: int
    """Bytes."""
    left: int = field(init=False)
    """Below 0: it was too much."""

    def __post_init__(self):
        self.left = self.size


class SourceFile(NamedTuple):
    """A file, how it is read, and who is told what is left out."""

    file: Path
    options: ReadOptions
    refusals: Refusals
    depth: int = 0
    """In how many archives it lies."""
    room: Room | None = None
    """Of the outermost of them."""


Reader = Callable[[SourceFile], Iterator[Document]]


def whole(source: SourceFile, most: int) -> str:
    """The text of a file that is one document.

    Raises:
        InputError: more bytes than `most`.
    """
    parts, n_bytes = [], 0
    for text, size in pieces_of(source.file, source.options.encoding, source.options.repair):
        parts.append(text)
        n_bytes += size
        if n_bytes > most:
            raise InputError(
                f"{source.file}: is one document of more than {most:,} bytes; split it, with --separator where documents "
                "are joined in it, or allow more with --max-document-mb."
            )
    return "".join(parts)

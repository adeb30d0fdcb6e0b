"""Dumps of MediaWiki, such as Wikipedia's (pages-articles.xml.bz2): a document for each article."""

from collections.abc import Iterator
from xml.parsers import expat

from wenloom.core.errors import InputError
from wenloom.text.compression import open_decompressed, unpacking
from wenloom.text.document import Document, SourceFile
from wenloom.text.lines import ROW_BYTES
from wenloom.text.readers.zipped import parser
from wenloom.text.wikitext import wiki_text

_KEPT = ("title", "ns", "text")
_PIECE = 2**16


class _Pages:
    """Collects the elements of pages as they end."""

    def __init__(self, most: int):
        self._most, self._page, self._inside, self._size = most, dict[str, str](), "", 0
        self._parts: list[str] = []
        self.done: list[dict[str, str]] = []

    def begin(self, tag: str, _: dict[str, str]) -> None:
        name = tag.rpartition(" ")[2]
        if name == "page":
            self._page, self._size = {}, 0
        elif name == "redirect":
            self._page["redirect"] = "yes"
        self._inside, self._parts = (name, []) if name in _KEPT else ("", [])

    def data(self, text: str) -> None:
        if self._inside:
            self._size += len(text)
            if self._size <= self._most:
                self._parts.append(text)
            else:
                self._page["too long"] = "yes"

    def end(self, tag: str) -> None:
        name = tag.rpartition(" ")[2]
        if name == self._inside:
            self._page[name] = "".join(self._parts)
        elif name == "page":
            self.done.append(self._page)
        self._inside = ""


def read(source: SourceFile) -> Iterator[Document]:
    """The articles (namespace 0), as plain text under their title; redirects are passed over.

    Raises:
        InputError: it is no XML, or breaks off; what came before was read.
    """
    pages, number = _Pages(source.options.most(ROW_BYTES)), 0
    made = parser()
    made.StartElementHandler, made.EndElementHandler, made.CharacterDataHandler = pages.begin, pages.end, pages.data
    with unpacking(source.file), open_decompressed(source.file) as stream:
        while True:
            piece = stream.read(_PIECE)
            try:
                made.Parse(piece, not piece)
            except expat.ExpatError as error:
                raise InputError(
                    f"{source.file}: is not a whole dump: no XML from line {error.lineno} on ({error})."
                ) from None
            for page in pages.done:
                number += 1
                if "too long" in page:
                    source.refusals.leave_out(source.file, number, "is too long", "page", source.options.strict)
                elif page.get("ns", "0") == "0" and "redirect" not in page:
                    source.refusals.in_a_row = 0
                    yield _document(page, number, source)
            pages.done.clear()
            if not piece:
                return


def _document(page: dict[str, str], number: int, source: SourceFile) -> Document:
    title = page.get("title", "")
    text = wiki_text(page.get("text", ""))
    return Document(f"{title}\n\n{text}" if text else "", f"{source.file}, page {number}", {"title": title})

"""Web pages, XML, LaTeX, reStructuredText and code: a file is a document, less its marks."""

from collections.abc import Callable, Iterator

from wenloom.text.compression import open_decompressed, unpacking
from wenloom.text.document import Document, Reader, SourceFile, whole
from wenloom.text.lines import ROW_BYTES
from wenloom.text.markup import xml_text
from wenloom.text.readers import wikipedia


def markup(text_of: Callable[[str], str]) -> Reader:
    """A reader of files whose marks a function takes off."""

    def read(source: SourceFile) -> Iterator[Document]:
        yield Document(text_of(whole(source, source.options.most(ROW_BYTES))), str(source.file))

    return read


def read_page(source: SourceFile) -> Iterator[Document]:
    """A web page, as it is."""
    yield Document(whole(source, source.options.most(ROW_BYTES)), str(source.file), is_page=True)


def read_xml(source: SourceFile) -> Iterator[Document]:
    """The pages of a dump of MediaWiki; of other XML the text of its elements."""
    with unpacking(source.file), open_decompressed(source.file) as stream:
        is_dump = b"<mediawiki" in stream.read(2000).replace(b"\0", b"")  # UTF-16, too
    return wikipedia.read(source) if is_dump else markup(xml_text)(source)

"""Web pages, XML, LaTeX, reStructuredText, code and notebooks: a file is a document, less its marks."""

from collections.abc import Callable, Iterator

from wenloom.core.errors import InputError
from wenloom.core.foreign import parsed_json
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


def read_notebook(source: SourceFile) -> Iterator[Document]:
    """A Jupyter notebook (nbformat 4): what stands in its cells, texts and programs, without what programs printed.

    Raises:
        InputError: the file is none.
    """
    text = whole(source, source.options.most(ROW_BYTES))
    try:
        found = parsed_json(text)
        cells = ["".join(cell["source"]) for cell in found["cells"]]
    except (ValueError, TypeError, KeyError) as error:
        raise InputError(f"{source.file}: is no Jupyter notebook of nbformat 4, or damaged ({error}).") from None
    yield Document("\n\n".join(filter(str.strip, cells)), str(source.file))


def read_xml(source: SourceFile) -> Iterator[Document]:
    """The pages of a dump of MediaWiki; of other XML the text of its elements."""
    with unpacking(source.file), open_decompressed(source.file) as stream:
        is_dump = b"<mediawiki" in stream.read(2000).replace(b"\0", b"")  # UTF-16, too
    return wikipedia.read(source) if is_dump else markup(xml_text)(source)

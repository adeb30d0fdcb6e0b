"""Readers, one small file for each kind of file; each gives documents one at a time, in bounded memory."""

from collections.abc import Iterator

from wenloom.text.document import Document, Reader, SourceFile
from wenloom.text.kinds import ARCHIVES, CODE, PLAIN, kind_of_name
from wenloom.text.markup import rst_text, tex_text
from wenloom.text.readers import archives, docx, epub, marked, pdf, plain, rows, warc

READERS: dict[str, Reader] = {
    **dict.fromkeys(PLAIN, plain.read),
    ".html": marked.read_page,
    ".htm": marked.read_page,
    ".xhtml": marked.read_page,
    ".jsonl": rows.read_jsonl,
    ".json": rows.read_json,
    ".parquet": rows.read_parquet,
    ".arrow": rows.read_arrow,
    ".tex": marked.markup(tex_text),
    ".rst": marked.markup(rst_text),
    ".xml": marked.read_xml,
    ".ipynb": marked.read_notebook,
    ".csv": rows.read_csv,
    ".tsv": rows.read_csv,
    ".warc": warc.read,
    ".wet": warc.read,
    ".epub": epub.read,
    ".docx": docx.read,
    ".pdf": pdf.read,
    **dict.fromkeys(CODE, marked.markup(str)),
    **dict.fromkeys(ARCHIVES, lambda source: archives.read(source, read_source)),
}


def read_source(source: SourceFile) -> Iterator[Document]:
    """The documents of a file, by the ending of its name."""
    return READERS[kind_of_name(source.file)](source)

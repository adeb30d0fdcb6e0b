"""PDF files: the text layer, page by page; a scan without one has no text."""

import logging
from collections.abc import Iterator

from wenloom.core.errors import InputError, printable
from wenloom.text.document import Document, SourceFile
from wenloom.text.readers.plain import TEXT_BYTES
from wenloom.text.readers.zipped import plain_file

_MOST_PAGES = 50_000


def read(source: SourceFile) -> Iterator[Document]:
    """One document. A page that cannot be read is named and left out.

    Raises:
        InputError: pypdf is not installed, or the file is damaged, encrypted, too long or has no text layer.
    """
    try:
        from pypdf import PdfReader
        from pypdf.errors import PyPdfError
    except ImportError:
        raise InputError(f"{source.file}: reading .pdf needs one more package: pip install 'wenloom[data]'.") from None
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # it logs every flaw of a file
    most, parts, size = source.options.most(TEXT_BYTES), list[str](), 0
    with plain_file(source) as file:
        try:
            book = PdfReader(file)
            if book.is_encrypted and not book.decrypt(""):
                raise InputError(f"{source.file}: is encrypted; save it without a password.")
            count = len(book.pages)
        except (PyPdfError, ValueError, KeyError, TypeError, AttributeError, NotImplementedError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{source.file}: is not a PDF, or damaged ({printable(str(error), 200)}).") from None
        if count > _MOST_PAGES:
            raise InputError(f"{source.file}: has {count:,} pages; more than {_MOST_PAGES:,} are not read.")
        for number in range(count):
            try:
                text = book.pages[number].extract_text()
            except Exception as error:  # pages of others break in ways that no list holds
                why = str(error) or type(error).__name__
                source.refusals.leave_out(source.file, number + 1, why, "page", source.options.strict)
                continue
            size += len(text)
            if size > most:
                raise InputError(
                    f"{source.file}: is longer than {most:,} characters; allow more with --max-document-mb."
                )
            parts.append(text.encode("utf-8", "replace").decode().strip())  # broken fonts give half surrogates
    text = "\n\n".join(filter(None, parts))
    if not text:
        raise InputError(f"{source.file}: its {count:,} pages have no text layer (a scan?); recognise its text first.")
    yield Document(text, str(source.file))

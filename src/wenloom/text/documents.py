"""Documents of files of every kind that there is a reader for (`text.readers`), also compressed and in archives.

Every reader takes a file bit by bit: what it keeps in memory is one document, whose length is bounded.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

from wenloom.core.errors import InputError
from wenloom.core.foreign import reading, regular_file
from wenloom.core.quantities import counted
from wenloom.text.document import Document, ReadOptions, SourceFile
from wenloom.text.finding import find_files, hold_rows, refuse_idle
from wenloom.text.pages import finished
from wenloom.text.readers import read_source
from wenloom.text.refusals import Refusals
from wenloom.text.spoken import spoken_sentences

__all__ = ["SKIP_BAD", "Document", "ReadOptions", "find_files", "hold_rows", "raw_documents", "read_documents",
           "refuse_idle"]  # fmt: skip

SKIP_BAD = "--skip-bad leaves out what cannot be read"


def read_documents(
    files: list[Path],
    options: ReadOptions | None = None,
    on_bytes: Callable[[int], None] = lambda n: None,
    refusals: Refusals | None = None,
) -> Iterator[Document]:
    """Read files one after the other, each as a stream.

    Args:
        files: see `find_files`.
        options: see `ReadOptions`.
        on_bytes: told the size of every file once it is read, for a progress bar.
        refusals: told what was left out (`ReadOptions.skip_bad`, and members of archives).

    Raises:
        InputError: a file that is empty, binary, wrongly encoded, damaged, changed while it was read or without the
            text field, or a document too long; the message names the file, the byte or line, and the mend.
    """
    options = options or ReadOptions()
    for document in raw_documents(files, options, on_bytes, refusals):
        document = finished(document, options)
        if options.spoken:
            yield from _sentences(document)
        else:
            yield document
        del document  # a long one, while the next is read


def raw_documents(
    files: list[Path],
    options: ReadOptions,
    on_bytes: Callable[[int], None] = lambda n: None,
    refusals: Refusals | None = None,
) -> Iterator[Document]:
    """The same, with web pages as they are: who has several processes makes text of them there (`pages.finished`)."""
    refusals = refusals or Refusals(strict=not options.skip_bad)
    for file in files:
        n_read = 0
        try:
            for document in _read(SourceFile(file, options, refusals)):
                yield document
                n_read += 1
                del document
        except InputError as error:
            if refusals.strict:
                raise refusals.with_mend(error) from None
            refusals.in_a_row = 0
            before = f"; the {counted(n_read, 'document')} before that stay" if n_read else ""
            refusals.refuse(file, 0, str(error).removeprefix(f"{file}: ").rstrip(".") + before)
            if n_read:
                refusals.whole_files.discard(file)
        on_bytes(file.stat().st_size if file.exists() else 0)


def _read(source: SourceFile) -> Iterator[Document]:
    file = source.file
    before = regular_file(file)
    if before.st_size == 0:
        raise InputError(f"{file}: is empty; leave it out.")
    with reading(file):
        yield from read_source(source)
    after = regular_file(file)
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise InputError(f"{file}: was changed while it was read; read it when nothing writes to it.")


def _sentences(document: Document) -> Iterator[Document]:
    for number, sentence in enumerate(spoken_sentences(document.text), 1):
        yield Document(sentence, f"{document.source}, sentence {number}", document.fields)

"""`wenloom read`."""

from typing import Annotated

from cyclopts import Parameter

from wenloom.cli.options import Json, Reading
from wenloom.core.console import print_json_line, remark, say
from wenloom.core.errors import InputError
from wenloom.core.progress import progress
from wenloom.core.quantities import counted
from wenloom.text.documents import SKIP_BAD, ReadOptions, find_files, read_documents, refuse_idle
from wenloom.text.refusals import Refusals


def read(
    paths: list[str],
    /,
    *,
    limit: Annotated[int | None, Parameter(help="Stop after so many documents.")] = None,
    reading: Reading = ReadOptions(),
    json: Json = False,
) -> None:
    """Read files of any kind as documents, and show what `prepare` would make of them.

    Reads txt, md, html, csv, tsv, json, jsonl, parquet, arrow, tex, rst, xml, code, WARC and WET, dumps of Wikipedia, epub, docx and
    pdf, also compressed (.gz, .zst, .bz2, .xz) and in archives (.zip, .tar). With --json it prints a line for each document:
    source, text, kept, and the reason where it is not kept.

        wenloom read book.epub
        wenloom read crawl.warc.gz --limit 3
        wenloom read my-texts/ --json

    Parameters
    ----------
    paths
        Files, folders (everything readable below), globs, and data sets of the hub as hf:owner/name.
    """
    if limit is not None and limit < 1:
        raise InputError(f"--limit {limit}: must be at least 1.")
    files = find_files(paths)
    refuse_idle(files, reading)
    refusals, count = Refusals(not reading.skip_bad, SKIP_BAD), 0
    with progress("Reading", sum(file.stat().st_size for file in files), "bytes") as bar:
        for document in read_documents(files, reading, bar.advance, refusals):
            kept, reason = bool(document.text.strip()), None if document.text.strip() else "empty"
            if json:
                print_json_line({"source": document.source, "text": document.text, "kept": kept, "reason": reason})
            else:
                say(f"── {document.source}{f' (dropped: {reason})' * (not kept)}\n{document.text}\n", verbatim=True)
            count += 1
            if count == limit:
                break
    refusals.report()
    remark(f"{counted(count, 'document')} of {counted(len(files), 'file')}.")

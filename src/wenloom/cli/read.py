"""`wenloom read`. What recipes need is loaded when there is one, so that --help answers at once."""

import tempfile
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from wenloom.cli.options import Json, Reading, RecipeChanges, RecipeName, refuse_unused
from wenloom.core.console import print_json_line, remark, say
from wenloom.core.errors import InputError
from wenloom.core.progress import progress
from wenloom.core.quantities import counted
from wenloom.text.documents import SKIP_BAD, Document, ReadOptions, find_files, read_documents, refuse_idle
from wenloom.text.refusals import Refusals

if TYPE_CHECKING:
    from wenloom.text.recipe import Recipe


def read(
    paths: list[str],
    /,
    *,
    limit: Annotated[int | None, Parameter(help="Stop after this many documents.")] = None,
    recipe: RecipeName = None,
    changes: RecipeChanges = (),
    reading: Reading = ReadOptions(),
    json: Json = False,
) -> None:
    """Read files of any kind as documents, and show what `prepare` would make of them.

    Reads txt, md, html, csv, tsv, json, jsonl, parquet, arrow, tex, rst, xml, ipynb, code, WARC and WET, dumps of Wikipedia, epub, docx and
    pdf, also compressed (.gz, .zst, .bz2, .xz) and in archives (.zip, .tar). With --json it prints a line for each document:
    source, text, kept, and the reason where it is not kept.

        wenloom read book.epub
        wenloom read crawl.warc.gz --limit 3
        wenloom read my-texts/ --recipe web-en --json

    Parameters
    ----------
    paths
        Files, folders (everything readable below), globs, and data sets of the hub as hf:owner/name.
    """
    if limit is not None and limit < 1:
        raise InputError(f"--limit {limit}: must be at least 1.")
    files = find_files(paths)
    refuse_idle(files, reading)
    if recipe is None:
        refuse_unused("goes with --recipe", set=bool(changes))
    chosen = None
    if recipe is not None:
        from wenloom.cli.recipes import chosen_recipe

        chosen = chosen_recipe(recipe, changes)
    refusals, counts = Refusals(not reading.skip_bad, SKIP_BAD), Counter[bool]()
    with tempfile.TemporaryDirectory(prefix="wenloom-") as work:
        for document, reason in _decided(files, reading, refusals, chosen, Path(work), limit):
            counts[reason is None] += 1
            if json:
                print_json_line(
                    {"source": document.source, "text": document.text, "kept": reason is None, "reason": reason}
                )
            else:
                dropped = f" (dropped: {reason})" if reason is not None else ""
                say(f"── {document.source}{dropped}\n{document.text}\n", verbatim=True)
    refusals.report()
    dropped = f", {counts[False]:,} dropped" * bool(counts[False])
    remark(f"{counted(counts.total(), 'document')} of {counted(len(files), 'file')}{dropped}.")


def _decided(
    files: list[Path], reading: ReadOptions, refusals: Refusals, recipe: "Recipe | None", work: Path, limit: int | None
) -> Iterator[tuple[Document, str | None]]:
    """Documents with the reason why each is dropped; None: it is kept."""
    with progress("Reading", sum(file.stat().st_size for file in files), "bytes") as bar:
        if recipe is None:
            for document in islice(read_documents(files, reading, bar.advance, refusals), limit):
                yield document, None if document.text.strip() else "empty"
            return
        from wenloom.text.sift import sift

        sifted = sift(files, reading, recipe, work, bar.advance, refusals, limit=limit)
    for each in islice(sifted.decided(), limit):
        yield each.document, f"{each.step}: {each.reason}" if each.step else None

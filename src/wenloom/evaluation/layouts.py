"""Published files as rows: JSON lines, JSON documents, csv with or without a header, and the nested ones of reading
comprehension."""

import csv
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from wenloom.core.errors import InputError
from wenloom.core.foreign import kind_of, parsed_json
from wenloom.evaluation.rows import read_rows, read_text
from wenloom.text.refusals import Refusals
from wenloom.text.tables import table_rows

Row = dict[str, Any]


def rows_of(path: Path, layout: str, columns: list[str], refusals: Refusals) -> list[Row]:
    """The rows of a file; each also gets its line (of JSON documents: its place) as "_line".

    Args:
        layout: "rows", or a name of `LAYOUTS`.
        columns: of csv without a header.

    Raises:
        InputError: no such file, or of another layout.
    """
    if layout != "rows":
        return [{**row, "_line": number} for number, row in enumerate(_unfolded(path, layout), 1)]
    endings = [ending for ending in path.suffixes if ending not in (".gz", ".zst")]
    if endings[-1:] in ([".csv"], [".tsv"]):
        return list(_cells(path, columns, "\t" if endings[-1] == ".tsv" else ",", refusals))
    document = _document(path) if endings[-1:] == [".json"] else None
    if document is None:
        return read_rows(path, refusals)
    rows = document.get("Data", document.get("data", [document])) if isinstance(document, dict) else document
    if not isinstance(rows, list) or not all(isinstance(each, dict) for each in rows):
        raise InputError(f"{path}: a list of objects was expected, or lines of them.")
    return [{**row, "_line": number} for number, row in enumerate(rows, 1)]


def _document(path: Path) -> Any:
    """The value of a JSON document; None of lines of JSON."""
    try:
        return parsed_json(read_text(path))
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        return None


def _cells(path: Path, columns: list[str], delimiter: str, refusals: Refusals) -> Iterator[Row]:
    if not columns:
        for number, row in table_rows(path, refusals, delimiter):
            yield {**row, "_line": number}
        return
    reader = csv.reader(io.StringIO(read_text(path), newline=""), delimiter=delimiter, strict=True)
    try:
        for cells in filter(None, reader):
            if len(cells) != len(columns):
                refusals.refuse(path, reader.line_num, f"has {len(cells)} cells; {', '.join(columns)} were expected")
                continue
            yield {**dict(zip(columns, cells, strict=True)), "_line": reader.line_num}
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: not valid CSV ({error}).") from None


def _unfolded(path: Path, layout: str) -> list[Row]:
    try:
        document = json.loads(read_text(path))
        rows = list(LAYOUTS[layout](document))
    except InputError:
        raise
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        raise InputError(f"{path}: is not laid out as {layout} files are ({type(error).__name__}: {error}).") from None
    if not rows:
        raise InputError(f"{path}: holds no rows.")
    return rows


def _squad(document: Any) -> Iterator[Row]:
    """SQuAD's nesting (CMRC 2018 in CLUE), or that of the first release of CMRC 2018."""
    for article in document["data"] if isinstance(document, dict) else document:
        for part in article.get("paragraphs", [article]):
            for asked in part["qas"]:
                answers = [each["text"] if isinstance(each, dict) else each for each in asked["answers"]]
                yield {
                    "context": part["context" if "context" in part else "context_text"],
                    "question": asked["question" if "question" in asked else "query_text"],
                    "answers": list(dict.fromkeys(answers)),
                    "title": article.get("title", ""),
                    "id": asked.get("id", asked.get("query_id", "")),
                }


def _c3(document: Any) -> Iterator[Row]:
    """C3: a list of [lines of a text or dialogue, questions with choices and answer, id]."""
    if not isinstance(document, list):
        raise TypeError(f"{kind_of(document)} where a list is expected")
    for lines, questions, name in document:
        for asked in questions:
            yield {"context": "\n".join(lines), "question": asked["question"], "choice": asked["choice"],
                   "answer": asked["answer"], "id": name}  # fmt: skip


LAYOUTS: dict[str, Callable[[Any], Iterator[Row]]] = {"squad": _squad, "c3": _c3}
"""Readers of nested files."""

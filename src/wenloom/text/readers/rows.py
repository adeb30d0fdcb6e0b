"""Files of rows with fields: JSON, JSON lines, Parquet, Arrow, CSV."""

from collections.abc import Iterator
from typing import Any

from wenloom.core.errors import InputError, printable
from wenloom.core.foreign import kind_of
from wenloom.text.document import Document, SourceFile, whole
from wenloom.text.encoding import decoded, encoding_of
from wenloom.text.kinds import TABLES, kind_of_name
from wenloom.text.lines import ROW_BYTES, Line, json_lines
from wenloom.text.objects import json_rows
from wenloom.text.parquet import arrow_rows, parquet_rows
from wenloom.text.tables import table_rows

_JSON_BYTES = 64 * 2**20
"""Of a JSON file, which is parsed as a whole."""


def read_json(source: SourceFile) -> Iterator[Document]:
    """Of JSON files."""
    for number, row in json_rows(source.file, whole(source, source.options.most(_JSON_BYTES))):
        if isinstance(row, str):
            row = dict.fromkeys(source.options.text_field[:1], row)
        yield from _of_row(row, number, source, "row")


def read_parquet(source: SourceFile) -> Iterator[Document]:
    """Of Parquet files."""
    for number, row in parquet_rows(source.file):
        yield from _of_row(row, number, source, "row")


def read_arrow(source: SourceFile) -> Iterator[Document]:
    """Of Arrow files."""
    for number, row in arrow_rows(source.file):
        yield from _of_row(row, number, source, "row")


def _document(row: dict[str, Any], line: int, source: SourceFile, unit: str = "line") -> Document:
    """
    Raises:
        ValueError: the row has no text.
    """
    names = source.options.text_field
    parts = []
    for name in names:
        if name not in row:
            found = ", ".join(printable(str(each), 40) for each in row)[:200] or "none"
            table = "; line 1 names the columns" * (kind_of_name(source.file) in TABLES)
            raise ValueError(f'no field "{name}" (found: {found}{table}). Name it with --text-field')
        value = row[name]
        if isinstance(value, list) and all(isinstance(line, str) for line in value):
            value = "\n".join(value)
        if not isinstance(value, str):
            raise ValueError(f'field "{name}" holds {kind_of(value)}, not text')
        parts.append(value)
    others = {name: value for name, value in row.items() if name not in names}
    return Document("\n".join(parts), f"{source.file}, {unit} {line}", others)


def read_jsonl(source: SourceFile) -> Iterator[Document]:
    """Of JSON lines."""
    file, options = source.file, source.options
    encoding = None

    def text_of(line: Line) -> str:
        nonlocal encoding
        if encoding is None:
            encoding = encoding_of(line.data[:65536], file, options.encoding)
            if encoding.startswith(("utf-16", "utf-32")):
                raise InputError(f"{file}: jsonl must be UTF-8, this is {encoding}.")
        return decoded(line.data, encoding, options.repair, line.offset)

    for number, row in json_lines(file, text_of, source.refusals, options.most(ROW_BYTES)):
        yield from _of_row(row, number, source)


def read_csv(source: SourceFile) -> Iterator[Document]:
    """Of CSV and TSV files."""
    options, delimiter = source.options, "\t" if kind_of_name(source.file) == ".tsv" else None
    rows = table_rows(source.file, source.refusals, delimiter, options.encoding, options.repair,
                      options.most(ROW_BYTES), options.text_field)  # fmt: skip
    for number, row in rows:
        yield from _of_row(row, number, source)


def _of_row(row: Any, line: int, source: SourceFile, unit: str = "line") -> Iterator[Document]:
    """The document of a row, unless it is refused."""
    try:
        if not isinstance(row, dict):
            raise ValueError(f"holds {kind_of(row)}, expected an object {{...}} or a text")
        document = _document(row, line, source, unit)
    except ValueError as error:
        source.refusals.refuse(source.file, line, str(error), unit)
        return
    source.refusals.in_a_row = 0
    yield document

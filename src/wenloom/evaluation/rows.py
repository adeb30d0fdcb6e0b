"""Rows of evaluation data: jsonl and plain lines, with errors that name the line."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from wenloom.core.errors import InputError
from wenloom.core.foreign import kind_named, kind_of, reading
from wenloom.text.compression import open_decompressed, unpacking
from wenloom.text.lines import json_lines, utf8
from wenloom.text.refusals import Refusals

TEXT_BYTES = 256 * 2**20
"""Of a file that is read as a whole, unpacked."""
Made = TypeVar("Made")


def _whole(path: Path) -> str:
    with unpacking(path), open_decompressed(path) as file:
        data = file.read(TEXT_BYTES + 1)
    if len(data) > TEXT_BYTES:
        raise InputError(f"{path}: holds more than {TEXT_BYTES:,} bytes (unpacked); split it.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise InputError(f"{path}, line {line}: not UTF-8 (byte {error.start}); convert the file first.") from None


def read_text(path: Path) -> str:
    """A UTF-8 file, also compressed (gz, zst).

    Raises:
        InputError: missing, no file, damaged, empty, too large or not UTF-8.
    """
    text = _whole(path)
    if not text.strip():
        raise InputError(f"{path}: is empty.")
    return text


def read_lines(path: Path) -> list[str]:
    """Lines without their breaks; only \\n and \\r\\n break a line, so that line n here is line n elsewhere. Lines may
    all be empty.

    Raises:
        InputError: see `read_text`; the lines end in \\r alone.
    """
    text = _whole(path)
    if not text:
        raise InputError(f"{path}: is empty.")
    if "\r" in text.rstrip("\r\n") and "\n" not in text:
        raise InputError(f"{path}: its lines end in carriage returns alone; convert them: tr '\\r' '\\n' < FILE.")
    lines = text.split("\n")
    return [line.removesuffix("\r") for line in (lines[:-1] if lines[-1] == "" else lines)]


def read_rows(path: Path, refusals: Refusals | None = None) -> list[dict[str, Any]]:
    """The objects of a jsonl file; each also gets its line number as "_line".

    Args:
        refusals: told what is left out; without it the first row that is not an object is an error.

    Raises:
        InputError: see `read_text`; a line that is not JSON object; no rows.
    """
    with reading(path):
        rows = [{**row, "_line": number} for number, row in json_lines(path, utf8, refusals or Refusals())]
    if not rows:
        raise InputError(f"{path}: holds no rows.")
    return rows


def made_of_rows(path: Path, make: Callable[[dict[str, Any]], Made], refusals: Refusals | None = None) -> list[Made]:
    """What `make` makes of the rows of a jsonl file; a row that it refuses by InputError goes to `refusals`.

    Raises:
        InputError: see `read_rows`; no row that can be used.
    """
    refusals = refusals or Refusals()
    return made_of(path, read_rows(path, refusals), make, refusals)


def made_of(
    path: Path, rows: Sequence[dict[str, Any]], make: Callable[[dict[str, Any]], Made], refusals: Refusals
) -> list[Made]:
    """The same of rows that were read.

    Raises:
        InputError: no row that can be used.
    """
    made: list[Made] = []
    for row in rows:
        where = f"{path}, line {row['_line']}"
        try:
            with reading(where):
                made.append(make(row))
                refusals.in_a_row = 0
        except InputError as error:
            refusals.refuse(path, row["_line"], str(error).removeprefix(f"{where}: "))
    if not made:
        first = f" The first: {refusals.refused[0]}." if refusals.refused else ""
        raise InputError(f"{path}: holds no row that can be used.{first}")
    return made


def field(path: Path, row: dict[str, Any], names: Sequence[str], kind: type | tuple[type, ...] = str) -> Any:
    """The value of the first of several field names that a row has.

    Raises:
        InputError: none of them, or a value of another type; the message names file, line and field.
    """
    for name in names:
        if name in row:
            if not isinstance(row[name], kind) or isinstance(row[name], bool):
                wanted = " or ".join(dict.fromkeys(map(kind_named, (kind,) if isinstance(kind, type) else kind)))
                raise InputError(
                    f'{path}, line {row["_line"]}: "{name}" is {kind_of(row[name])}; {wanted} was expected.'
                )
            return row[name]
    wanted = " or ".join(f'"{name}"' for name in names)
    has = ", ".join(f'"{name}"' for name in row if name != "_line") or "nothing"
    raise InputError(f"{path}, line {row['_line']}: no field {wanted}; it has {has}.")


def texts_in(path: Path, row: dict[str, Any], name: str) -> list[str]:
    """A field that holds one or more texts.

    Raises:
        InputError: it does not; the message names file, line and field.
    """
    found = field(path, row, [name], list)
    if not found or not all(isinstance(each, str) for each in found):
        raise InputError(f'{path}, line {row["_line"]}: "{name}" must be a list of one or more texts.')
    return found

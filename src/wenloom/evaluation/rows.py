"""Rows of evaluation data: jsonl and plain lines, with errors that name the line."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wenloom.core.errors import InputError
from wenloom.text.compression import damaged_archive, open_decompressed


def read_text(path: Path) -> str:
    """A UTF-8 file, also compressed (gz, zst).

    Raises:
        InputError: missing, damaged, empty or not UTF-8.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file.")
    try:
        with open_decompressed(path) as file:
            data = file.read()
    except damaged_archive() as error:
        raise InputError(f"{path}: the compressed file is damaged or cut short ({error}).") from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise InputError(f"{path}, line {line}: not UTF-8 (byte {error.start}); convert the file first.") from None
    if not text.strip():
        raise InputError(f"{path}: is empty.")
    return text


def read_lines(path: Path) -> list[str]:
    """Lines without their breaks; only \\n and \\r\\n break a line, so that line n here is line n elsewhere."""
    lines = read_text(path).split("\n")
    return [line.removesuffix("\r") for line in (lines[:-1] if lines[-1] == "" else lines)]


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The objects of a jsonl file; each also gets its line number as "_line".

    Raises:
        InputError: see `read_text`; a line that is no JSON object.
    """
    rows = []
    for number, line in enumerate(read_lines(path), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(f"{path}, line {number}: not JSON ({error.msg} at column {error.colno}).") from None
        except RecursionError:
            raise InputError(f"{path}, line {number}: nested too deep.") from None
        if not isinstance(row, dict):
            raise InputError(f"{path}, line {number}: a {type(row).__name__} where an object {{...}} was expected.")
        rows.append({**row, "_line": number})
    return rows


def field(path: Path, row: dict[str, Any], names: Sequence[str], kind: type | tuple[type, ...] = str) -> Any:
    """The value of the first of several field names that a row has.

    Raises:
        InputError: none of them, or a value of another type; the message names file, line and field.
    """
    for name in names:
        if name in row:
            if not isinstance(row[name], kind) or isinstance(row[name], bool):
                wanted = kind.__name__ if isinstance(kind, type) else " or ".join(each.__name__ for each in kind)
                raise InputError(
                    f'{path}, line {row["_line"]}: "{name}" is {type(row[name]).__name__}; {wanted} was expected.'
                )
            return row[name]
    wanted = " or ".join(f'"{name}"' for name in names)
    has = ", ".join(f'"{name}"' for name in row if name != "_line") or "nothing"
    raise InputError(f"{path}, line {row['_line']}: no field {wanted}; it has {has}.")

"""Rows of a JSON file, in the layouts that data sets are published in."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wenloom.core.errors import InputError
from wenloom.core.foreign import kind_of, parsed_json


def json_rows(file: Path, text: str) -> Iterator[tuple[int, Any]]:
    """Number and value of every row.

    A list gives its elements; an object of lists of one length gives a row for each place (columns); an object with one
    list of rows, such as `{"version": 1, "data": [...]}`, gives that list; any other object is a row. An object to a line,
    as in jsonl, is taken, too.

    Raises:
        InputError: it is not JSON, or holds no rows.
    """
    try:
        value = parsed_json(text.removeprefix("\ufeff"))
    except ValueError as error:
        lines = [line for line in text.removeprefix("\ufeff").splitlines() if line.strip()]
        try:
            value = [parsed_json(line) for line in lines] if len(lines) > 1 else None
        except ValueError:
            value = None
        if value is None:
            raise InputError(f"{file}: {error}.") from None
    if isinstance(value, dict):
        value = _rows_of(value)
    if not isinstance(value, list):
        raise InputError(f"{file}: holds {kind_of(value)}, expected a list of rows, or an object of columns.")
    yield from enumerate(value, 1)


def _rows_of(table: dict[str, Any]) -> list[Any]:
    lists = {name: value for name, value in table.items() if isinstance(value, list)}
    tables = [value for value in lists.values() if value and all(isinstance(each, dict) for each in value)]
    if len(tables) == 1:
        return tables[0]
    if lists and len(lists) == len(table) and len({len(value) for value in lists.values()}) == 1:
        return [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]
    return [table]

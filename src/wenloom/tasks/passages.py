"""Passages: texts of files and folders by line, row or paragraph, each with the place where it stands."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from wenloom.core.errors import InputError
from wenloom.core.foreign import kind_of
from wenloom.evaluation.rows import read_lines
from wenloom.tasks.rows import content_suffix
from wenloom.text.kinds import NOTES
from wenloom.text.lines import json_lines, utf8
from wenloom.text.refusals import Refusals
from wenloom.text.tables import table_rows

Unit = Literal["line", "paragraph"]
_TABLES = (".csv", ".tsv")
_ROWS = (".jsonl", ".ndjson")
_TEXTS = (".txt", ".md", ".text")


class TextPassage(NamedTuple):
    """A text, and where it begins."""

    text: str
    file: Path
    line: int
    """From 1 on."""


def read_passages(where: Path, by: Unit = "line", field: str = "text", keep_empty: bool = False) -> list[TextPassage]:
    """Passages of a file, or of all texts, tables and jsonl files below a folder, in the order of their names.

    Args:
        by: what a passage of a plain text is: a line, or lines up to an empty one.
        field: of jsonl and tables, whose rows are passages.
        keep_empty: whether empty lines and rows are passages, so that passage n is row n.

    Raises:
        InputError: a file cannot be read, a row has no such field, or there is no passage at all; says where.
    """
    found = [each for file in _files(where) for each in _passages(file, by, field) if keep_empty or each.text.strip()]
    if not any(each.text.strip() for each in found):
        raise InputError(f"{where}: holds no text.")
    return found


def _files(where: Path) -> list[Path]:
    if not where.is_dir():
        return [where]
    known = (*_TABLES, *_ROWS, *_TEXTS)
    below = (path.relative_to(where) for path in where.rglob("*") if content_suffix(path).lower() in known)
    names = sorted(
        name for name in below if not any(part.startswith(".") for part in name.parts) and not NOTES.match(name.name)
    )
    files = [where / name for name in names if (where / name).is_file()]
    if not files:
        raise InputError(f"{where}: has no texts (looked for {', '.join(known)}, also compressed).")
    return files


def _passages(file: Path, by: Unit, field: str) -> Iterator[TextPassage]:
    suffix = content_suffix(file).lower()
    if suffix in (*_ROWS, *_TABLES):
        refusals = Refusals(strict=True)
        rows = json_lines(file, utf8, refusals) if suffix in _ROWS else table_rows(file, refusals)
        for line, row in rows:
            if field not in row:
                has = ", ".join(f'"{name}"' for name in row) or "nothing"
                raise InputError(f'{file}, line {line}: no field "{field}"; it has {has}. Name it with --field.')
            if not isinstance(row[field], str):
                raise InputError(f'{file}, line {line}: "{field}" is {kind_of(row[field])}; text was expected.')
            yield TextPassage(row[field], file, line)
        return
    lines = read_lines(file)
    if by == "line":
        yield from (TextPassage(line, file, number) for number, line in enumerate(lines, 1))
        return
    begin = 0
    for number, line in enumerate([*lines, ""]):
        if not line.strip():
            if number > begin:
                yield TextPassage(re.sub(r"\s*\n\s*", " ", "\n".join(lines[begin:number])).strip(), file, begin + 1)
            begin = number + 1

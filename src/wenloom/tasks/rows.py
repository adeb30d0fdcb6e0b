"""Rows of task data, one by one: what cannot be used is named by line and counted."""

import contextlib
import csv
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from wenloom.core.console import remark
from wenloom.core.errors import InputError, printable
from wenloom.core.foreign import kind_of, parsed_json, reading
from wenloom.evaluation.rows import read_lines, read_text
from wenloom.text.encoding import only_utf8
from wenloom.text.kinds import COMPRESSIONS
from wenloom.text.lines import json_lines, lines_of, utf8
from wenloom.text.refusals import Refusals
from wenloom.text.tables import table_rows

Made = TypeVar("Made")
LONGEST_ROW = 500_000
"""Characters of a row; longer ones are a mistake of whoever wrote the file."""


@dataclass
class RowReader(Refusals):
    """Reads files and remembers what it refused.

    Args:
        strict: stop at the first row that cannot be used.
    """

    strict: bool = False

    def objects(self, where: str | Path, make: Callable[[dict[str, Any]], Made]) -> list[Made]:
        """What `make` makes of the objects of a jsonl file, or of one JSON list; it refuses by raising ValueError.

        Args:
            where: a file, or several, comma-separated.

        Raises:
            InputError: a file cannot be read or holds no row that can be used; or a refused row, if strict.
        """
        return [each for path in files_in(where) for each in self._objects(path, make)]

    def _objects(self, path: Path, make: Callable[[dict[str, Any]], Made]) -> list[Made]:
        made: list[Made] = []
        for line, item, row in self._rows(path):
            self._take(path, line, lambda row=row: make(row), made, item)
        return self._some(path, made)

    def _rows(self, path: Path) -> Iterator[tuple[int, str, dict[str, Any]]]:
        """Rows with the number of the line, and of the item where several may stand on one."""
        if content_suffix(path) == ".csv":
            with only_utf8():
                for line, row in table_rows(path, self, most=LONGEST_ROW):
                    yield line, "", {name.strip(): cell for name, cell in row.items()}
            return
        if not _is_list(path):
            for line, row in json_lines(path, lambda line: _short(utf8(line)), self, 4 * LONGEST_ROW):
                yield line, "", row
            return
        for number, (line, text) in enumerate(_items(path), 1):
            item = f"item {number}: "
            try:
                row = parsed_json(_short(text))
                if not isinstance(row, dict):
                    raise ValueError(f"holds {kind_of(row)}, expected an object {{...}}")
            except ValueError as error:
                self.refuse(path, line, item + str(error))
            else:
                yield line, item, row

    def columns(self, path: Path, wanted: Sequence["TableColumn"], make: Callable[[list[str]], Made]) -> list[Made]:
        """What `make` makes of the wanted cells of every row of a file of columns between tabs.

        Raises:
            InputError: there is no such column.
        """
        lines = read_lines(path)
        numbers, has_header = _numbers_of(path, _split(lines[0]) if lines else [], wanted)
        made: list[Made] = []
        for line, text in enumerate(lines[has_header:], 1 + has_header):
            self._take(path, line, lambda text=text: make(_cells(_short(text), numbers)), made)
        return self._some(path, made)

    def lines(self, paths: Sequence[Path], make: Callable[[list[str]], Made]) -> list[Made]:
        """What `make` makes of the lines of several files that stand at one place.

        Raises:
            InputError: one has more lines than another.
        """
        files = [read_lines(path) for path in paths]
        if len({len(lines) for lines in files}) > 1:
            counts = ", ".join(f"{path} has {len(lines):,}" for path, lines in zip(paths, files, strict=True))
            raise InputError(f"these files must have the same number of lines: {counts}.")
        made: list[Made] = []
        for line, texts in enumerate(zip(*files, strict=True), 1):
            self._take(paths[0], line, lambda texts=texts: make([_short(text) for text in texts]), made)
        return self._some(paths[0], made)

    def _take(self, path: Path, line: int, make: Callable[[], Made], made: list[Made], item: str = "") -> None:
        try:
            with reading(f"{path}, line {line}"):
                try:
                    made.append(make())
                    self.in_a_row = 0
                except ValueError as error:
                    self.refuse(path, line, item + str(error))
        except InputError as error:
            if self.strict:
                raise
            self.refuse(path, line, item + str(error).removeprefix(f"{path}, line {line}: "))

    def _some(self, path: Path, made: list[Made]) -> list[Made]:
        if not made:
            first = next((f" The first: {each}." for each in self.refused if each.path == path), "")
            raise InputError(f"{path}: holds no row that can be used.{first}")
        return made


class TableColumn(NamedTuple):
    """A column that a task reads, of a file of columns between tabs."""

    given: str | None
    """Its name or number (from 1 on), as a person gives it."""
    names: Sequence[str]
    """Names under which a header may have it."""
    number: int
    """Where it is if nobody says."""


def _numbers_of(path: Path, first: list[str], wanted: Sequence[TableColumn]) -> tuple[list[int], bool]:
    """Which columns these are, from 0 on, and whether the first line names them.

    It does where a column was asked for by a name, or where one of its cells is a name that the task knows.

    Raises:
        InputError: no column has the name, or the number; or the first line names columns, but not those that are wanted.
    """
    header = [cell.strip().strip('"').lower() for cell in first]
    every_name = {name for column in wanted for name in column.names}
    numbers, unnamed = [], list[TableColumn]()
    has_header = any(cell in every_name for cell in header)
    for given, names, number in wanted:
        at = number - 1
        if given is not None and given.isdigit():
            at = int(given) - 1
            if not 0 <= at < len(first):
                raise InputError(
                    f"{path}: has no column {given}; line 1 has {len(first)} between tabs, numbered from 1 on."
                )
        elif given is not None:
            if given.lower() not in header:
                cells = ", ".join(printable(cell, 30) for cell in first)[:200]
                raise InputError(f'{path}: line 1 names no column "{printable(given, 60)}"; it has {cells or "none"}.')
            at, has_header = header.index(given.lower()), True
        elif any(name in header for name in names):
            at = next(header.index(name) for name in names if name in header)
        else:
            unnamed.append(TableColumn(given, names, number))
        numbers.append(at)
    if has_header and unnamed:
        cells = ", ".join(printable(cell, 30) for cell in first)[:200]
        raise InputError(
            f"{path}: line 1 names columns ({cells}), but none of {' or '.join(unnamed[0].names)}; name both by "
            "--source and --target (by number where line 1 is an example)."
        )
    if has_header:
        if twice := next((first[at] for at in numbers if header.count(header[at]) > 1), None):
            raise InputError(f'{path}, line 1: the column "{printable(twice.strip(), 60)}" stands twice.')
        remark(
            f"{path}: line 1 names the columns; {' and '.join(printable(first[at].strip(), 40) for at in numbers)} are read."
        )
        return numbers, True
    return [at if column.given else column.number - 1 for at, column in zip(numbers, wanted, strict=True)], False


def _cells(text: str, numbers: Sequence[int]) -> list[str]:
    """The cells of a row, without the quotes that spreadsheets put around some.

    Raises:
        ValueError: it has too few.
    """
    cells = _split(text)
    if max(numbers) >= len(cells):
        raise ValueError(f"has {len(cells)} columns between tabs; {max(numbers) + 1} were expected")
    return [cells[at].strip() for at in numbers]


def _split(text: str) -> list[str]:
    """The cells of a line; where its quotes do not match, they belong to the text."""
    if '"' in text:
        with contextlib.suppress(csv.Error):
            return next(csv.reader([text], delimiter="\t", strict=True))
    return text.split("\t")


def _short(text: str) -> str:
    if len(text) > LONGEST_ROW:
        raise ValueError(f"has {len(text):,} characters; {LONGEST_ROW:,} are the most")
    return text


def files_in(where: str | Path) -> list[Path]:
    """The files of a comma-separated list; a file whose name has a comma is one.

    >>> [str(path) for path in files_in("a.jsonl, b.jsonl")]
    ['a.jsonl', 'b.jsonl']
    """
    whole = Path(where).expanduser()
    return [whole] if whole.exists() else [Path(part.strip()).expanduser() for part in str(where).split(",")]


def content_suffix(path: Path) -> str:
    """What a file holds, by its name without what says that it is compressed.

    >>> content_suffix(Path("train.tsv.gz"))
    '.tsv'
    """
    return next((each for each in reversed(path.suffixes) if each not in COMPRESSIONS), "")


def _is_list(path: Path) -> bool:
    """Whether a file is one JSON list, and not lines of which the first happens to begin with a bracket."""
    first = [line.data.removeprefix(b"\xef\xbb\xbf").strip() for line in islice(lines_of(path, LONGEST_ROW), 2)]
    if not first or not first[0].startswith(b"[") or first[0] == b"[":
        return bool(first) and first[0] == b"["
    if _is_json(first[0]):
        return len(first) == 1
    return len(first) == 1 or not _is_json(first[1])


def _is_json(line: bytes) -> bool:
    try:
        parsed_json(line.decode())
    except ValueError:
        return False
    return True


_SCANNER = json.JSONDecoder(parse_int=str, parse_float=str)


def _items(path: Path) -> Iterator[tuple[int, str]]:
    """Line and JSON text of every item of a JSON list."""
    text = read_text(path)
    at, line = text.index("[") + 1, 1
    counted = 0
    closes = _after_blanks(text, at)
    if text[closes : closes + 1] == "]":
        return
    while True:
        begin = _after_blanks(text, at)
        line += text.count("\n", counted, begin)
        counted = begin
        with reading(f"{path}, line {line}", what="not valid JSON"):
            _, end = _SCANNER.raw_decode(text, begin)
        yield line, text[begin:end]
        at = _after_blanks(text, end)
        if text[at : at + 1] == "]":
            break
        if text[at : at + 1] != ",":
            line += text.count("\n", counted, at)
            raise InputError(f"{path}, line {line}: not valid JSON (a comma or ] is missing).")
        at += 1
    rest = _after_blanks(text, at + 1)
    if rest < len(text):
        raise InputError(f"{path}, line {text.count(chr(10), 0, rest) + 1}: not valid JSON (text after the list).")


_BLANKS = re.compile(r"[ \t\n\r]*")


def _after_blanks(text: str, at: int) -> int:
    found = _BLANKS.match(text, at)
    return found.end() if found else at


def value_of(row: dict[str, Any], names: Sequence[str]) -> tuple[str, Any]:
    """Name and value of the first of several fields that a row has.

    Raises:
        ValueError: it has none of them.
    """
    for name in names:
        if name in row:
            return name, row[name]
    has = ", ".join(f'"{name}"' for name in row) or "nothing"
    wanted = " or ".join(f'"{name}"' for name in names)
    raise ValueError(f"no field {wanted}; it has {has}")


def text_of(row: dict[str, Any], names: Sequence[str]) -> str:
    """A text that is not empty; a list of texts is joined by blanks.

    Raises:
        ValueError: there is none.
    """
    name, value = value_of(row, names)
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        value = " ".join(value)
    if not isinstance(value, str):
        raise ValueError(f'"{name}" is {kind_of(value)}; text was expected')
    if not value.strip():
        raise ValueError(f'"{name}" is empty')
    return value.strip()


def texts_of(row: dict[str, Any], names: Sequence[str]) -> tuple[str, ...]:
    """One or several texts, none of them empty.

    Raises:
        ValueError: there is none, or an empty one.
    """
    name, value = value_of(row, names)
    if isinstance(value, list) and value:
        return tuple(text_of({name: each}, [name]) for each in value)
    return (text_of(row, [name]),)

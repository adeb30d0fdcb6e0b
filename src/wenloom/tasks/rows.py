"""Rows of task data, one by one: what cannot be used is named by line and counted."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from wenloom.core.console import remark
from wenloom.core.errors import InputError
from wenloom.evaluation.rows import read_lines, read_text
from wenloom.text.compression import COMPRESSIONS

Made = TypeVar("Made")
LONGEST_ROW = 500_000
"""Characters of a row; longer ones are a mistake of whoever wrote the file."""


class Refused(NamedTuple):
    """A row that cannot be used."""

    path: Path
    line: int
    why: str

    def __str__(self) -> str:
        return f"{self.path}, line {self.line}: {self.why}"


@dataclass
class Intake:
    """Reads files and remembers what it refused.

    Args:
        strict: stop at the first row that cannot be used.
    """

    strict: bool = False
    refused: list[Refused] = field(default_factory=list)

    def objects(self, where: str | Path, make: Callable[[dict[str, Any]], Made]) -> list[Made]:
        """What `make` makes of the objects of a jsonl file, or of one JSON list; it refuses by raising ValueError.

        Args:
            where: a file, or several parted by commas.

        Raises:
            InputError: a file cannot be read or holds no row that can be used; or a refused row, if strict.
        """
        return [each for path in files_in(where) for each in self._objects(path, make)]

    def _objects(self, path: Path, make: Callable[[dict[str, Any]], Made]) -> list[Made]:
        made = []
        for line, text in _texts(path):
            try:
                if isinstance(text, str):
                    if len(text) > LONGEST_ROW:
                        raise ValueError(f"has {len(text):,} characters; {LONGEST_ROW:,} are the most")
                    text = _parsed(text)
                if not isinstance(text, dict):
                    raise ValueError(f"a {type(text).__name__} where an object {{...}} was expected")
                made.append(make(text))
            except ValueError as error:
                self._refuse(Refused(path, line, str(error)))
        return self._some(path, made)

    def columns(self, path: Path, make: Callable[[list[str]], Made]) -> list[Made]:
        """The same of a file of columns between tabs."""
        made = []
        for line, text in enumerate(read_lines(path), 1):
            try:
                if len(text) > LONGEST_ROW:
                    raise ValueError(f"has {len(text):,} characters; {LONGEST_ROW:,} are the most")
                made.append(make(text.split("\t")))
            except ValueError as error:
                self._refuse(Refused(path, line, str(error)))
        return self._some(path, made)

    def lines(self, paths: Sequence[Path], make: Callable[[list[str]], Made]) -> list[Made]:
        """The same of files whose lines belong together.

        Raises:
            InputError: one has more lines than another.
        """
        files = [read_lines(path) for path in paths]
        if len({len(lines) for lines in files}) > 1:
            counts = ", ".join(f"{path} has {len(lines):,}" for path, lines in zip(paths, files, strict=True))
            raise InputError(f"these files must have the same number of lines: {counts}.")
        made = []
        for line, texts in enumerate(zip(*files, strict=True), 1):
            try:
                made.append(make(list(texts)))
            except ValueError as error:
                self._refuse(Refused(paths[0], line, str(error)))
        return self._some(paths[0], made)

    def _refuse(self, refused: Refused) -> None:
        if self.strict:
            raise InputError(f"{refused}.")
        self.refused.append(refused)

    def _some(self, path: Path, made: list[Made]) -> list[Made]:
        if not made:
            first = next((f" The first: {each}." for each in self.refused if each.path == path), "")
            raise InputError(f"{path}: holds no row that can be used.{first}")
        return made

    def report(self, most: int = 5) -> None:
        """Say what was refused: the first few by line, and how many there are."""
        for each in self.refused[:most]:
            remark(f"Left out: {each}.")
        if len(self.refused) > most:
            remark(f"Left out: {len(self.refused):,} rows in all. --strict stops at the first.")


def files_in(where: str | Path) -> list[Path]:
    """The files of a list parted by commas; a file whose name has a comma is one.

    >>> [str(path) for path in files_in("a.jsonl, b.jsonl")]
    ['a.jsonl', 'b.jsonl']
    """
    return [Path(where)] if Path(where).exists() else [Path(part.strip()) for part in str(where).split(",")]


def content_suffix(path: Path) -> str:
    """What a file holds, by its name without what says that it is compressed.

    >>> content_suffix(Path("train.tsv.gz"))
    '.tsv'
    """
    return next((each for each in reversed(path.suffixes) if each not in COMPRESSIONS), "")


def _texts(path: Path) -> Iterator[tuple[int, Any]]:
    """(line, text of an object), or (number, object) of one JSON list."""
    text = read_text(path)
    if text.lstrip().startswith("["):
        try:
            rows = json.loads(text)
        except json.JSONDecodeError as error:
            raise InputError(f"{path}, line {error.lineno}: not valid JSON ({error.msg}).") from None
        yield from enumerate(rows, 1)
        return
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield number, line


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON ({error.msg} at column {error.colno})") from None
    except RecursionError:
        raise ValueError("nested too deep") from None


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
        raise ValueError(f'"{name}" is {type(value).__name__}; text was expected')
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

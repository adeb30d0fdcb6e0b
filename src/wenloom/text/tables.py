"""Rows of csv and tsv files as fields by name: the first line names the columns."""

import csv
import io
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

from wenloom.core.errors import InputError, printable
from wenloom.text.encoding import pieces_of
from wenloom.text.lines import MOST_EMPTY, ROW_BYTES
from wenloom.text.refusals import Refusals

csv.field_size_limit(2**31 - 1)  # for all threads alike: what bounds a field is `_CsvLines`


def table_rows(
    file: Path, refusals: Refusals, delimiter: str | None = None, encoding: str = "utf-8", repair: bool = False,
    most: int = ROW_BYTES, once: Sequence[str] | None = None,
) -> Iterator[tuple[int, dict[str, str]]]:  # fmt: skip
    """Rows with the number of their last line; those with another number of cells than the header are refused.

    Args:
        file: may be compressed.
        refusals: told what is left out.
        delimiter: between cells; None: a comma, or the semicolon or tabulator in whose place the header has none.
        encoding, repair: see `documents.ReadOptions`.
        most: characters of a row.
        once: columns that must not stand twice; None: all that have a name.

    Raises:
        InputError: no such file, or no table.
    """
    lines = _CsvLines(file, encoding, repair, most)
    begin = 1
    try:
        source = iter(lines)
        header = next(source, "")
        rows = csv.DictReader(
            itertools.chain([header], source), delimiter=delimiter or _delimiter_of(header), strict=True
        )
        for name in filter(None, rows.fieldnames or [] if once is None else once):
            if (rows.fieldnames or []).count(name) > 1:
                raise InputError(f'{file}, line 1: the column "{printable(name, 60)}" stands twice.')
        begin = rows.line_num + 1
        for row in rows:
            lines.pending, begin = 0, rows.line_num + 1
            if row.get(None) or None in row.values():  # pyright: ignore[reportArgumentType, reportCallIssue]
                refusals.refuse(file, rows.line_num, "has another number of columns than the header")
                continue
            yield rows.line_num, row
    except csv.Error as error:
        raise InputError(f"{file}, line {begin}: not valid CSV ({error}).") from None


def _delimiter_of(header: str) -> str:
    return "," if "," in header else max(",;\t", key=header.count)


class _CsvLines:
    """Lines for the csv module, which together must not make a row that is too long."""

    def __init__(self, file: Path, encoding: str, repair: bool, most: int):
        self._pieces, self._most = pieces_of(file, encoding, repair), most
        self.pending = self.empty = 0
        """Characters since the last row, and empty lines."""

    def __iter__(self) -> Iterator[str]:
        carry = ""
        for text, _ in self._pieces:
            *whole, carry = io.StringIO(carry + text, newline="")
            for line in whole:
                yield self._counted(line)
            if carry.endswith("\n"):
                yield self._counted(carry)
                carry = ""
            elif len(carry) > self._most:
                self._counted(carry)
        if carry:
            yield self._counted(carry)

    def _counted(self, line: str) -> str:
        self.pending += len(line)
        self.empty = self.empty + 1 if line.isspace() else 0
        if self.empty > MOST_EMPTY:
            raise csv.Error(f"more than {MOST_EMPTY:,} empty lines in a row")
        if self.pending > self._most:
            raise csv.Error(f"a row of more than {self._most:,} characters: a quote that is not closed?")
        return line.removeprefix("\ufeff")  # a mark stands where files were joined

"""Rows and files that cannot be used: named by file and line, counted, left out where that was asked for."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from wenloom.core.console import remark
from wenloom.core.errors import InputError, printable
from wenloom.core.quantities import counted

MOST_LISTED = 10_000
"""What is kept of a file of which nothing can be used; the count goes on."""

MOST_IN_A_ROW = 100_000
"""Rows without one that can be used between them: a file of another kind, and a small archive may hold 10^9 of them."""


class Refused(NamedTuple):
    """A row that cannot be used, or a whole file (line 0)."""

    path: Path
    line: int
    why: str
    unit: str = "line"
    """What is counted: lines, or rows of a file that is parsed as a whole."""

    def __str__(self) -> str:
        return f"{self.path}, {self.unit} {self.line}: {self.why}" if self.line else f"{self.path}: {self.why}"


@dataclass
class Refusals:
    """Remembers what was refused.

    Args:
        strict: stop at the first.
        mend: see below.
    """

    strict: bool = True
    mend: str = ""
    """How the command leaves such rows out, for the error of a strict one."""
    refused: list[Refused] = field(default_factory=list)
    """The first `MOST_LISTED`."""
    count: int = 0
    in_a_row: int = 0
    """Since the last row that was used; whoever uses one sets it to 0."""
    whole_files: set[Path] = field(default_factory=set)
    """Of which nothing is used."""
    shown_as: dict[Path, Path] = field(default_factory=dict)
    """Names of unpacked members of archives, as a reader knows them."""
    on_refused: Callable[[Refused], None] = lambda refused: None

    def refuse(self, path: Path, line: int, why: str, unit: str = "line") -> None:
        """Leave out a row, or a file (line 0).

        Raises:
            InputError: strict; or far too many in a row.
        """
        refused = Refused(self.shown_as.get(path, path), line, why.rstrip("."), unit)
        if self.strict:
            raise self.with_mend(InputError(f"{refused}."))
        self._note(refused)

    def leave_out(self, path: Path, number: int, why: str, unit: str, strict: bool) -> None:
        """Leave out a member of an archive or a record of a crawl, which is no error unless that was asked for.

        Raises:
            InputError: `strict`; or far too many in a row.
        """
        refused = Refused(self.shown_as.get(path, path), number, printable(why, 300).rstrip("."), unit)
        if strict:
            raise InputError(f"{refused} (without --strict it is left out).")
        self._note(refused)

    def _note(self, refused: Refused) -> None:
        self.on_refused(refused)
        self.count += 1
        self.in_a_row += 1
        if not refused.line:
            self.whole_files.add(refused.path)
        if self.in_a_row > MOST_IN_A_ROW:
            raise InputError(f"{refused.path}: {MOST_IN_A_ROW:,} rows in a row cannot be used; the last is {refused}.")
        if len(self.refused) < MOST_LISTED:
            self.refused.append(refused)

    def add(self, refused: list[Refused], count: int, whole_files: set[Path]) -> None:
        """What another process left out."""
        for each in refused:
            self.on_refused(each)
        self.refused += refused[: MOST_LISTED - len(self.refused)]
        self.count += count
        self.whole_files |= whole_files

    def with_mend(self, error: InputError) -> InputError:
        """The error that stops a strict reading, with what would leave the row or file out."""
        said = str(error).rstrip(".")
        return InputError(f"{said} ({self.mend})." if self.mend and self.mend not in said else f"{said}.")

    def report(self, most: int = 5) -> None:
        """Say what was left out: the first few by line, and how many there are."""
        for each in self.refused[:most]:
            remark(printable(f"Left out: {each}."))
        if self.count > most:
            remark(f"Left out: {counted(self.count, 'row')} in all.")

    def as_json(self) -> list[dict[str, Any]]:
        """For machines."""
        return [{"file": str(each.path), "line": each.line, "why": each.why} for each in self.refused]

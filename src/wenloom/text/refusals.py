"""Rows and files that cannot be used: named by file and line, counted, left out where that was asked for."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from wenloom.core.console import remark
from wenloom.core.errors import InputError, printable

MOST_LISTED = 10_000
"""What is kept of a file of which nothing can be used; the count goes on."""


class Refused(NamedTuple):
    """A row that cannot be used, or a whole file (line 0)."""

    path: Path
    line: int
    why: str

    def __str__(self) -> str:
        return f"{self.path}, line {self.line}: {self.why}" if self.line else f"{self.path}: {self.why}"


@dataclass
class Refusals:
    """Remembers what was refused.

    Args:
        strict: stop at the first.
    """

    strict: bool = True
    refused: list[Refused] = field(default_factory=list)
    """The first `MOST_LISTED`."""
    count: int = 0

    def refuse(self, path: Path, line: int, why: str) -> None:
        """Leave out a row, or a file (line 0).

        Raises:
            InputError: strict.
        """
        refused = Refused(path, line, why.rstrip("."))
        if self.strict:
            raise InputError(f"{refused}.")
        self.count += 1
        if len(self.refused) < MOST_LISTED:
            self.refused.append(refused)

    def report(self, most: int = 5) -> None:
        """Say what was left out: the first few by line, and how many there are."""
        for each in self.refused[:most]:
            remark(printable(f"Left out: {each}."))
        if self.count > most:
            remark(f"Left out: {self.count:,} rows in all.")

    def as_json(self) -> list[dict[str, Any]]:
        """For machines."""
        return [{"file": str(each.path), "line": each.line, "why": each.why} for each in self.refused]

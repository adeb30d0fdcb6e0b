"""Numbers on disk that memory need not hold: rows in parts that are read one at a time."""

import tempfile
from pathlib import Path
from types import TracebackType

import numpy as np


class Parted:
    """Rows that are added in any order of their parts, and read part by part.

    >>> with Parted(2, 1) as rows:
    ...     rows.add(np.array([[5], [6]], np.uint64), np.array([0, 1]))
    ...     rows.add(np.array([[7]], np.uint64), np.array([1]))
    ...     rows.part(0).tolist(), rows.part(1).tolist()
    ([[5]], [[6], [7]])
    """

    def __init__(self, n_parts: int, columns: int, folder: Path | None = None):
        """
        Args:
            columns: numbers in a row (uint64).
            folder: where the file, which has no name, lies; default: that of temporary files.
        """
        self._numbers, self._columns = np.arange(n_parts + 1), columns
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed by __exit__
        self._cuts, self._size = list[np.ndarray](), 0

    def __enter__(self) -> "Parted":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, rows: np.ndarray, part: np.ndarray) -> None:
        """
        Args:
            rows: shape (rows, columns).
            part: of each row; ascending.
        """
        self._cuts.append(self._size + np.searchsorted(part, self._numbers))
        self._file.write(np.ascontiguousarray(rows, np.uint64).data)
        self._size += len(rows)

    def part(self, number: int) -> np.ndarray:
        """The rows of a part, in the order in which they were added, shape (rows, columns)."""
        spans = [(int(cuts[number]), int(cuts[number + 1])) for cuts in self._cuts]
        rows, at = np.empty((sum(end - begin for begin, end in spans), self._columns), np.uint64), 0
        for begin, end in spans:
            if end > begin:
                self._file.seek(8 * self._columns * begin)
                self._file.readinto(rows[at : at + end - begin].data.cast("B"))  # pyright: ignore[reportAttributeAccessIssue]
                at += end - begin
        return rows

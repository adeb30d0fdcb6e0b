"""Files of a folder that are not read: counted by kind, named on demand."""

from collections import Counter
from pathlib import Path
from typing import NamedTuple

from wenloom.core.console import remark


class SkippedFile(NamedTuple):
    """A file of a folder that is not read."""

    path: Path
    why: str
    """Its ending, or `notes`, `empty`, `no ending`, `about a package`."""


def counted(skipped: list[SkippedFile]) -> str:
    """How many of each kind, the most frequent first.

    >>> counted([SkippedFile(Path("a.png"), ".png"), SkippedFile(Path("b.png"), ".png"), SkippedFile(Path("c"), "empty")])
    '2 .png, 1 empty'
    """
    counts = Counter(each.why for each in skipped)
    others = counts.total() - sum(count for _, count in counts.most_common(8))
    return ", ".join(
        [f"{count:,} {why}" for why, count in counts.most_common(8)] + [f"{others:,} others"] * bool(others)
    )


def tell(folder: Path, skipped: list[SkippedFile], each_of_them: bool) -> None:
    """Say in a line how many files of a folder are not read, by kind, and on demand which."""
    if skipped:
        which = "" if each_of_them else "`wenloom prepare --show-skipped` lists them; "
        remark(f"{folder}: skipped {len(skipped):,} file{'s' * (len(skipped) > 1)}: {counted(skipped)}; {which}name a file itself "
               "to read it.")  # fmt: skip
        for file in skipped if each_of_them else ():
            remark(f"  {file.path} ({file.why})")

"""A corpus in shares that machines read by themselves: some of the files, or of a large file every so many blocks."""

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from wenloom.core.errors import WenloomError
from wenloom.core.files import write_atomically
from wenloom.core.foreign import json_text
from wenloom.text.document import ReadOptions
from wenloom.text.documents import SKIP_BAD
from wenloom.text.recipe import Recipe
from wenloom.text.refusals import Refusals, Refused
from wenloom.text.worker import Worker, in_blocks

_SHARE_BYTES = 64_000_000
_MOST_TURNS = 16
"""Shares of one large file: each reads all of it, which costs a twentieth of what the steps do."""


class Share(NamedTuple):
    """What one task does."""

    files: tuple[Path, ...]
    group: int
    """Number of these files among all groups."""
    turn: int
    of: int
    """Of the blocks of these files it does every `of`-th, beginning with number `turn`."""


def shares_of(files: Sequence[Path], first_group: int = 0) -> list[Share]:
    """Neighbouring files together up to about 64 MB; a larger file several times.

    >>> [(len(each.files), each.group, each.turn, each.of) for each in shares_of([Path(__file__)] * 3, 5)]
    [(3, 5, 0, 1)]
    """
    found = list[Share]()
    for number, group in enumerate(_groups(files), first_group):
        size = sum(file.stat().st_size for file in group)
        of = min(_MOST_TURNS, max(1, -(-size // _SHARE_BYTES))) if len(group) == 1 else 1
        found += [Share(group, number, turn, of) for turn in range(of)]
    return found


def _groups(files: Sequence[Path]) -> Iterator[tuple[Path, ...]]:
    group, size = list[Path](), 0
    for file in files:
        n_bytes = file.stat().st_size
        if group and size + n_bytes > _SHARE_BYTES:
            yield tuple(group)
            group, size = [], 0
        group.append(file)
        size += n_bytes
    if group:
        yield tuple(group)


@dataclass(frozen=True)
class SiftTask:
    """Takes shares of a corpus through the steps of a recipe; called by its number on whatever machine sees `work`."""

    folder: Path
    """From where relative names of files count."""
    work: Path
    shares: tuple[Share, ...]
    reading: ReadOptions
    recipe: Recipe

    def __call__(self, data: object, rank: int, world_size: int) -> None:
        """As a step of a pipeline of datatrove.

        Raises:
            InputError: see `documents.read_documents`.
        """
        with contextlib.chdir(self.folder):
            self._do(self.shares[rank])

    def _do(self, share: Share) -> None:
        refusals = Refusals(strict=not self.reading.skip_bad, mend=SKIP_BAD)
        worker, count = Worker(self.recipe, self.reading), 0
        for number, documents in enumerate(in_blocks(share.files, self.reading, lambda n: None, refusals, None)):
            path, count = self.block(share.group, number), number + 1
            if number % share.of == share.turn and not path.exists():
                worker(path, documents)
        if not share.turn:
            refused = [[str(each.path), each.line, each.why, each.unit] for each in refusals.refused]
            facts = {"blocks": count, "refused": refused, "count": refusals.count,
                     "whole_files": [str(each) for each in refusals.whole_files]}  # fmt: skip
            write_atomically(self._about(share.group), json_text(facts) + "\n")

    def block(self, group: int, number: int) -> Path:
        """Where a block of a group lies."""
        return self.work / f"{group:06}-{number:06}.npz"

    def _about(self, group: int) -> Path:
        return self.work / f"{group:06}.json"

    def done(self, refusals: Refusals) -> dict[int, list[Path]]:
        """Of every group its blocks, once all shares are done.

        Args:
            refusals: told what was left out.

        Raises:
            WenloomError: a block is not there.
        """
        found = dict[int, list[Path]]()
        for group in sorted({share.group for share in self.shares}):
            facts = json.loads(self._about(group).read_text(encoding="utf-8"))
            found[group] = [self.block(group, number) for number in range(facts["blocks"])]
            if missing := [path for path in found[group] if not path.exists()]:
                raise WenloomError(
                    f"{missing[0]}: was made by a task and is not here; all machines must see {self.work}."
                )
            refusals.add([Refused(Path(path), line, why, unit) for path, line, why, unit in facts["refused"]], facts["count"],
                         {Path(each) for each in facts["whole_files"]})  # fmt: skip
        return found

"""What packages of others add: families, tasks, suites and text steps, announced as entry points.

    [project.entry-points."wenloom.text_steps"]
    shouting = "my_package.steps:ShoutingStep"

They are looked for when a name is asked for that is not Wenloom's own, so that whoever has none pays nothing.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import EntryPoints, distributions
from typing import Any, TypeVar

from wenloom.core.console import remark
from wenloom.core.errors import printable

T = TypeVar("T")


class Registry(Mapping[str, T]):
    """Things by name: our own, then those of other packages.

    An entry point that cannot be loaded, is of another kind or takes a name that is taken is left out with one remark;
    nothing else is the worse for it.
    """

    def __init__(self, group: str, own: Mapping[str, T], fits: Callable[[Any], bool]):
        """
        Args:
            group: the group of entry points, such as `wenloom.families`.
            own: what Wenloom has itself.
            fits: whether what an entry point names is of the right kind.
        """
        self._group, self._own, self._fits = group, own, fits
        self._found: tuple[tuple[str, ...], dict[str, T]] | None = None
        """Where packages were looked for, and what they add."""

    def __getitem__(self, name: str) -> T:
        return self._own[name] if name in self._own else self._added()[name]

    def __iter__(self) -> Iterator[str]:
        return iter([*self._own, *self._added()])

    def __len__(self) -> int:
        return len(self._own) + len(self._added())

    def _added(self) -> dict[str, T]:
        where = tuple(sys.path)
        if self._found is None or self._found[0] != where:
            self._found = where, self._look()
        return self._found[1]

    def _look(self) -> dict[str, T]:
        added: dict[str, T] = {}
        for package, points in self._announced():
            try:
                for point in points():
                    if point.name in self._own or point.name in added:
                        raise ValueError(f"{point.name}: the name is taken")
                    thing = point.load()
                    if not self._fits(thing):
                        raise TypeError(f"{point.name}: a {type(thing).__name__} is none of {self._group}")
                    added[point.name] = thing
            except (Exception, SystemExit) as error:  # whatever the code of others does while it is imported
                why = printable(f"{type(error).__name__}: {error}", 200)
                remark(f"{printable(package, 80)}: what it adds to {self._group} is left out ({why}).")
        return added

    def _announced(self) -> Iterator[tuple[str, Callable[[], EntryPoints]]]:
        """Packages by name, the first of each on the path, with what reads their entry points of this group."""
        seen: set[str] = set()
        for package in distributions():
            name = str(package.metadata["Name"])
            if name not in seen:
                seen.add(name)
                yield name, lambda package=package: package.entry_points.select(group=self._group)

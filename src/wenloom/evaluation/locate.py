"""Where the files of datasets lie: one by its name, or those of all subjects by a pattern such as `test/*_test.csv`."""

import os
from collections.abc import Sequence
from pathlib import Path

from wenloom.core.errors import InputError
from wenloom.text.hub import download_all, is_hub_data

DATA_FOLDER = "WENLOOM_DATA"
"""Environment variable: where datasets lie."""
FIGURES = ".figures.json"
"""Ending of the file of an evaluation's figures, which lies beside its samples."""
_ENDINGS = ("", ".gz", ".zst")


def data_folder(named: Path | None) -> Path:
    """The folder below which suites' files lie: one of this machine, or a data set of the hub (`hf:owner/name`).

    Raises:
        InputError: see `text.hub.download`.
    """
    if named is not None and is_hub_data(named):
        return download_all(str(named))
    return named or Path(os.environ.get(DATA_FOLDER, "data"))


def found_below(root: Path, names: Sequence[str], prefer: str = "") -> Path | None:
    """The first of some files that is anywhere below a folder, also compressed; of a pattern, its folder and the pattern.

    A file nearer to the folder is found before one that lies deeper; the samples of an earlier evaluation are no data.

    Args:
        prefer: of several places, the one whose path has this word.

    Raises:
        InputError: files of a pattern lie in several folders, none of them of that name.
    """
    for name in names if root.is_dir() else ():
        matches = {path for ending in _ENDINGS for path in root.rglob(name + ending) if path.is_file()}
        data = [path for path in matches if not path.with_suffix(FIGURES).exists()]
        found = sorted(data, key=lambda path: (len(path.parts), path))
        if not found:
            continue
        if "*" not in name:
            return found[0]
        folders = list(dict.fromkeys(path.parent for path in found))
        named = [each for each in folders if prefer and prefer in str(each.relative_to(root)).lower()]
        if len(named or folders) > 1:
            raise InputError(f"{root}: {name} is in {folders[0]} and in {folders[1]}; name one of them with --data.")
        return (named or folders)[0] / name.rpartition("/")[2]
    return None


def files_in(place: Path) -> list[tuple[Path, str]]:
    """The files that a path of `found_below` stands for, each with what stands for the `*` in its name.

    Raises:
        InputError: none are there.
    """
    before, star, after = place.name.partition("*")
    if not star:
        return [(place, place.name.split(".")[0])]
    for ending in _ENDINGS:
        if found := sorted(place.parent.glob(place.name + ending)):
            return [(each, each.name[len(before) : len(each.name) - len(after + ending)]) for each in found]
    raise InputError(f"{place}: there are no such files.")

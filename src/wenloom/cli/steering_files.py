"""Steering vectors that are named on the command line by their files."""

from collections.abc import Iterable
from pathlib import Path

from wenloom.core.errors import InputError
from wenloom.generation.request_types import name_and_strength, shown

_ENDING = ".safetensors"


def vector_file(name: str) -> Path | None:
    """The file of a vector, with or without its ending; None where there is none."""
    path = Path(name).expanduser()
    return next((each for each in (path, path.with_name(path.name + _ENDING)) if path.name and each.is_file()), None)


def vector_files(wanted: Iterable[str], must_exist: bool = True) -> dict[str, Path]:
    """Files by the names that requests give, as in `--steer calm.safetensors:2`.

    Args:
        wanted: names with or without a strength.
        must_exist: else names without a file are left out.

    Raises:
        InputError: a name has no file.
    """
    found: dict[str, Path] = {}
    for each in wanted:
        name, _ = name_and_strength(each)
        file = vector_file(name)
        if file is not None:
            found[name] = file
        elif must_exist:
            raise InputError(f"--steer {shown(name)}: no such file; `wenloom steer` makes a steering vector.")
    return found

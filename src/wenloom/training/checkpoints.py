"""The checkpoints of a run folder: which are whole, and which may go.

A folder `step-N` is ours if it holds a `state.json`; that lists the files that were written with it, and nothing else
is ever deleted. Whatever else lies in `checkpoints/` stays as it is and harms nothing.
"""

import hashlib
import json
import re
import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from safetensors import safe_open

from wenloom.checkpoint.adapter_config import ADAPTER_CONFIG
from wenloom.checkpoint.folder import CONFIG
from wenloom.core.console import remark
from wenloom.core.errors import CheckpointError, InputError
from wenloom.core.files import sha256_of_file
from wenloom.core.foreign import read_json_object, reading

STATE, OPTIMIZER = "state.json", "optimizer.safetensors"
_STEP = re.compile(r"step-(\d{1,12})(?:-(\d{1,6}))?")
_ASIDE = re.compile(r"\.step-[\d-]+\.((old|new)\.)?[a-z0-9_]{8}")
"""What `files.folder_aside` leaves where it was killed."""


def own_checkpoints(run: Path) -> list[Path]:
    """Checkpoints that this run wrote, damaged ones included, oldest first."""
    with suppress(OSError):
        found = [path for path in (run / "checkpoints").iterdir() if _order(path) is not None]
        return sorted(found, key=lambda path: _order(path) or (0, 0))
    return []


def _order(path: Path) -> tuple[int, int] | None:
    match = _STEP.fullmatch(path.name)
    if match is None or path.is_symlink() or not (path / STATE).is_file():
        return None
    return int(match[1]), int(match[2] or 1)


def latest_checkpoint(run: Path) -> Path | None:
    """The newest whole checkpoint of a run, as far as the sizes of its files tell."""
    return next((path for path in reversed(own_checkpoints(run)) if _problem(path, contents=False) is None), None)


def sound_checkpoint(run: Path, silent: bool = False) -> Path:
    """The newest checkpoint whose files hold what was written, byte for byte; newer ones are named in a remark.

    Args:
        silent: leave the remark out.

    Raises:
        InputError: there is none at all.
        CheckpointError: all are damaged; says what is wrong with the newest.
    """
    problems: list[str] = []
    for path in reversed(own_checkpoints(run)):
        problem = _problem(path, contents=True)
        if problem is None:
            for each in () if silent else problems:
                remark(f"{each} Going on from {path} instead.")
            return path
        problems.append(problem)
    if problems:
        raise CheckpointError(f"{problems[0]} There is no other checkpoint to go on from.")
    raise InputError(f"{run}: has no checkpoint to continue from. Start again with another --out.")


def _problem(path: Path, contents: bool) -> str | None:
    """What is wrong with a checkpoint, in a sentence; None: nothing."""
    try:
        files = written_files(path)
        if files is None:  # of a version before 0.2, which kept no list
            missing = [name for name in (OPTIMIZER,) if not (path / name).is_file()]
            if not (path / CONFIG).is_file() and not (path / ADAPTER_CONFIG).is_file():
                missing.append(CONFIG)
            if missing:
                raise CheckpointError(f"{path / missing[0]}: is missing.")
            for file in path.glob("*.safetensors") if contents else ():
                with reading(file, CheckpointError, "is damaged or cut short"), safe_open(file, "pt"):
                    pass
            return None
        if read_state(path).get("sha256") != _sum(read_state(path)):
            raise CheckpointError(
                f"{path / STATE}: is damaged: it does not hold what was written (its SHA-256 differs)."
            )
        for name, (size, digest) in files.items():
            file = path / name
            if not file.is_file():
                raise CheckpointError(f"{file}: is missing.")
            if file.stat().st_size != size:
                raise CheckpointError(f"{file}: has {file.stat().st_size:,} bytes, {size:,} were written.")
            if contents and sha256_of_file(file) != digest:
                raise CheckpointError(f"{file}: is damaged: it does not hold what was written (its SHA-256 differs).")
    except CheckpointError as error:
        return str(error)
    except OSError as error:
        return f"{path}: cannot be read ({(error.strerror or str(error)).lower()})."
    return None


def read_state(path: Path) -> dict[str, Any]:
    """The content of state.json.

    Raises:
        CheckpointError: it is not JSON object.
    """
    return read_json_object(path / STATE, CheckpointError)


def written_files(path: Path) -> dict[str, tuple[int, str]] | None:
    """The files of a checkpoint with size and SHA-256; None for one that has no such list.

    Raises:
        CheckpointError: state.json is damaged.
    """
    files = read_state(path).get("files")
    if files is None:
        return None
    found = {}
    for name, about in files.items() if isinstance(files, dict) else [("", None)]:
        size, digest = (about.get("bytes"), about.get("sha256")) if isinstance(about, dict) else (None, None)
        if name != Path(name).name or not name or not isinstance(size, int) or not isinstance(digest, str):
            raise CheckpointError(f'{path / STATE}: field "files": does not list files with their sizes and sums.')
        found[name] = size, digest
    return found


def write_state(folder: Path, progress: dict[str, Any]) -> None:
    """Write state.json beside the other files of a checkpoint: progress, these files with their sums, and its own."""
    files = {
        file.name: {"bytes": file.stat().st_size, "sha256": sha256_of_file(file)} for file in sorted(folder.iterdir())
    }
    state = {**progress, "files": files}
    (folder / STATE).write_text(json.dumps({**state, "sha256": _sum(state)}, indent=1) + "\n", encoding="utf-8")


def _sum(state: dict[str, Any]) -> str:
    rest = {name: value for name, value in state.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def free_place(run: Path, step: int) -> Path:
    """Where a checkpoint of a step can be written without touching what is there."""
    first = path = run / "checkpoints" / f"step-{step:08}"
    number = 1
    while path.exists() or path.is_symlink():
        number += 1
        path = first.with_name(f"{first.name}-{number}")
    return path


def drop_older(run: Path, newest: Path) -> None:
    """Delete our checkpoints but the newest, a whole one before it, for the day when that is damaged, and those that are
    kept for good.

    What a killed process left of writing one goes, too.
    """
    own = own_checkpoints(run)
    older = [path for path in own[: own.index(newest)] if not is_kept(path)] if newest in own else []
    spare = next((path for path in reversed(older) if _problem(path, contents=False) is None), None)
    for path in older:
        if path != spare:
            _delete(path, (file.name for file in newest.iterdir()))
    for path in newest.parent.iterdir():
        if _ASIDE.fullmatch(path.name) and path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)


def is_kept(path: Path) -> bool:
    """Whether a checkpoint stays for good, to continue from."""
    try:
        return read_state(path).get("kept") is True
    except (CheckpointError, OSError):
        return False


def _delete(path: Path, usual: Iterable[str]) -> None:
    """Delete the files that were written with a checkpoint, its list last; the folder too, where nothing else is in it."""
    try:
        files = written_files(path)
    except CheckpointError:
        return
    with suppress(OSError):
        for name in files if files is not None else {*usual} - {STATE}:
            (path / name).unlink(missing_ok=True)
        (path / STATE).unlink()
        path.rmdir()


def set_aside_newer(run: Path, checkpoint: Path, word: str = "damaged") -> list[Path]:
    """Rename the checkpoints that are newer than the one that a run goes on from; returns where they are now.

    Args:
        word: why no run continues from them; becomes part of their names.
    """
    own, found = own_checkpoints(run), []
    for path in own[own.index(checkpoint) + 1 :]:
        aside = path.with_name(f"{path.name}.{word}")
        number = 1
        while aside.exists():
            number += 1
            aside = path.with_name(f"{path.name}.{word}-{number}")
        path.rename(aside)
        found.append(aside)
    return found

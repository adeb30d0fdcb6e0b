"""What a debiasing was asked for, beside the folder that it makes until that is whole: with it an interrupted one can go on."""

import json
import shlex
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from wenloom.core.errors import InputError
from wenloom.core.files import write_atomically
from wenloom.core.foreign import reading
from wenloom.training.settings import TrainSettings

_TRAINED = "-trained"


@dataclass(frozen=True)
class Unfinished:
    """A debiasing under way."""

    model: str
    methods: tuple[str, ...]
    words: str
    tuning: str
    strength: float
    data: tuple[str, ...]
    """The files and folders of its texts."""
    texts: str
    """A hash of these."""
    training: TrainSettings


def unfinished_file(out: Path) -> Path:
    """Where it is written down: `OUT-debias.json`."""
    return out.with_name(f"{out.name}-debias.json")


def training_folder(out: Path) -> Path:
    """Where a model is trained that is erased afterwards."""
    return out.with_name(f"{out.name}{_TRAINED}")


def debiased_folders(run: Path) -> tuple[Path, ...]:
    """What a training in a folder may be a part of."""
    return run, run.with_name(run.name.removesuffix(_TRAINED))


def how_to_go_on(out: Path) -> str:
    """The command that does."""
    return f"wenloom debias --resume {shlex.quote(str(out))}"


def refuse_unfinished(out: Path) -> None:
    """
    Raises:
        InputError: a debiasing into this folder was interrupted.
    """
    if unfinished_file(out).exists():
        raise InputError(
            f"{out}: a debiasing into it was interrupted. Go on with: {how_to_go_on(out)} (or remove {unfinished_file(out)}, or choose "
            "another --out)."
        )


def note_unfinished(out: Path, asked: Unfinished) -> None:
    """Write down what was asked for."""
    write_atomically(unfinished_file(out), json.dumps(asdict(asked), indent=1, ensure_ascii=False) + "\n")


def read_unfinished(out: Path) -> Unfinished:
    """What was asked for.

    Raises:
        InputError: nothing was interrupted, or the file is damaged.
    """
    path = unfinished_file(out)
    if not path.exists():
        there = "it is whole" if (out / "config.json").exists() else f"there is no {path}"
        raise InputError(f"{out}: holds no debiasing that was interrupted ({there}).")
    with reading(path, what="is damaged"):
        table: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        kinds = {
            "model": str,
            "words": str,
            "tuning": str,
            "strength": float,
            "texts": str,
            "methods": list,
            "data": list,
        }
        if wrong := [name for name, kind in kinds.items() if not isinstance(table[name], kind)]:
            raise ValueError(f"{wrong[0]} is not what debias writes there")
        table |= {name: tuple(map(str, table[name])) for name in ("methods", "data")}
        table["training"] = TrainSettings(**table["training"])
        return Unfinished(**table)

"""run.toml: what a run folder says of its run, written by us and read as carefully as anybody's file."""

import dataclasses
import json
import re
import tomllib
import types
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from wenloom.core.errors import InputError, printable
from wenloom.core.files import write_atomically
from wenloom.core.foreign import reading
from wenloom.core.pages.page import END_OF_TEXT

RUN, METRICS, REPORT = "run.toml", "metrics.jsonl", "report.html"
LEFT = {RUN, METRICS, REPORT, "checkpoints", "tensorboard", "wandb"}
"""What a run writes before its first checkpoint."""
_MOST_BYTES = 16 * 2**20
_NEEDED: dict[str, dict[str, type | tuple[type, ...]]] = {
    "settings": {},
    "data": {"key": str},
    "model": {"family": str, "parameters": int, "vocab_size": int},
    "result": {"steps": int, "of_steps": int, "tokens": int, "training_seconds": (int, float)},
}
"""Tables and fields that every run has, and what they hold."""
_FORMER = {"hidden": "mask_ratio", "longest_source": "max_source_tokens", "longest_target": "max_target_tokens"}
"""Names that settings had before, and have now."""
Settings = TypeVar("Settings")


def write_run(run: Path, tables: dict[str, dict[str, Any]]) -> None:
    """Write run.toml: tables of plain values, None left out."""
    parts = []
    for title, table in tables.items():
        lines = [f"{_key(name)} = {toml_value(value)}" for name, value in table.items() if value is not None]
        parts.append("\n".join([f"[{_key(title)}]", *lines]))
    write_atomically(run / RUN, "\n\n".join(parts) + "\n")


def end_of_text(tables: dict[str, dict[str, Any]]) -> str:
    """The token that ends a text, as samples of a run have it."""
    token = tables["model"].get("end_of_text")
    return token if isinstance(token, str) and token else END_OF_TEXT


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name)


def toml_value(value: Any) -> str:
    """As TOML has it, which is as JSON has it, but for what is not a number and for the character 127."""
    if isinstance(value, float) and value != value:
        return "nan"
    if isinstance(value, float) and abs(value) == float("inf"):
        return "inf" if value > 0 else "-inf"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def read_run(run: Path) -> dict[str, dict[str, Any]]:
    """Read run.toml; the tables and fields that every run has are there.

    Raises:
        InputError: the folder holds no run, or its file is damaged; names file and line or field.
    """
    path = run / RUN
    if not path.exists():
        raise InputError(f"{run}: holds no training run (it has no {RUN}).")
    with reading(path, what="is damaged or no run's"):
        if path.is_file() and path.stat().st_size > _MOST_BYTES:
            raise InputError(f"{path}: {path.stat().st_size:,} bytes; no run writes more than {_MOST_BYTES:,}.")
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    for title, fields in _NEEDED.items():
        table = tables.get(title)
        if not isinstance(table, dict):
            raise InputError(f"{path}: is damaged or no run's (it has no table [{title}]).")
        for name, kind in fields.items():
            if not isinstance(table.get(name), kind) or isinstance(table.get(name), bool):
                raise InputError(f"{path}: table [{title}]: {name} is missing or not what a run writes there.")
    if strange := [title for title, table in tables.items() if not isinstance(table, dict)]:
        raise InputError(f"{path}: {printable(strange[0], 40)} is not a table.")
    return tables | {"settings": renamed(tables["settings"])}


def renamed(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings under the names they have now; one that stands there under both keeps the value of its present name.

    >>> renamed({"task": "fill-mask", "hidden": 0.3})
    {'task': 'fill-mask', 'mask_ratio': 0.3}
    """
    former = {_FORMER[name]: value for name, value in settings.items() if name in _FORMER}
    present = {name: value for name, value in settings.items() if name not in _FORMER}
    return present | {name: value for name, value in former.items() if name not in present}


def task_of(folder: Path) -> str | None:
    """What a model was made for, where its folder says so."""
    task = read_run(folder)["settings"].get("task") if (folder / RUN).exists() else None
    return task if isinstance(task, str) else None


def settings_of(run: Path, kind: type[Settings], table: dict[str, Any]) -> Settings:
    """What a table of a run's file says of settings.

    Raises:
        InputError: a value is of the wrong kind, or the settings do not fit together; names file and field.
    """
    hints = get_type_hints(kind)
    values = {name: table[name] for name in (each.name for each in dataclasses.fields(kind)) if name in table}  # pyright: ignore
    for name, value in values.items():
        if not _fits(value, hints[name]):
            raise InputError(
                f"{run / RUN}: table [settings]: {name} = {printable(repr(value), 60)} is not a valid setting."
            )
    with reading(run / RUN, what="holds settings that cannot be used"):
        try:
            return kind(**values)
        except InputError as error:
            raise InputError(f"{run / RUN}: table [settings]: {error}") from None


def _fits(value: Any, hint: Any) -> bool:
    """
    >>> _fits(3, int | None), _fits(True, int), _fits(1, float), _fits("a", Literal["b"]), _fits(["a"], tuple[str, ...])
    (True, False, True, False, True)
    """
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return any(_fits(value, each) for each in get_args(hint))
    if origin is Literal:
        return isinstance(value, (str, int)) and value in get_args(hint)
    if origin in (list, tuple):
        return isinstance(value, list) and all(_fits(each, get_args(hint)[0]) for each in value)
    if hint in (int, float) and isinstance(value, bool):
        return False
    if hint is Any:
        return True
    return isinstance(value, (int, float) if hint is float else hint)

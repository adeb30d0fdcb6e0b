"""`--config FILE` and `--save-config FILE`, of every command: options that stand in a TOML file."""

import re
import tomllib
from pathlib import Path
from typing import Any

from cyclopts import App, CoercionError, Token
from cyclopts.argument import Argument, ArgumentCollection, update_argument_collection

from wenloom.cli.usage import misfit
from wenloom.core.errors import InputError, printable
from wenloom.core.files import write_atomically
from wenloom.core.foreign import regular_file
from wenloom.core.nearest import nearest

_MARK = "# Options of a wenloom command, for --config."
_TABLE = "settings"
"""Where options stand in the run.toml of a run; in other files they may stand in no table at all."""
_BASE = "base"
"""The model that a finetuning began with, in its run.toml."""
_MOST_BYTES = 2**20


def taken(arguments: list[str], flag: str) -> Path | None:
    """Take `--flag FILE` or `--flag=FILE` out of the arguments.

    Raises:
        InputError: there is no file behind it, or it is given twice.
    """
    end = arguments.index("--") if "--" in arguments else len(arguments)
    places = [n for n, each in enumerate(arguments[:end]) if each == flag or each.startswith(flag + "=")]
    if not places:
        return None
    if len(places) > 1:
        raise InputError(f"{flag}: give one file.")
    at = places[0]
    _, joined, value = arguments[at].partition("=")
    if not joined and at + 1 < end and not arguments[at + 1].startswith("--"):
        value = arguments[at + 1]
    if not value:
        raise InputError(f"{flag}: name a TOML file.")
    del arguments[at : at + (1 if joined else 2)]
    return Path(value)


class ConfigFile:
    """Fills in from a file what was not given on the command line.

    The options stand at the top of the file or in its table [settings], as in the run.toml of a run, whose other tables
    count for nothing; with dashes or underscores. The model or data that a command is about may stand there, too
    (`model = "runs/mine"`; `base` in the run.toml of a finetuning).

    Raises:
        InputError: the file is not TOML, or holds something that is not an option of the command; names file and line.
    """

    def __init__(self, path: Path):
        self.path = path
        if regular_file(path).st_size > _MOST_BYTES:
            raise InputError(f"{path}: more than {_MOST_BYTES:,} bytes; no file of options has so many.")
        try:
            self._text = path.read_text(encoding="utf-8-sig")
            tables = tomllib.loads(self._text)
        except UnicodeDecodeError as error:
            raise InputError(f"{path}: byte {error.start} is not valid UTF-8.") from None
        except (tomllib.TOMLDecodeError, RecursionError) as error:
            raise InputError(f"{path}: is not valid TOML ({printable(str(error), 200)}).") from None
        self._is_run = isinstance(tables.get(_TABLE), dict)
        self._options: dict[str, Any] = tables[_TABLE] if self._is_run else tables
        if self._is_run and (outside := [name for name, value in tables.items() if not isinstance(value, dict)]):
            raise InputError(
                f"{self._place(outside[0])}: {printable(outside[0], 60)} stands before [{_TABLE}]; put it below."
            )

    def __call__(self, app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
        """Called by cyclopts between reading the command line and checking it."""
        from wenloom.training.run_file import renamed

        known = _places(arguments) | options_of(arguments)
        found: dict[str, tuple[str, Any]] = {}
        for key, value in (renamed(self._options) if self._is_run else self._options).items():
            name = "model" if self._is_run and key == _BASE else key.replace("-", "_")
            if name not in known:
                raise InputError(f"{self._place(key)}: {self._unknown(name, value, known, ' '.join(commands))}")
            if isinstance(value, dict):
                raise InputError(f"{self._place(key)}: {key} is an option, not a table: {key} = ...")
            if name in found:
                raise InputError(f"{self._place(key)}: {key} stands twice, with a dash and with an underscore.")
            found[name] = (key, value)
        for name, (key, value) in found.items():
            option = known[name]
            if option.tokens:
                continue  # the command line wins
            if not option.name.startswith("--"):
                if isinstance(value, list) and not option.token_count()[1]:
                    raise InputError(f"{self._place(key)}: {key} is one value, not a list.")
                for n, each in enumerate(value if isinstance(value, list) else [value]):
                    option.append(Token(value=str(each), source=str(self.path), index=n))
                continue
            update_argument_collection({option.name.removeprefix("--"): value}, str(self.path), arguments,
                                       app.app_stack.stack[-1], root_keys=(), allow_unknown=False)  # fmt: skip
            try:
                taken_as = option.convert()
            except CoercionError as error:
                raise InputError(f"{self._place(key)}: {name}{misfit(error)}") from None
            if isinstance(value, list) and _plain(taken_as) != value and any(isinstance(each, list) for each in value):
                raise InputError(
                    f"{self._place(key)}: {name}: takes no lists within lists; --prompts FILE does, line by line."
                )

    def _unknown(self, name: str, value: Any, known: dict[str, Argument], command: str) -> str:
        said = printable(name, 60)
        if isinstance(value, dict):
            return f"there is no table [{said}]; options stand in [{_TABLE}] or in no table."
        near = nearest(name, known)
        return f"wenloom {command} has no option {said}" + (f"; did you mean {near[0]}?" if near else ".")

    def _place(self, key: str) -> str:
        """The file, and the line on which a key stands where it can be told."""
        spelled = re.escape(key).replace("_", "[-_]")
        pattern = re.compile(rf"""\s*(\[\s*)?(["']?){spelled}\2\s*(=|\])""")
        line = next((n for n, line in enumerate(self._text.splitlines(), 1) if pattern.match(line)), None)
        return str(self.path) if line is None else f"{self.path}, line {line}"


class ConfigWriter:
    """Writes the options that were given, on the command line or in a file, so that `--config` gives them again."""

    def __init__(self, path: Path):
        self.path = path
        if path.exists() and (
            regular_file(path).st_size > _MOST_BYTES or not path.read_bytes().startswith(_MARK.encode())
        ):
            raise InputError(
                f"--save-config {path}: exists, and was not written by --save-config; choose another name."
            )

    def __call__(self, app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
        """Called by cyclopts like `ConfigFile`, after it."""
        from wenloom.training.run_file import toml_value

        given = {name: _plain(option.convert()) for name, option in options_of(arguments).items() if option.tokens}
        lines = [f"{name} = {toml_value(value)}" for name, value in given.items() if value is not None]
        write_atomically(self.path, "\n".join([_MARK, f"# wenloom {' '.join(commands)}", f"[{_TABLE}]", *lines]) + "\n")


def options_of(arguments: ArgumentCollection) -> dict[str, Argument]:
    """The options of a command by their names, with underscores."""
    shown = [each for each in arguments if each.parse and each.show and each.name.startswith("--")]
    return {each.name.removeprefix("--").replace("-", "_"): each for each in shown}


def _places(arguments: ArgumentCollection) -> dict[str, Argument]:
    """What a command is about, which stands on the command line without a name: MODEL as `model`."""
    return {
        each.name.lower(): each for each in arguments if each.parse and each.show and not each.name.startswith("--")
    }


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, Path) else value

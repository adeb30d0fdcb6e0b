"""The command `wenloom`. Commands are imported when they are called, so that --help answers at once."""

import inspect
import os
import re
import sys
from importlib import import_module
from pathlib import Path
from textwrap import wrap
from typing import Any, NoReturn

from cyclopts import App, CycloptsError, Group, Parameter
from cyclopts.config import Toml

from wenloom.cli.commands import FAMILIES, RENAMED, STAGES, called, module_of
from wenloom.cli.outcome import DEBUG, discard_output, failed, open_streams, our_fault
from wenloom.core.console import out
from wenloom.core.errors import InputError, WenloomError
from wenloom.core.version import __version__


def build_app(arguments: list[str]) -> App:
    """The command tree.

    Only the command that `arguments` call is described by its own docstring, which costs importing it; the
    others are known by one line each.
    """
    app = App(
        name="wenloom",
        help=(
            "Grow, use and understand your own language model.\n\n"
            "From nothing, in a few minutes: `wenloom quickstart`. From your own text:\n\n"
            "```\nwenloom prepare my-texts/ --out data/mine\n"
            "wenloom pretrain data/mine --out runs/mine\n"
            'wenloom generate runs/mine "Once upon a time"\n```'
        ),
        version=__version__,
        suppress_keyboard_interrupt=False,
        help_format="markdown",
        default_parameter=Parameter(negative_iterable=()),
        group_commands=Group("Options", sort_key=len(STAGES) + 1),
    )
    asked = called(arguments)
    families: dict[str, App] = {}
    for order, (stage, commands) in enumerate(STAGES.items(), 1):
        group = Group(stage, sort_key=order)
        for place, (path, summary) in enumerate(commands.items()):
            *family, name = path.split()
            if family and family[0] not in families:
                families[family[0]] = App(name=family[0], help=FAMILIES[family[0]], help_format="markdown",
                                          group=group, group_commands="Commands", sort_key=place)  # fmt: skip
                app.command(families[family[0]])
            module, function = module_of(path)
            (families[family[0]] if family else app).command(
                f"{module}:{function}",
                name=name,
                help=_described(module, function) if path.split() == asked else summary,
                group="Commands" if family else group,
                sort_key=place,
            )
    return app


def _described(module: str, function: str) -> str:
    """What a command's docstring says before its parameters, with fences around examples, which keep their lines so."""
    text = (inspect.getdoc(getattr(import_module(module), function)) or "").partition("\nParameters\n")[0]
    return re.sub(r"(?:^    \S.*\n?)+", _fenced, text, flags=re.MULTILINE)


def _fenced(block: re.Match[str]) -> str:
    """Examples as a terminal of 80 columns shows them: what is longer goes on behind a backslash, as the shell reads it."""
    lines = [" \\\n".join(wrap(line, 75, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False))
             for line in inspect.cleandoc(block[0]).splitlines()]  # fmt: skip
    return "\n".join(("```", *lines, "```", ""))


def main() -> NoReturn:
    """Run one command. Exit codes: 0 done, 1 a fault of Wenloom itself, 2 bad input, 130 stopped by the user."""
    arguments = sys.argv[1:]
    as_json = "--json" in arguments
    open_streams()
    try:
        if arguments and arguments[0] in RENAMED:
            raise InputError(f"the command `{arguments[0]}` is now called `{RENAMED[arguments[0]]}`.")
        config = _config_file(arguments)
        app = build_app(arguments)
        app.config, app.console = config, out
        app(arguments, exit_on_error=False, print_error=False)
        sys.stdout.flush()
        code = 0
    except WenloomError as error:
        code = failed(str(error), error.exit_code, as_json and not error.is_reported)
    except CycloptsError as error:
        asked = " ".join(("wenloom", *called(arguments), "--help"))
        code = failed(f"{error} ({asked} lists what there is)", 2, as_json)
    except BrokenPipeError:  # the reader of our output went away, as `| head` does
        discard_output()
        code = 0
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        code = failed(f"{where}{(error.strerror or str(error)).lower()}.", 2, as_json)
    except MemoryError:
        code = failed("this needs more memory than there is: take a smaller model, batch, context or file.", 2, as_json)
    except KeyboardInterrupt:
        code = failed("stopped.", 130, as_json)
    except Exception as error:
        if os.environ.get(DEBUG):
            raise
        code = failed(our_fault(error), 1, as_json)
    sys.exit(code)


def _config_file(arguments: list[str]) -> tuple[Toml, ...]:
    """Take `--config FILE` out of the arguments: its [settings] fill in what the flags leave open."""
    if "--config" not in arguments:
        return ()
    at = arguments.index("--config")
    if at + 1 >= len(arguments):
        raise InputError("--config: name a TOML file with a table [settings], such as the run.toml of a run.")
    path = arguments[at + 1]
    del arguments[at : at + 2]
    if not Path(path).is_file():
        raise InputError(f"--config {path}: no such file.")
    return (_Settings(path, root_keys=("settings",), use_commands_as_keys=False, must_exist=True),)


class _Settings(Toml):
    """The [settings] of a file, which may be the run.toml of an earlier version."""

    def _load_config(self, path: Path) -> dict[str, Any]:
        from wenloom.training.run_file import renamed

        tables = super()._load_config(path)
        settings = tables.get("settings")
        return tables | {"settings": renamed(settings)} if isinstance(settings, dict) else tables

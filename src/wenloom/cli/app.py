"""The command `wenloom`. Commands are imported when they are called, so that --help answers at once."""

import os
import sys
from pathlib import Path
from typing import Any, NoReturn

from cyclopts import App, CycloptsError, Group, Parameter
from cyclopts.config import Toml

from wenloom.cli.commands import FAMILIES, RENAMED, STAGES, called, module_of
from wenloom.cli.help import HELP_ALL, HelpPage, described
from wenloom.cli.outcome import DEBUG, discard_output, failed, open_streams, our_fault
from wenloom.core.console import out
from wenloom.core.errors import InputError, WenloomError
from wenloom.core.version import __version__


def build_app(arguments: list[str], helps_with_all: bool = False) -> App:
    """The command tree.

    Only the command that `arguments` call is described by its own docstring, which costs importing it; the
    others are known by one line each.

    Args:
        helps_with_all: `--help` shows every option, as `--help-all` asks.
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
            is_asked = path.split() == asked
            (families[family[0]] if family else app).command(
                ":".join(module_of(path)),
                name=name,
                help=described(path) if is_asked else summary,
                help_formatter=HelpPage(command=path, is_whole=helps_with_all) if is_asked else None,
                group="Commands" if family else group,
                sort_key=place,
            )
    return app


def main() -> NoReturn:
    """Run one command. Exit codes: 0 done, 1 a fault of Wenloom itself, 2 bad input, 130 stopped by the user."""
    arguments = sys.argv[1:]
    as_json = "--json" in arguments
    open_streams()
    try:
        if arguments and arguments[0] in RENAMED:
            raise InputError(f"the command `{arguments[0]}` is now called `{RENAMED[arguments[0]]}`.")
        config = _config_file(arguments)
        helps_with_all = HELP_ALL in arguments
        arguments = ["--help" if each == HELP_ALL else each for each in arguments]
        app = build_app(arguments, helps_with_all)
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

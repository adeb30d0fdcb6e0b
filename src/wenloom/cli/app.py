"""The command `wenloom`. Commands are imported when they are called, so that --help answers at once."""

import errno
import os
import sys
from typing import NoReturn

from cyclopts import App, CycloptsError, Group, Parameter

from wenloom.cli.commands import FAMILIES, RENAMED, STAGES, called, module_of
from wenloom.cli.config_file import ConfigFile, ConfigWriter, taken
from wenloom.cli.help import HELP_ALL, HelpPage, described
from wenloom.cli.outcome import DEBUG, discard_output, failed, open_streams, our_fault
from wenloom.cli.usage import refuse_options_as_files, usage_error
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
        read, write = taken(arguments, "--config"), taken(arguments, "--save-config")
        config = [*([ConfigFile(read)] if read else []), *([ConfigWriter(write)] if write else [])]
        helps_with_all = HELP_ALL in arguments
        arguments = ["--help" if each == HELP_ALL else each for each in arguments]
        app = build_app(arguments, helps_with_all)
        app.config, app.console = [*config, refuse_options_as_files], out
        app(arguments, exit_on_error=False, print_error=False)
        sys.stdout.flush()
        code = 0
    except WenloomError as error:
        code = failed(str(error), error.exit_code, as_json and not error.is_reported)
    except CycloptsError as error:
        code = failed(usage_error(error, arguments), 2, as_json)
    except BrokenPipeError:  # the reader of our output went away, as `| head` does
        discard_output()
        code = 0
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        mend = "; free some, and the same command can be run again" * (error.errno == errno.ENOSPC)
        code = failed(f"{where}{(error.strerror or str(error)).lower()}{mend}.", 2, as_json)
    except MemoryError:
        code = failed("this needs more memory than there is: take a smaller model, batch, context or file.", 2, as_json)
    except KeyboardInterrupt:
        code = failed("stopped.", 130, as_json)
    except Exception as error:
        if os.environ.get(DEBUG):
            raise
        code = failed(our_fault(error), 1, as_json)
    sys.exit(code)

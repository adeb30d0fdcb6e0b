"""What is wrong with a command line, in a sentence."""

from typing import Any

from cyclopts import (
    App,
    CoercionError,
    CycloptsError,
    MissingArgumentError,
    RepeatArgumentError,
    Token,
    UnknownOptionError,
    UnusedCliTokensError,
)
from cyclopts.argument import ArgumentCollection

from wenloom.cli.commands import COMMANDS, FAMILIES, called
from wenloom.core.errors import printable
from wenloom.core.nearest import nearest

_KINDS: dict[Any, str] = {int: "a whole number", float: "a number", bool: "true or false"}


def usage_error(error: CycloptsError, arguments: list[str]) -> str:
    """A sentence about arguments that cannot be used, with the help to look them up in."""
    command = called(arguments)
    lookup = f"({' '.join(('wenloom', *command, '--help'))} lists what there is)"
    if isinstance(error, CoercionError) and error.token is not None:
        return f"{error.token.keyword or name_of(error)}{misfit(error)} {lookup}"
    if isinstance(error, UnusedCliTokensError):
        unused = " ".join(printable(each, 40) for each in error.unused_tokens or ())
        return f"too many arguments: {unused} {lookup}"
    if type(error) is MissingArgumentError:
        given = (
            error.keyword or next((each.keyword for each in error.argument.tokens if each.keyword), None)
            if error.argument
            else None
        )
        missing = f"{given} needs a value" if given else f"{name_of(error)} is missing"
        return f"{missing} {lookup}"
    if isinstance(error, RepeatArgumentError):
        return f"{error.token.keyword}: give it once {lookup}"
    if not command and arguments and not arguments[0].startswith("-"):
        typed = arguments[1] if arguments[0] in FAMILIES and len(arguments) > 1 else arguments[0]
        within = [each.split()[-1] for each in COMMANDS if each.split()[0] == arguments[0]] or [
            each.split()[0] for each in COMMANDS
        ]
        near = nearest(typed, within)
        hint = f"; did you mean {near[0]}?" if near else f". There are {', '.join(dict.fromkeys(within))}"
        return f"unknown command {printable(typed, 40)}{hint} {lookup}"
    error.verbose = False
    return f"{error} {lookup}"


def refuse_options_as_files(app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
    """Called by cyclopts like `ConfigFile`: where - names a pipe, it takes an option that there is not for one file more.

    Raises:
        UnknownOptionError: something else than - begins with one.
    """
    taking = (each for each in arguments if each.parameter.allow_leading_hyphen and not each.name.startswith("--"))
    for token in (token for each in taking for token in each.tokens if token.source == "cli"):
        if token.value.startswith("-") and token.value != "-":
            unknown = Token(keyword=token.value.partition("=")[0], source=token.source)
            raise UnknownOptionError(token=unknown, argument_collection=arguments)


def misfit(error: CoercionError) -> str:
    """What a value is and had to be, as in ' x: must be a number.'"""
    value = printable(error.token.value, 60) if error.token is not None else ""
    choices = error.argument.get_choices() if error.argument is not None else None
    kind = _KINDS.get(error.target_type) or (
        f"one of {', '.join(choices)}" if choices else error.msg or "something else"
    )
    return f" {value}: must be {kind}."


def name_of(error: CycloptsError) -> str:
    """The argument as the help writes it."""
    if error.argument is None:
        return "an argument"
    name = error.argument.name
    return name if name.startswith("--") else name.upper()

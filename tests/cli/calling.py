"""The command line called within this process: what a subprocess would give, without its second of start-up."""

import contextlib
import io
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple
from unittest import mock

from wenloom.cli.app import main
from wenloom.cli.outcome import DEBUG
from wenloom.core import console


class Done(NamedTuple):
    """What a call left behind."""

    code: int
    out: str
    err: str


def call(*arguments: object, cwd: Path, stdin: str | bytes = b"", environment: Mapping[str, str] | None = None) -> Done:
    """Call `wenloom ARGUMENTS` in the folder `cwd`. An exception that no command line should let out passes through."""
    data = stdin.encode() if isinstance(stdin, str) else stdin
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    columns = (environment or {}).get("COLUMNS")
    with (
        contextlib.ExitStack() as stack,
        contextlib.chdir(cwd),
        mock.patch.object(sys, "argv", ["wenloom", *map(str, arguments)]),
        mock.patch.object(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), "utf-8")),
        mock.patch.dict(os.environ, {DEBUG: "1"} | dict(environment or {})),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        for each in (console.out, console.remarks) if columns else ():  # they look once, when they are made
            stack.enter_context(mock.patch.object(each, "_width", int(columns or 0)))
        try:
            main()
        except SystemExit as end:
            code = end.code
    assert isinstance(code, int), code
    return Done(code, *(stream.buffer.getvalue().decode() for stream in (out, err)))


def succeed(*arguments: object, **more: object) -> str:
    """Standard output of a call that must end well."""
    done = call(*arguments, **more)  # pyright: ignore[reportArgumentType]
    assert done.code == 0, (arguments, done)
    return done.out


def refused(*arguments: object, **more: object) -> str:
    """The sentence of a call that must be refused: exit code 2, nothing on standard output, no traceback."""
    done = call(*arguments, **more)  # pyright: ignore[reportArgumentType]
    assert done.code == 2, (arguments, done)
    assert not done.out and "Traceback" not in done.err, (arguments, done)
    return " ".join(done.err.split())

"""How a command ends where it cannot do what was asked: one sentence, or one JSON document, and an exit code."""

import contextlib
import io
import json
import os
import sys
import tempfile
import traceback

from wenloom.core.errors import printable

DEBUG = "WENLOOM_DEBUG"
"""Environment variable: show the traceback of an internal error of Wenloom."""


def open_streams() -> None:
    """Make the standard streams usable: those that were closed are empty, and none fails at a character it lacks."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:  # closed, as by `wenloom ... <&-`
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: PTH123, SIM115 - stays open
        elif mode == "w" and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def discard_output() -> None:
    """Send what is still to be written nowhere: its reader went away."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def failed(message: str, code: int, as_json: bool) -> int:
    """Say why a command failed, on standard error; with --json as a document on standard output too.

    Returns:
        The exit code.
    """
    message = "\n".join(map(printable, message.split("\n")))
    try:
        if as_json:
            sys.stdout.write(json.dumps({"error": message, "exit_code": code}, indent=2) + "\n")
            sys.stdout.flush()
        print(_for_terminal(f"wenloom: {message}"), file=sys.stderr, flush=True)
    except OSError:
        discard_output()
    return code


def _for_terminal(message: str) -> str:
    """Lines broken between words where a terminal reads them."""
    if not sys.stderr.isatty():
        return message
    from wenloom.core.console import remarks, wrapped  # a tenth of a second, for which an error in a pipe need not wait

    return "\n".join(wrapped(line, remarks.width) for line in message.split("\n"))


def our_fault(error: Exception) -> str:
    """A sentence about an exception that no command should let out; its traceback goes to a file."""
    text = "".join(traceback.format_exception(error))
    what = f"{type(error).__name__}: {str(error)[:200]}"
    try:
        with tempfile.NamedTemporaryFile("w", prefix="wenloom-", suffix=".txt", delete=False, encoding="utf-8",
                                         errors="backslashreplace") as file:  # fmt: skip
            file.write(f"wenloom {' '.join(sys.argv[1:])}\n\n{text}")
    except OSError:
        return f"an internal error of Wenloom ({what}). Please report it; {DEBUG}=1 shows the traceback."
    return (
        f"an internal error of Wenloom ({what}). Please report it with {file.name}; {DEBUG}=1 shows the traceback here."
    )

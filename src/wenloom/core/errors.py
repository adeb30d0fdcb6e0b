"""Errors that are written for the reader: what was wrong, where, and the mend."""


class WenloomError(Exception):
    """Base of every error that a user can mend. The command line prints it and exits with its code."""

    exit_code = 2
    is_reported = False
    """Whether the JSON document that a command has printed tells of it already."""


class InputError(WenloomError, ValueError):
    """A file, text or option given by the user cannot be used."""


class CheckpointError(WenloomError, ValueError):
    """A model folder cannot be read, understood or written."""


def printable(text: str, limit: int | None = None) -> str:
    r"""Text of a stranger made safe for a terminal: control characters and half surrogates as escapes.

    Args:
        limit: characters to keep; what is longer ends in "…".

    >>> printable("a\x1b[31mb\r\n", 20)
    'a\\x1b[31mb\\r\\n'
    """
    if limit is not None and len(text) > limit:
        text = text[: limit - 1] + "…"
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)

"""Errors that are written for the reader: what was wrong, where, and the mend."""


class WordloomError(Exception):
    """Base of every error that a user can mend. The command line prints it and exits with its code."""

    exit_code = 2


class InputError(WordloomError, ValueError):
    """A file, text or option given by the user cannot be used."""


class CheckpointError(WordloomError, ValueError):
    """A model folder cannot be read, understood or written."""

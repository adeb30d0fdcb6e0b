"""Lines that somebody types, with the keys of an editor and a history, or lines of a pipe."""

import contextlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from wenloom.core.console import remarks
from wenloom.core.errors import InputError

_MOST_LINES = 1000


def state_folder() -> Path:
    """Where a user's programs keep what they want to find again (XDG_STATE_HOME, else ~/.local/state)."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state") / "wenloom"


class LineInput:
    """Lines of standard input.

    On a terminal, arrow keys edit the line and bring back earlier ones, also of earlier days; those are in a file that
    only the user may read. What comes through a pipe is kept nowhere.

    Args:
        history: the name of that file; None keeps none.
        words: what the Tab key completes at the beginning of a line.
    """

    def __init__(self, history: str | None, words: Sequence[str] = ()):
        self.is_terminal = sys.stdin.isatty()
        self._readline = _readline() if self.is_terminal and sys.stdout.isatty() else None
        self._history = None
        if self._readline is not None:
            self._complete(self._readline, words)
            self._history = _opened(self._readline, history)

    def _complete(self, readline: ModuleType, words: Sequence[str]) -> None:
        def candidate(begun: str, number: int) -> str | None:
            found = [word for word in words if begun and word.startswith(begun)]
            return found[number] + " " if number < len(found) else None

        readline.set_completer_delims("\n")
        readline.set_completer(candidate)
        libedit = "libedit" in (readline.__doc__ or "")
        readline.parse_and_bind("bind ^I rl_complete" if libedit else "tab: complete")

    def line(self, prompt: str) -> str | None:
        """The next line; None at the end.

        Raises:
            InputError: it is not UTF-8.
            KeyboardInterrupt: Ctrl-C.
        """
        try:
            if not self.is_terminal:
                return sys.stdin.readline() or None
            if self._readline is None:
                return remarks.input(prompt, markup=False)
            colour = ("\x01\x1b[1;34m\x02", "\x01\x1b[0m\x02") if remarks.color_system else ("", "")
            line = input(f"{colour[0]}{prompt}{colour[1]}")
        except EOFError:
            return None
        except UnicodeDecodeError as error:
            raise InputError(f"standard input: byte {error.start} is not valid UTF-8.") from None
        self._keep(line)
        return line

    def _keep(self, line: str) -> None:
        if self._readline is not None and self._history is not None and line.strip():
            with contextlib.suppress(OSError, UnicodeError):  # a full disk is no reason to end a conversation
                self._readline.append_history_file(1, self._history)


def _readline() -> ModuleType | None:
    try:
        import readline
    except ImportError:  # Windows
        return None
    return readline


def _opened(readline: ModuleType, name: str | None) -> Path | None:
    """The file of the history, read, and shortened where it has grown long; None where there can be none."""
    if name is None or not hasattr(readline, "append_history_file"):
        return None
    path = state_folder() / name
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
        readline.set_history_length(_MOST_LINES)
        readline.read_history_file(path)
        if readline.get_current_history_length() >= _MOST_LINES:
            readline.write_history_file(path)
    except (OSError, UnicodeError):
        return None
    return path

"""What a person sees: results on standard output, progress and remarks on standard error.

Standard output carries only what was asked for, so that it can be piped.
"""

import json
import os
import re
import sys
from collections.abc import Collection
from typing import Any

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table


class _Console(Console):
    """Leaves it to the command line what a reader that went away means, and names itself where it takes no more."""

    def on_broken_pipe(self) -> None:
        raise

    def print(self, *objects: Any, **options: Any) -> None:
        try:
            super().print(*objects, **options)
        except OSError as error:
            error.filename = error.filename or f"standard {'error' if self.stderr else 'output'}"
            raise


_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""All but the end of a line and the tabulator."""

out = _Console(highlight=False)
remarks = _Console(stderr=True, highlight=False)


class _WordTable(Table):
    """Narrows its widest columns first and none below its longest word, as long as that can be."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        cells = [[str(column.header), *map(str, column.cells)] for column in self.columns]
        widths = [max(map(cell_len, "\n".join(each).split("\n"))) for each in cells]
        words = [max(map(cell_len, "\n".join(each).split()), default=0) for each in cells]
        least = [
            most if column.no_wrap else word for column, most, word in zip(self.columns, widths, words, strict=True)
        ]
        gaps, room = len(widths) - 1, options.max_width
        if sum(least) + 2 * gaps > room:
            self.padding = (0, 1, 0, 0)  # one blank between two columns, not two
        room -= sum(self.padding[1::2]) * gaps
        while sum(widths) > room and widths != least:
            widest = max((n for n, width in enumerate(widths) if width > least[n]), key=lambda n: widths[n])
            widths[widest] -= 1
        if sum(widths) <= room:
            for column, width in zip(self.columns, widths, strict=True):
                column.width = width
        return super().__rich_console__(console, options)


def table(*columns: str, right: Collection[str] = (), whole: Collection[str] = (), title: str | None = None) -> Table:
    """A table for a terminal of any width: where a row does not fit, its cells break between words, and nothing is left out.

    Args:
        right: columns that stand at the right, such as numbers.
        whole: columns of which no cell is broken, such as names, while others can be.
        title: a line above it.
    """
    made = _WordTable(box=None, pad_edge=False, title=title, title_justify="left")
    for name in columns:
        made.add_column(name, justify="right" if name in right else "left", overflow="fold", no_wrap=name in whole)
    return made


def silence() -> None:
    """Say nothing more in this process, but errors: one of many speaks for all."""
    out.quiet = remarks.quiet = True


def say(text: str, verbatim: bool = False) -> None:
    """Print lines of a result; on a terminal they break between words, but for text that somebody or a model wrote."""
    _print(out, visible(text), verbatim)


def remark(text: str) -> None:
    """Say what is being done, on standard error; on a terminal its lines break between words."""
    _print(remarks, visible(text), verbatim=False)


def _print(console: Console, text: str, verbatim: bool) -> None:
    if console.is_terminal and not verbatim:
        text = "\n".join(wrapped(line, console.width) for line in text.split("\n"))
    console.print(text, markup=False, soft_wrap=True)


_WORD = re.compile(r"(\s*)(\S+)")
_COMMAND = re.compile(r"\s*(try +|Try next: +)?wenloom ")
_ARGUMENT = re.compile(r"""(\s*)((?:'[^']*'|"[^"]*"|\S)+)""")
_FIELD = re.compile(r"()([^|]*\|?)")
_WIDE = "\u2e80-\u30ff\u3400-\u9fff\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff"
_CHARACTER = re.compile(f"()([（《「『【“‘]*(?:[{_WIDE}]|[^{_WIDE}“‘]+|[“‘])[，。、；：！？）》」』】”’]*)")
"""Of Chinese and Japanese, which have no blanks: no line begins with what closes and none ends with what opens."""


def wrapped(line: str, width: int) -> str:
    """A line in several, broken between words and indented as its first is; no word is cut, and a command is one still when
    it is copied. Chinese and Japanese without a blank break between their characters.

    >>> wrapped("  a step takes 3 ms", 12).split("\\n"), wrapped("wenloom info runs/mine", 16).split("\\n")
    (['  a step', '    takes 3', '    ms'], ['wenloom info \\\\', '  runs/mine'])
    """
    if cell_len(line) <= width:
        return line
    indent = line[: len(line) - len(line.lstrip())]
    is_command = _COMMAND.match(line) is not None
    if is_command and os.name == "nt":  # where no mark continues a command on the next line
        return line
    words = (_ARGUMENT if is_command else _WORD).findall(line[len(indent) :])
    mark, rows, row = " \\" * is_command, list[str](), indent
    for number, (space, word) in enumerate(words):
        last = mark if number < len(words) - 1 else ""
        too_long = cell_len(indent + "  " + word + last) > width
        if too_long and word.count("|") > 1:  # a signature
            pieces = [part for part in _FIELD.findall(word) if part[1]]
        elif too_long and not is_command:
            pieces = _CHARACTER.findall(word)
        else:
            pieces = [("", word)]
        for at, (_, piece) in enumerate(pieces):
            before = space if not at else ""
            helps = not (is_command and too_long)  # a word that fits nowhere stays where it is
            if row.strip() and helps and cell_len(row + before + piece + last) > width:
                rows.append(row + mark)
                row, before = indent + "  ", ""
            row += before + piece
    return "\n".join([*rows, row])


def visible(text: str) -> str:
    """Half surrogates and control characters, which names of files may hold, as escapes: no terminal takes the ones,
    and each obeys the others."""
    escaped = _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
    return escaped.encode("utf-8", "backslashreplace").decode()


def print_json(value: Any, indent: int | None = 2) -> None:
    """Print one JSON document on standard output, Chinese as Chinese (as escapes, where the output takes no UTF-8)."""
    if not out.quiet:
        escaped = not (sys.stdout.encoding or "").lower().startswith("utf")
        text = json.dumps(value, ensure_ascii=escaped, indent=indent)
        sys.stdout.write(text.encode("utf-8", "backslashreplace").decode() + "\n")


def print_json_line(value: Any) -> None:
    """Print one JSON document on a line of its own, at once: who reads a pipe is waiting for it."""
    print_json(value, indent=None)
    sys.stdout.flush()

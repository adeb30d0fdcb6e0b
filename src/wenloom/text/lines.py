"""Lines of files one at a time, each of a bounded length, and rows of JSON lines."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from wenloom.core.errors import InputError
from wenloom.core.foreign import kind_of, parsed_json
from wenloom.text.compression import open_decompressed, unpacking
from wenloom.text.refusals import Refusals

ROW_BYTES = 16 * 2**20
"""Of a row: the text of several long books. JSON of brackets alone takes 24 times as much memory as it is long."""
MOST_EMPTY = 1_000_000
"""Empty lines in a row; a small archive can hold 10^9 of them."""


class Line(NamedTuple):
    """A line without its break."""

    number: int
    offset: int
    """Where it begins in the (decompressed) file, bytes."""
    data: bytes
    is_whole: bool = True
    """False: longer than allowed, and cut short."""


def lines_of(file: Path, most: int = ROW_BYTES, breaks: bytes = b"\r") -> Iterator[Line]:
    r"""The lines of a file, also compressed, that are not empty. Lines end in \n or \r\n.

    Args:
        most: bytes of a line.
        breaks: what ends a line besides, inside such lines.

    Raises:
        InputError: see `open_decompressed`; a million empty lines in a row.
    """
    number = offset = empty = 0
    with unpacking(file), open_decompressed(file) as stream:
        while line := stream.readline(most + 2):
            number += 1
            if len(line) - (line[-1:] == b"\n") > most and not line.endswith(b"\r\n"):
                yield Line(number, offset, line[:most], False)
                while line[-1:] != b"\n":
                    offset += len(line)
                    line = stream.readline(1 << 20)
                    if not line:
                        return
                offset += len(line)
                continue
            inside = line.rstrip(b"\r\n")
            parts = inside.split(breaks) if breaks in inside else [inside]
            for place, part in enumerate(parts):
                number += place > 0
                if part and not part.isspace():
                    empty = 0
                    yield Line(number, offset, part)
                    continue
                empty += 1
                if empty > MOST_EMPTY:
                    raise InputError(f"{file}, line {number}: more than {MOST_EMPTY:,} empty lines in a row.")
            offset += len(line)


def json_lines(
    file: Path, decoded: Callable[[Line], str], refusals: Refusals, most: int = ROW_BYTES
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Number and object of every line; what is none goes to `refusals`.

    Args:
        decoded: makes text of a line; refuses by ValueError.

    Raises:
        InputError: see `lines_of`.
    """
    for line in lines_of(file, most):
        try:
            if not line.is_whole:
                raise ValueError(f"is longer than {most:,} bytes")
            text = decoded(line).removeprefix("\ufeff").strip()  # a mark stands where files were joined
            if not text:
                continue
            row = parsed_json(text)
            if not isinstance(row, dict):
                is_list = line.number == 1 and isinstance(row, list)
                raise ValueError(f"holds {kind_of(row)}, expected an object {{...}}"
                                 + " (a JSON list becomes lines by: jq -c '.[]')" * is_list)  # fmt: skip
        except InputError:
            raise
        except ValueError as error:
            refusals.refuse(file, line.number, str(error))
            continue
        yield line.number, row


def utf8(line: Line) -> str:
    """
    Raises:
        ValueError: the line is not UTF-8.
    """
    try:
        return line.data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 (byte {line.offset + error.start}); convert the file first") from None

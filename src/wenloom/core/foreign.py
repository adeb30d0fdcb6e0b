"""Reading files that somebody else made: whatever goes wrong in one becomes a sentence that names it.

Libraries that read foreign bytes raise what they like: `KeyError` deep in a parser, `RecursionError` of nested
JSON, `MemoryError` of a length that lies, a bare `Exception`, or a panic of Rust code, which is not even an
`Exception`. All of it passes through `reading`, so that no reader needs a list of its own.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from wenloom.core.errors import InputError, WenloomError, printable

JSON_BYTES = 256 * 2**20
"""No tokenizer, index or configuration that is published comes near it (Gemma 3's tokenizer.json: 33 MB)."""


@contextmanager
def reading(where: str | Path, kind: type[WenloomError] = InputError, what: str = "") -> Iterator[None]:
    """Turn whatever the block raises about a foreign file into one `kind` of error that names the file.

    Errors that are written for the user already pass through, as do Ctrl-C and the end of the program.

    Args:
        where: the file, with line or field where they are known.
        what: what it should have been, as in "is no tokenizer".
    """
    try:
        yield
    except (WenloomError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        raise kind(f"{where}: {what or 'cannot be read'} ({_reason(error)}).") from error


def _reason(error: BaseException) -> str:
    if isinstance(error, MemoryError):
        return "it asks for more memory than there is"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    if isinstance(error, KeyError):
        return f"no entry {error}"
    return printable(str(error), 300).rstrip(".") or type(error).__name__


def read_json(path: Path, kind: type[WenloomError] = InputError) -> Any:
    """The content of a JSON file.

    Raises:
        kind: it is absent, too large, no UTF-8 or no JSON; the message names the line.
    """
    with reading(path, kind):
        if path.is_file() and path.stat().st_size > JSON_BYTES:
            raise kind(f"{path}: {path.stat().st_size:,} bytes of JSON; more than {JSON_BYTES:,} are not read.")
        if path.exists() and not path.is_file():
            raise kind(f"{path}: is no file.")
        return json.loads(path.read_text(encoding="utf-8-sig"))


def read_json_object(path: Path, kind: type[WenloomError] = InputError) -> dict[str, Any]:
    """The content of a JSON file that must be an object.

    Raises:
        kind: as `read_json`, or it holds something else.
    """
    content = read_json(path, kind)
    if not isinstance(content, dict):
        raise kind(f"{path}: holds {_kind_of(content)} where a JSON object is needed.")
    return content


def _kind_of(value: Any) -> str:
    names = {list: "a list", str: "a text", bool: "true or false", int: "a number", float: "a number"}
    return "null" if value is None else names.get(type(value), type(value).__name__)

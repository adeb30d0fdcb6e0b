"""Reading files that somebody else made: whatever goes wrong in one becomes a sentence that names it.

Libraries that read foreign bytes raise what they like: `KeyError` deep in a parser, `RecursionError` of nested
JSON, `MemoryError` of a length that lies, a bare `Exception`, or a panic of Rust code, which is not even an
`Exception`. All of it passes through `reading`, so that no reader needs a list of its own.
"""

import json
import os
import re
import stat
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from os import stat_result
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
        what: what it should have been, as in "is not a tokenizer".
    """
    try:
        yield
    except (WenloomError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as error:
        raise kind(f"{where}: {what or 'cannot be read'} ({_reason(error)}).") from error


_standard_error = threading.RLock()


@contextmanager
def quiet_panics() -> Iterator[None]:
    """Keep what Rust code prints when it panics from the user: `reading` says it in a sentence.

    The panic's own text goes to the process's standard error before anything is raised. It is kept aside meanwhile;
    where the block ends well, what was written there comes out afterwards.
    """
    with _standard_error:
        try:
            kept = os.dup(2)
        except OSError:  # a process without standard error
            yield
            return
        try:
            with tempfile.TemporaryFile() as aside:
                os.dup2(aside.fileno(), 2)
                try:
                    yield
                finally:
                    os.dup2(kept, 2)
                aside.seek(0)
                while block := aside.read(2**16):
                    os.write(2, block)
        finally:
            os.close(kept)


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


_KINDS = ((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"),
          (stat.S_ISCHR, "a device"), (stat.S_ISBLK, "a device"))  # fmt: skip


def regular_file(path: Path, kind: type[WenloomError] = InputError) -> stat_result:
    """The measures of a file; what is none might never end, or wait for ever.

    Raises:
        kind: it is absent, cannot be looked at, or is a folder, pipe, socket or device.
    """
    with reading(path, kind):
        try:
            found = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            gone = "is a link to nothing" if path.is_symlink() else "no such file"
            raise kind(f"{path}: {gone}.") from None
    if not stat.S_ISREG(found.st_mode):
        what = next((name for is_kind, name in _KINDS if is_kind(found.st_mode)), "no file")
        raise kind(f"{path}: is {what}, not a file.")
    return found


_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def parsed_json(text: str) -> Any:
    """A JSON value of a stranger.

    Raises:
        ValueError: it is not JSON, has a name twice in one object, a number too long or half a surrogate pair, which
            is not a character; the message says which.
    """
    try:
        value = json.loads(text, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        raise ValueError(f"not valid JSON ({error.msg} at column {error.colno})") from None
    except RecursionError:
        raise ValueError("not valid JSON (nested too deeply)") from None
    except ValueError as error:
        reason = "a number of too many digits" if "digits" in str(error) else str(error)
        raise ValueError(f"not valid JSON ({reason})") from None
    if _SURROGATE.search(text):
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError("holds half of a surrogate pair (\\ud800 to \\udfff), which is not a character") from None
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"the name {json.dumps(twice)[:80]} stands twice in an object")
    return made


def read_json(path: Path, kind: type[WenloomError] = InputError) -> Any:
    """The content of a JSON file.

    Raises:
        kind: it is absent, too large, no UTF-8 or no JSON; the message names the line.
    """
    if (size := regular_file(path, kind).st_size) > JSON_BYTES:
        raise kind(f"{path}: {size:,} bytes of JSON; more than {JSON_BYTES:,} are not read.")
    with reading(path, kind):
        return json.loads(path.read_text(encoding="utf-8-sig"))


def read_json_object(path: Path, kind: type[WenloomError] = InputError) -> dict[str, Any]:
    """The content of a JSON file that must be an object.

    Raises:
        kind: as `read_json`, or it holds something else.
    """
    content = read_json(path, kind)
    if not isinstance(content, dict):
        raise kind(f"{path}: holds {kind_of(content)} where a JSON object is needed.")
    return content


_JSON_WORDS = {type(None): "null", dict: "an object", list: "a list", tuple: "a list", str: "a text",
          bool: "true or false", int: "a number", float: "a number"}  # fmt: skip


def kind_of(value: Any) -> str:
    """What a value is, in the words of JSON.

    >>> kind_of(None), kind_of([5]), kind_of({1})
    ('null', 'a list', 'a set')
    """
    return kind_named(type(value))


def kind_named(kind: type) -> str:
    """The same of a type."""
    return _JSON_WORDS.get(kind) or f"a {kind.__name__}"


def json_text(value: Any, indent: int | None = None) -> str:
    r"""JSON that any file takes: Chinese as Chinese, half surrogates (of file names that are not UTF-8) as escapes.

    >>> json_text(["你", "a" + chr(0xDCFF)])
    '["你", "a\\udcff"]'
    """
    return json.dumps(value, ensure_ascii=False, indent=indent).encode("utf-8", "backslashreplace").decode()

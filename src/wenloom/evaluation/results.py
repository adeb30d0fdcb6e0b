"""The results store: every figure with what it depends on, one's own runs beside published ones (SQLite)."""

import hashlib
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from wenloom.core.console import remark
from wenloom.core.errors import InputError, printable
from wenloom.core.files import write_atomically
from wenloom.core.foreign import reading
from wenloom.core.version import FORMER_NAME
from wenloom.evaluation.signature import Signature
from wenloom.evaluation.significance import Interval

STORE = "WENLOOM_RESULTS"
"""Environment variable: where the store is."""


@dataclass(frozen=True)
class Result:
    """One figure of one model on one dataset."""

    task: str
    dataset: str
    metric: str
    value: float
    model: str
    signature: str = ""
    """What the value depends on besides the model; figures rank only against those of an equal key."""
    low: float | None = None
    high: float | None = None
    """Bounds of the 95 % interval."""
    n: int | None = None
    """Samples."""
    higher_is_better: bool = True
    is_headline: bool = True
    source: Literal["own", "quoted", "imported"] = "own"
    """Measured here, quoted from a publication, or taken over from a file."""
    reproduced: bool | None = None
    """Of a quoted figure: whether somebody got it again."""
    date: str = ""
    """Of the measurement or publication, YYYY-MM-DD or less."""
    parameters: int | None = None
    model_hash: str = ""
    code_version: str = ""
    command: str = ""
    hardware: str = ""
    seconds: float | None = None
    samples: str = ""
    """File of the samples."""
    paper_title: str = ""
    paper_url: str = ""
    code_url: str = ""
    place: str = ""
    """Where in the publication: table, section, file."""
    notes: str = ""
    details: dict[str, Any] = field(default_factory=dict, hash=False)
    best: float | None = None
    """The best value, where neither more nor less is better: results rank by how near to it they are."""

    @property
    def id(self) -> str:
        """A hash of the content: the same figure is stored once."""
        content = {
            name: value for name, value in asdict(self).items()
            if name not in ("seconds", "details", "hardware") and (name in _FIRST or value != _DEFAULTS.get(name))
        }  # fmt: skip
        return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:16]

    @property
    def key(self) -> str:
        """The comparability key."""
        signed = Signature.parse(self.signature).key if self.signature else f"{self.metric} ({self.model}, not signed)"
        return f"{self.task}/{self.dataset}/{self.metric}/{signed}"

    @property
    def interval(self) -> Interval:
        """The value with its bounds; a point where none are known."""
        return Interval(
            self.value if self.low is None else self.low, self.value, self.value if self.high is None else self.high
        )

    @property
    def ranked(self) -> Interval:
        """What results rank by: the value with its bounds, or how far they are from the best."""
        if self.best is None:
            return self.interval
        low, value, high = (abs(each - self.best) for each in self.interval)
        holds = self.interval.low <= self.best <= self.interval.high
        return Interval(0.0 if holds else min(low, high), value, max(low, high))

    @property
    def more_is_better(self) -> bool:
        """Whether more of what results rank by is better."""
        return self.higher_is_better and self.best is None


_NAMES = [each.name for each in fields(Result)]
_HINTS = get_type_hints(Result)
_DEFAULTS = {each.name: each.default for each in fields(Result) if each.default is not MISSING}
_FIRST = (
    "task", "dataset", "metric", "value", "model", "signature", "low", "high", "n", "higher_is_better", "is_headline",
    "source", "reproduced", "date", "parameters", "model_hash", "code_version", "command", "hardware", "seconds",
    "samples", "paper_title", "paper_url", "code_url", "place", "notes", "details",
)  # fmt: skip
"""Columns of the first schema, which stores without a version have too."""
MIGRATIONS: tuple[str, ...] = ("ALTER TABLE results ADD COLUMN best",)
"""What makes a store of one version one of the next, from version 1 on: a new field of `Result` adds a line such as
`ALTER TABLE results ADD COLUMN tokens`. Rows of before have NULL there, which is read as the field's default."""
_LARGEST, _LONGEST_TEXT, _LONGEST_CELL = 1e100, 10**6, 2**24


def default_store() -> Path:
    """Where the store is if nobody says otherwise: $WENLOOM_RESULTS, else the user's data folder.

    A store that was kept there under the former name is copied once; the old file stays as it is.
    """
    if STORE in os.environ:
        return Path(os.environ[STORE]).expanduser()
    home = Path(os.environ.get("XDG_DATA_HOME") or Path("~/.local/share").expanduser())
    store, former = (home / name / "results.sqlite" for name in ("wenloom", FORMER_NAME))
    if former.is_file() and not store.exists():
        write_atomically(store, former.read_bytes())
    return store


class ResultsStore:
    """Results in an SQLite file; adding is append-only and safe from several processes.

    The file's `user_version` is that of its schema. A store of an earlier version is read as it is, and brought to this
    one when something is added; one of a later version is refused.
    """

    def __init__(self, path: Path | None = None):
        self.path = path or default_store()

    @contextmanager
    def _open(self, to_write: bool) -> Iterator[sqlite3.Connection]:
        connection = None
        try:
            if self.path.exists() and not self.path.is_file():
                raise InputError(f"{self.path}: the results store cannot be opened (it is not a file).")
            if to_write:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            mode = "rwc" if to_write else "ro"
            connection = sqlite3.connect(
                f"{self.path.absolute().as_uri()}?mode={mode}", timeout=10, isolation_level=None, uri=True
            )
            connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LONGEST_CELL)
            connection.text_factory = lambda data: data.decode("utf-8", "replace")
            connection.execute("PRAGMA trusted_schema = OFF")
            connection.execute("BEGIN IMMEDIATE" if to_write else "BEGIN")
            yield connection
            connection.execute("COMMIT")
        except sqlite3.OperationalError as error:
            raise InputError(f"{self.path}: the results store cannot be opened or written ({error}).") from None
        except (sqlite3.Error, sqlite3.Warning) as error:
            raise InputError(f"{self.path}: not a results store, or damaged ({error}).") from None
        except (OSError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"{self.path}: the results store cannot be opened ({error}).") from None
        finally:
            if connection is not None:
                connection.close()  # what was not committed is undone

    def _columns(self, connection: sqlite3.Connection) -> list[str]:
        """The columns that the store has, none where it is new.

        Raises:
            InputError: it was made by a later version, or by another program.
        """
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version > 1 + len(MIGRATIONS):
            raise InputError(
                f"{self.path}: was written by a later version of Wenloom (schema {version}; this one knows "
                f"{1 + len(MIGRATIONS)}): update Wenloom, or name another store."
            )
        found = connection.execute("SELECT type, name FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'").fetchall()
        if not found:
            return []
        if strange := [
            f"{kind} {printable(str(name), 40)}" for kind, name in found if (kind, name) != ("table", "results")
        ]:
            raise InputError(f"{self.path}: is not a results store: it holds the {strange[0]}.")
        columns = connection.execute("PRAGMA table_xinfo(results)").fetchall()
        names = [name for _, name, *_, hidden in columns if not hidden]
        if len(names) != len(columns) or not {"id", *_FIRST} <= {*names} or {*names} - {"id", *_NAMES}:
            raise InputError(f"{self.path}: is not a results store: its table has other columns.")
        return names

    def add(self, results: Iterable[Result]) -> int:
        """Store results; those that are there already are left. Returns how many were new.

        Raises:
            InputError: one of them is not a result, or the store cannot be written.
        """
        rows = [_row(result_of({name: getattr(result, name) for name in _NAMES})) for result in results]
        columns = ", ".join(["id", *_NAMES])
        marks = ", ".join("?" * (len(_NAMES) + 1))
        with self._open(to_write=True) as connection:
            if not self._columns(connection):
                connection.execute(f"CREATE TABLE results (id TEXT PRIMARY KEY, {', '.join(_FIRST)})")
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            for migration in MIGRATIONS[max(0, version - 1) :]:
                connection.execute(migration)
            connection.execute(f"PRAGMA user_version = {1 + len(MIGRATIONS)}")
            before = connection.total_changes
            connection.executemany(f"INSERT OR IGNORE INTO results ({columns}) VALUES ({marks})", rows)
            return connection.total_changes - before

    def all(self) -> list[Result]:
        """Everything, in order of date; rows that are no results are left out and named in a remark.

        Raises:
            InputError: it cannot be read, or is no store of this version or an earlier one.
        """
        if not self.path.exists():
            return []
        found, wrong = [], []
        with self._open(to_write=False) as connection:
            names = [name for name in self._columns(connection) if name != "id"]
            rows = (
                connection.execute(f"SELECT rowid, {', '.join(names)} FROM results ORDER BY date, rowid")
                if names
                else ()
            )
            for number, *row in rows:
                try:
                    found.append(_result(dict(zip(names, row, strict=True))))
                except (InputError, RecursionError) as error:
                    wrong.append(f"row {number}: {error}")
        if wrong:
            more = f" {len(wrong) - 1:,} more rows are no results either." if len(wrong) > 1 else ""
            remark(f"{self.path}, {wrong[0]} It is left out.{more}")
        return found


def _row(result: Result) -> tuple[Any, ...]:
    values = [getattr(result, name) for name in _NAMES]
    return (result.id, *(json.dumps(each, ensure_ascii=False) if isinstance(each, dict) else each for each in values))


def _result(values: dict[str, Any]) -> Result:
    """From a row.

    Raises:
        InputError: it is not a result; names the field.
    """
    given = {name: value for name, value in values.items() if value is not None}
    for name in ("higher_is_better", "is_headline", "reproduced"):
        if name in given and given[name] in (0, 1):
            given[name] = bool(given[name])
    with reading("details", what="is not JSON"):
        given["details"] = json.loads(given.get("details") or "{}")
    return result_of(given)


def published() -> list[Result]:
    """Figures from papers and model cards that ship with Wenloom, each with where it stands."""
    data = json.loads((files("wenloom.evaluation") / "published.json").read_text(encoding="utf-8"))
    made = []
    for board in data:
        rows = board.pop("rows")
        for row in rows:
            made.append(result_of({"source": "quoted", **board, **row}))
    return made


def result_of(values: dict[str, Any]) -> Result:
    """From JSON, checked.

    Raises:
        InputError: a field is missing, unknown or of the wrong kind; names it.
    """
    if unknown := sorted(printable(str(name), 40) for name in set(values) - set(_NAMES)):
        raise InputError(f"a result has no field {', '.join(unknown[:5])}.")
    missing = [name for name in ("task", "dataset", "metric", "value", "model") if values.get(name) in (None, "")]
    if missing:
        raise InputError(f"a result without {', '.join(missing)}.")
    for name, value in values.items():
        if not _fits(value, _HINTS[name]):
            raise InputError(
                f'field "{name}" of a result cannot be {printable(repr(value), 60)}{_NUMBER.get(name, "")}.'
            )
    if values.get("signature"):
        Signature.parse(values["signature"])
    return replace(Result(**values), value=float(values["value"]))


_NUMBER: dict[str, str] = dict.fromkeys(
    ("value", "low", "high", "best", "seconds", "n", "parameters"), ", which is not a number"
)


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value is of a field's kind, and one that a store can hold."""
    kinds = get_args(hint)
    if get_origin(hint) is Literal:
        return isinstance(value, str) and value in kinds
    if NoneType in kinds:
        return value is None or any(_fits(value, each) for each in kinds if each is not NoneType)
    if get_origin(hint) is dict:
        return isinstance(value, dict) and _is_plain(value)
    if hint is str:
        return isinstance(value, str) and _is_plain(value)
    if isinstance(value, bool):
        return hint is bool
    if hint is int:
        return isinstance(value, int) and abs(value) < 2**63
    return hint is float and isinstance(value, (int, float)) and abs(value) <= _LARGEST


def _is_plain(value: Any) -> bool:
    """Whether it is text (or JSON) of a length and of characters that a file can hold."""
    try:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        return len(text) <= _LONGEST_TEXT and bool(text.encode() or True)
    except (ValueError, TypeError, RecursionError):
        return False


def today() -> str:
    """The date, for results."""
    return datetime.now(UTC).strftime("%Y-%m-%d")

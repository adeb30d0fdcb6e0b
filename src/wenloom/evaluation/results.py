"""The results store: every figure with what it depends on, one's own runs beside published ones (SQLite)."""

import hashlib
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from wenloom.core.errors import InputError
from wenloom.core.files import write_atomically
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

    @property
    def id(self) -> str:
        """A hash of the content: the same figure is stored once."""
        content = {
            name: value for name, value in asdict(self).items() if name not in ("seconds", "details", "hardware")
        }
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


_NAMES = [each.name for each in fields(Result)]


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
    """Results in an SQLite file; adding is append-only and safe from several processes."""

    def __init__(self, path: Path | None = None):
        self.path = path or default_store()

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(self.path, timeout=30)
        except (OSError, sqlite3.OperationalError) as error:
            raise InputError(f"{self.path}: the results store cannot be opened ({error}).") from None
        try:
            columns = ", ".join(name for name in _NAMES)
            connection.execute(f"CREATE TABLE IF NOT EXISTS results (id TEXT PRIMARY KEY, {columns})")
            with connection:
                yield connection
        except sqlite3.DatabaseError as error:
            raise InputError(f"{self.path}: not a results store, or damaged ({error}).") from None
        finally:
            connection.close()

    def add(self, results: Iterable[Result]) -> int:
        """Store results; those that are there already are left. Returns how many were new."""
        marks = ", ".join("?" * (len(_NAMES) + 1))
        with self._open() as connection:
            before = connection.total_changes
            connection.executemany(f"INSERT OR IGNORE INTO results VALUES ({marks})", map(_row, results))
            return connection.total_changes - before

    def all(self) -> list[Result]:
        """Everything, in order of date."""
        with self._open() as connection:
            rows = connection.execute(f"SELECT {', '.join(_NAMES)} FROM results ORDER BY date, rowid").fetchall()
        return [_result(dict(zip(_NAMES, row, strict=True))) for row in rows]


def _row(result: Result) -> tuple[Any, ...]:
    values = [getattr(result, name) for name in _NAMES]
    return (result.id, *(json.dumps(each, ensure_ascii=False) if isinstance(each, dict) else each for each in values))


def _result(values: dict[str, Any]) -> Result:
    for name in ("higher_is_better", "is_headline"):
        values[name] = bool(values[name])
    values["reproduced"] = None if values["reproduced"] is None else bool(values["reproduced"])
    return Result(**{**values, "details": json.loads(values["details"] or "{}")})


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
        InputError: a field is missing, unknown or of the wrong kind.
    """
    if unknown := set(values) - set(_NAMES):
        raise InputError(f"a result has no field {', '.join(sorted(unknown))}.")
    missing = [name for name in ("task", "dataset", "metric", "value", "model") if values.get(name) in (None, "")]
    if missing:
        raise InputError(f"a result without {', '.join(missing)}.")
    value = values["value"]
    if not isinstance(value, (int, float)) or isinstance(value, bool) or value != value or abs(value) == float("inf"):
        raise InputError(f"the value of {values['model']} on {values['dataset']} is {value!r}, not a number.")
    if values.get("signature"):
        Signature.parse(values["signature"])
    return replace(Result(**values), value=float(value))


def today() -> str:
    """The date, for results."""
    return datetime.now(UTC).strftime("%Y-%m-%d")

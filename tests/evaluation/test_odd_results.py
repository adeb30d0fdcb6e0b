"""Stores and files of results as the world has them: read, or refused in a sentence that names file, entry and field."""

import csv
import io
import json
import multiprocessing
import re
import sqlite3
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wenloom.core.errors import InputError, WenloomError
from wenloom.evaluation import interchange
from wenloom.evaluation import results as stored
from wenloom.evaluation.leaderboard import as_bibtex, as_csv, write_leaderboard
from wenloom.evaluation.results import Result, ResultsStore, result_of

OWN = Result("grammar", "BLiMP", "acc", 71.5, "runs/mine", "acc|norm:raw|n:67000", 71.2, 71.9, 67000, date="2026-11-23")
FIRST = ", ".join(stored._FIRST)  # pyright: ignore[reportPrivateUsage]


def database(path: Path, *statements: str) -> Path:
    with sqlite3.connect(path) as connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()
    return path


# --- the schema ---


def former(path: Path) -> Path:
    """A store as it was before it had versions."""
    ResultsStore(path).add([OWN])
    return database(path, "ALTER TABLE results DROP COLUMN best", "PRAGMA user_version = 0")


def test_a_store_without_a_version_is_read_as_it_is_and_gets_one_when_something_is_added(tmp_path: Path):
    path = former(tmp_path / "a.sqlite")
    content = path.read_bytes()
    assert ResultsStore(path).all() == [OWN] and path.read_bytes() == content
    assert ResultsStore(path).add([OWN, replace(OWN, value=1.0)]) == 1
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA user_version").fetchone()[0] == 1 + len(stored.MIGRATIONS)
        columns = [row[1] for row in connection.execute("PRAGMA table_info(results)")]
    assert columns == ["id", *(field.name for field in fields(Result))]  # a new field needs a migration


def test_a_store_can_grow_a_column(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = former(tmp_path / "a.sqlite")
    names = [*stored._NAMES, "tokens"]  # pyright: ignore[reportPrivateUsage]
    monkeypatch.setattr(stored, "MIGRATIONS", (*stored.MIGRATIONS, "ALTER TABLE results ADD COLUMN tokens"))
    monkeypatch.setattr(stored, "_NAMES", names)
    assert ResultsStore(path).all() == [OWN]  # read without the column
    monkeypatch.setattr(
        stored, "_row", lambda result: (result.id, *("{}" if n == "details" else getattr(result, n, 7) for n in names))
    )
    monkeypatch.setattr(
        stored, "result_of", lambda values: Result(**{n: v for n, v in values.items() if n != "tokens"})
    )
    monkeypatch.setattr(Result, "tokens", 7, raising=False)
    assert ResultsStore(path).add([replace(OWN, value=1.0)]) == 1
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT value, tokens FROM results ORDER BY rowid").fetchall() == [
            (71.5, None),
            (1.0, 7),
        ]
    monkeypatch.undo()
    later = rf"later version of Wenloom \(schema {2 + len(stored.MIGRATIONS)}; this one knows {1 + len(stored.MIGRATIONS)}\): update"
    with pytest.raises(InputError, match=later):
        ResultsStore(path).all()
    with pytest.raises(InputError, match="later version"):
        ResultsStore(path).add([OWN])


def _add(path: Path, number: int) -> None:
    for part in range(5):
        ResultsStore(path).add([replace(OWN, value=float(number), n=part)])


def test_several_processes_add_at_once(tmp_path: Path):
    path = tmp_path / "a.sqlite"
    workers = [multiprocessing.get_context("fork").Process(target=_add, args=(path, number)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted((each.value, each.n) for each in ResultsStore(path).all()) == [
        (float(number), part) for number in range(4) for part in range(5)
    ]


# --- odd stores ---

ODD_STORES: dict[str, Callable[[Path], Any]] = {
    "a text": lambda path: path.write_text("no database " * 99),
    "bytes": lambda path: path.write_bytes(b"\xff" * 5000),
    "the beginning of one": lambda path: path.write_bytes(former(path).read_bytes()[:5000]),
    "a damaged one": lambda path: path.write_bytes(former(path).read_bytes()[:4096] + b"\xff" * 8192),
    "a folder": lambda path: path.mkdir(),
    "another table": lambda path: database(path, "CREATE TABLE other (x)"),
    "other columns": lambda path: database(path, "CREATE TABLE results (x, y)"),
    "more columns": lambda path: database(path, f"CREATE TABLE results (id, {FIRST}, colour)"),
    "a view": lambda path: database(path, f"CREATE VIEW results AS SELECT 1 AS id, {', '.join('1 AS ' + n for n in FIRST.split(', '))}"),
    "a trigger": lambda path: database(former(path), "CREATE TRIGGER t AFTER INSERT ON results BEGIN DELETE FROM results; END"),
    "a computed column": lambda path: database(path, f"CREATE TABLE results (id, {FIRST.replace('value,', 'value AS (1),')})"),
    "no rows by number": lambda path: database(path, f"CREATE TABLE results (id PRIMARY KEY, {FIRST}) WITHOUT ROWID"),
    "a later version": lambda path: database(path, "PRAGMA user_version = 99"),
}  # fmt: skip


@pytest.mark.parametrize("kind", ODD_STORES)
def test_what_is_no_store_is_refused_in_a_sentence_and_left_as_it_is(kind: str, tmp_path: Path):
    path = tmp_path / "a.sqlite"
    ODD_STORES[kind](path)
    before = path.read_bytes() if path.is_file() else b""
    for use in (lambda: ResultsStore(path).all(), lambda: ResultsStore(path).add([OWN])):
        if kind == "no rows by number" and "add" in use.__code__.co_names:
            continue
        with pytest.raises(InputError, match=r"a\.sqlite") as refused:
            use()
        assert "\n" not in str(refused.value)
    assert (path.read_bytes() if path.is_file() else b"") == before


def test_absent_empty_and_locked_stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "odd ?#%41 名.sqlite"
    assert ResultsStore(path).all() == [] and not path.exists()
    path.touch()
    assert ResultsStore(path).all() == [] and ResultsStore(path).add([OWN]) == 1
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda *a, **o: connect(*a, **{**o, "timeout": 0.05}))
    other = connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    for use in (lambda: ResultsStore(path).all(), lambda: ResultsStore(path).add([OWN])):
        with pytest.raises(InputError, match="locked"):
            use()
    other.close()
    assert ResultsStore(path).all() == [OWN]
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be opened"):
        ResultsStore(tmp_path / "file" / "a.sqlite").add([OWN])


CELLS: list[tuple[str, str]] = [
    ("value", "'much'"), ("value", "NULL"), ("value", "x'00'"), ("value", "9e999"), ("value", "-9e999"), ("value", "1e200"),
    ("low", "'x'"), ("n", "1.5"), ("n", "'12'"), ("higher_is_better", "2"), ("higher_is_better", "'yes'"),
    ("reproduced", "'no'"), ("source", "'stolen'"), ("task", "5"), ("model", "x'ff'"), ("model", "''"), ("model", "NULL"),
    ("signature", "'no signature'"), ("details", "'['"), ("details", "'[]'"), ("details", "5"), ("details", "x'5b'"),
    ("details", f"'{'[' * 99_999}'"), ("details", f"'{{\"a\": {'9' * 5000}}}'"), ("date", "20261123"),
    ("notes", "printf('%.*c', 2000000, 'x')"),
]  # fmt: skip


def test_rows_that_are_no_results_are_left_out_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "a.sqlite"
    for field, value in CELLS:
        path.unlink(missing_ok=True)
        ResultsStore(path).add([OWN, replace(OWN, value=1.0)])
        database(path, f"UPDATE results SET {field} = {value} WHERE rowid = 1")
        capsys.readouterr()
        assert ResultsStore(path).all() == [replace(OWN, value=1.0)], (field, value)
        said = capsys.readouterr().err
        assert f"{path}, row 1: " in said and field in said and said.count("\n") == 1 and len(said) < 500
    database(path, "UPDATE results SET model = CAST(x'41ff42' AS TEXT), task = 'a' || char(10) || 'b'")
    assert {each.model for each in ResultsStore(path).all()} == {"A\ufffdB"}


@pytest.mark.parametrize("field, value", [
    ("value", float("nan")), ("value", float("inf")), ("value", "5"), ("value", True), ("n", 2**63), ("n", 1.0),
    ("model", "\ud800"), ("model", 5), ("details", {"a": "\ud800"}), ("details", {"a": {1}}), ("details", []),
    ("notes", "x" * 2_000_000), ("higher_is_better", 1), ("source", "stolen"), ("low", float("nan")), ("seconds", "1"),
])  # fmt: skip
def test_what_is_no_result_is_not_stored(field: str, value: Any, tmp_path: Path):
    values = {each.name: getattr(OWN, each.name) for each in fields(Result)} | {field: value}
    with pytest.raises(InputError, match=field):
        result_of(values)
    with pytest.raises(InputError, match=field):
        ResultsStore(tmp_path / "a.sqlite").add([Result(**values)])


# --- odd files ---

ROW = {"model_name": "A", "metrics": {"BLEU": "41.2"}}
SOTA = [{"task": "T", "datasets": [{"dataset": "D", "sota": {"rows": [ROW]}}]}]
EVAL = [{"dataset": {"id": "D", "task_id": "acc"}, "value": 1}]
INDEX = {"model-index": [{"name": "M", "results": [
    {"task": {"type": "t"}, "dataset": {"name": "D"}, "metrics": [{"type": "acc", "value": 1}]}]}]}  # fmt: skip
EEE = {"model_info": {"id": "M"}, "evaluation_results": [
    {"evaluation_name": "E", "metric_config": {}, "score_details": {"score": 1}}]}  # fmt: skip
FORMS: dict[str, Any] = {"sota": SOTA, "eval": EVAL, "index": INDEX, "eee": EEE}


def places(data: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in nested lists and objects."""
    inner = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    return [*([at] if at else []), *(each for name, value in inner for each in places(value, (*at, name)))]


def changed(data: Any, at: tuple[Any, ...], value: Any) -> Any:
    copy = json.loads(json.dumps(data))
    inner = copy
    for name in at[:-1]:
        inner = inner[name]
    inner[at[-1]] = value
    return copy


@pytest.mark.parametrize("form", FORMS)
def test_odd_content_is_named_by_file_entry_and_field(form: str, tmp_path: Path):
    path = tmp_path / "x.json"
    refusals = 0
    for at in places(FORMS[form]):
        for value in (None, 5, "", "x", [], {}, [5], {"x": 5}, True, [None], "\ud800", 1e300, "9" * 500):
            path.write_text(json.dumps(changed(FORMS[form], at, value)))
            try:
                assert all(isinstance(each, Result) for each in interchange.read(path))
            except InputError as refused:
                message, refusals = str(refused), refusals + 1
                assert message.startswith(f"{path}: ") and "\n" not in message and len(message) < 400
                last = next((name for name in reversed(at) if isinstance(name, str)), "[0]")
                assert last in message or re.search(
                    r"surrogate|no results|a result|\[0\]|value|metrics|must be", message
                ), (
                    at,
                    value,
                )
    assert refusals > 30


@pytest.mark.parametrize("content", [
    "", " ", "[" * 100_000, "{" * 100_000, "9" * 5000, '{"a": ' + "9" * 5000 + "}", "\x00", "NaN", "[NaN]", "null", "5", "[[]]",
    "[null]", '[{"value": NaN, "dataset": {"id": "x"}}]', "---\n---\n", "a: &a [1]\nb: *a\n", "- !!python/object:x {}\n", "? [a]\n",
    "- value: 2024-13-45\n", "\t- x", "- " * 50_000, "{}: {}", "%YAML 9.9\n---\n", "!!binary x", "- value: 1:30:00\n  dataset: {id: x}",
    "a: &a [x, x]\n" + "".join(f"{c}: &{c} [*{p}, *{p}]\n" for p, c in zip("abcdefgh", "bcdefghi", strict=True)),
    "x" * 2_000_000,
])  # fmt: skip
def test_bombs_and_broken_files_are_one_sentence(content: str, tmp_path: Path):
    for name in ("x.json", "x.yaml", "x.md"):
        (tmp_path / name).write_text(content)
        try:
            interchange.read(tmp_path / name)
        except InputError as refused:
            assert str(tmp_path / name) in str(refused)
        else:
            assert name != "x.json" and "1:30:00" in content  # YAML's 5400


def test_models_of_like_names_get_files_of_their_own(tmp_path: Path):
    names = ["a/b", "a-b", "A-B", "..", "a" * 300, "a" * 301, "模型"]
    for form in ("eval-results", "eee"):
        files = interchange.write([replace(OWN, model=name) for name in names], form, tmp_path / form)
        assert len({str(each).lower() for each in files}) == len(names)
        assert sum(len(interchange.read(file)) for file in files) == len(names)


# --- what is shown ---

TEXT = st.text(st.sampled_from("=+-@\t\r\n '\"<&,;a1\ufeff\u00a0＝"), max_size=5)


@given(TEXT, TEXT)
def test_no_cell_begins_a_formula_and_each_can_be_had_back(model: str, notes: str):
    result = replace(OWN, model=model or "m", notes=notes)
    (row,) = csv.DictReader(io.StringIO(as_csv([result]), newline=""))
    for name, was in (("model", result.model), ("notes", result.notes)):
        cell = row[name]
        assert not re.match(r"[\s\ufeff]*[=+\-@＝]|[\t\r\n]", cell)
        assert re.sub(r"^'(?='*(?:[\s\x00-\x20\ufeff]*[=+\-@＝]|[\t\r\n]))", "", cell) == was


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.tuples(st.floats(-1e90, 1e90), TEXT, st.text(max_size=12), TEXT), min_size=1, max_size=4))
def test_the_page_is_made_of_anything_that_a_store_holds(rows: list[Any], tmp_path: Path):
    made = [
        result_of({"task": "<b>", "dataset": "&", "metric": "m", "model": model or "<script>evil", "value": value,
                   "date": date.encode("utf-8", "replace").decode(), "paper_title": title, "paper_url": "javascript:" + title,
                   "signature": "m|a:<i>"})
        for value, model, date, title in rows
    ]  # fmt: skip
    write_leaderboard(made, tmp_path)
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"<script>evil|<i>|href=.javascript", page)
    as_bibtex(made)


# --- anything ---

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3), max_leaves=5,
)  # fmt: skip


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(form=st.sampled_from(sorted(FORMS)), place=st.integers(0, 30), value=JSON, cut=st.integers(0, 600), suffix=st.sampled_from(["json", "yaml"]))  # fmt: skip
def test_any_file_of_results_is_read_or_refused_in_a_sentence(
    form: str, place: int, value: Any, cut: int, suffix: str, tmp_path: Path
):
    known = places(FORMS[form])
    content = json.dumps(changed(FORMS[form], known[place % len(known)], value))
    path = tmp_path / f"x.{suffix}"
    path.write_text(content[:cut] if cut < 300 else content)
    try:
        ResultsStore(tmp_path / "a.sqlite").add(interchange.read(path))
    except WenloomError as refused:
        assert str(path) in str(refused)


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 20_000), content=st.binary(max_size=8))
def test_any_store_is_read_or_refused_in_a_sentence(at: int, content: bytes, tmp_path: Path):
    path = tmp_path / "a.sqlite"
    path.unlink(missing_ok=True)
    whole = former(path).read_bytes()
    path.write_bytes(whole[: at % len(whole)] + content + whole[at % len(whole) + len(content) :])
    for use in (lambda: ResultsStore(path).all(), lambda: ResultsStore(path).add([OWN])):
        try:
            use()
        except WenloomError as refused:
            assert str(path) in str(refused)

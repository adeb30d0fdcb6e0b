"""Suites described by a short TOML file: data, no code. Wenloom's own published suites (`catalogue/`) are such files too.

    query = "Question: {question}\\nAnswer:"      # what is asked; see `field_templates`
    choices = ["{A}", "{B}", "{C}", "{D}"]        # or one field that holds a list: "{choices.text}"
    gold = "{answer}"                             # which choice: one of `labels`, else its number from 0
    labels = ["A", "B", "C", "D"]                 # or one field: "{choices.label}"

Instead of choices, `reference = "{answer}"` (a field with one text or a list of right ones), `metrics` and `ignore` make a suite
of written answers. Every key has its meaning in `_Keys`.
"""

import hashlib
import re
import tomllib
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from wenloom.core.errors import InputError, printable
from wenloom.core.foreign import kind_of, regular_file
from wenloom.evaluation.choice import NORMS, Question
from wenloom.evaluation.choice_suite import ChoiceSuite
from wenloom.evaluation.compare import METRICS
from wenloom.evaluation.field_templates import NoField, Template
from wenloom.evaluation.layouts import LAYOUTS, rows_of
from wenloom.evaluation.locate import files_in
from wenloom.evaluation.matching import IGNORABLE, Matching
from wenloom.evaluation.reference_suite import Reference, ReferenceSuite
from wenloom.evaluation.rows import made_of
from wenloom.evaluation.suite import Suite
from wenloom.text.refusals import Refusals

TOML_BYTES = 2**20


@dataclass(frozen=True)
class _Keys:
    """The keys of a suite's TOML file."""

    files: list[str]
    """Names that its file may have, beside the TOML file or below the data folder; `*` in one takes the files of all
    subjects together, and `{@file}` is what stands in its place."""
    query: str
    title: str = ""
    task: str = "own data"
    about: str = ""
    source: str = ""
    """Where the data can be had."""
    format: str = ""
    """What the prompts are written like, for signatures; default: own and a hash of this file."""
    example_files: list[str] | None = None
    """Files for worked examples (`--shots`): the training or dev split."""
    examples: str = "drawn"
    """drawn, or first: the first rows of that file."""
    example_query: str = ""
    """How a worked example is written where that differs from `query`."""
    example_answer: str = ""
    """And its answer."""
    layout: str = "rows"
    """rows (JSON lines, a JSON list, csv with a header), squad or c3."""
    columns: list[str] | None = None
    """Names for the columns of csv without a header."""
    names: dict[str, str] | None = None
    """Other names for what stands in place of the `*`."""
    skip: dict[str, list[str]] | None = None
    """Rows that are left out: values by field."""
    strip: list[str] | None = None
    """Fields whose blanks at both ends are taken away."""
    joined_by: str = ", "
    """What stands between the items of a list inside a text."""
    description: str = ""
    """What stands before everything, worked examples included."""
    group: str = ""
    """What a row counts towards: subject, category."""
    delimiter: str = " "
    """Between query and answer."""
    choices: list[str] | str | None = None
    choices_of: str = ""
    """Instead of choices: all values that this has among the rows."""
    labels: list[str] | str | None = None
    gold: str = ""
    headline: str = "raw"
    """By what log-probabilities are divided in the figure that is printed in bold."""
    reference: str = ""
    metrics: list[str] | None = None
    ignore: list[str] | None = None
    overlap: str = "words"
    until: list[str] | None = None
    """What ends a written answer; default: a line break."""
    max_new_tokens: int = 64


_OF_CHOICES = ("choices", "choices_of", "labels", "gold", "headline")
_OF_REFERENCES = ("metrics", "ignore", "overlap", "until", "max_new_tokens")
_TEMPLATES = ("query", "description", "group", "gold", "choices_of", "reference", "example_query", "example_answer")
_ONE_OF: dict[str, tuple[str, ...]] = {
    "examples": ("drawn", "first"), "layout": ("rows", *LAYOUTS), "headline": NORMS, "overlap": ("words", "substring"),
    "ignore": IGNORABLE, "metrics": (*METRICS, "exact_match", "f1"),
}  # fmt: skip
_KINDS = {str: "a text", int: "a whole number", list: "a list of texts", dict: "a table"}


def load_suite(path: Path) -> Suite:
    """The suite that a TOML file describes; its name is that of the file.

    Raises:
        InputError: no such file, or one that cannot be used; names line and key.
    """
    if regular_file(path).st_size > TOML_BYTES:
        raise InputError(f"{path}: more than {TOML_BYTES:,} bytes; a suite's description is a page.")
    try:
        text = path.read_text(encoding="utf-8-sig")
        table = tomllib.loads(text)
    except UnicodeDecodeError:
        raise InputError(f"{path}: not UTF-8; convert the file first.") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise InputError(f"{path}: not valid TOML ({printable(str(error), 200)}).") from None
    return _Description(path, text, _keys(path, text, table)).suite()


def _at(path: Path, text: str, key: str) -> str:
    """Where a key is: file, line and name."""
    for number, line in enumerate(text.split("\n"), 1):
        if re.match(rf"\s*\[?\s*[\"']?{re.escape(key)}[\"']?\s*[=\].]", line):
            return f'{path}, line {number}, "{key}"'
    return f'{path}, "{key}"'


def _keys(path: Path, text: str, table: dict[str, Any]) -> _Keys:
    hints, known = get_type_hints(_Keys), {each.name: each for each in fields(_Keys)}
    for key, value in table.items():
        where = _at(path, text, printable(key, 60))
        if key not in known:
            raise InputError(f"{where}: no such key. Known are {', '.join(known)}.")
        kinds = [kind for kind in (get_args(hints[key]) or (hints[key],)) if kind is not type(None)]
        kinds = [hints[key]] if get_origin(hints[key]) in (list, dict) else kinds
        if not any(_fits(value, kind) for kind in kinds):
            wanted = " or ".join(_KINDS[get_origin(kind) or kind] for kind in kinds)
            raise InputError(f"{where}: {wanted} was expected, not {kind_of(value)}.")
        for each in value if isinstance(value, list) else [value]:
            if key in _ONE_OF and each not in _ONE_OF[key]:
                raise InputError(f"{where}: {printable(str(each), 40)} is none of {', '.join(_ONE_OF[key])}.")
    missing = [name for name, each in known.items() if each.default is MISSING and name not in table]
    if missing:
        raise InputError(
            f'{path}: no key "{missing[0]}". A suite needs files, query, and choices with gold or a reference.'
        )
    keys = _Keys(**table)
    if not keys.files or not all(keys.files):
        raise InputError(f"{_at(path, text, 'files')}: name at least one file.")
    by_choice = keys.choices is not None or bool(keys.choices_of)
    if by_choice == bool(keys.reference):
        raise InputError(f"{path}: name either choices (or choices_of) with gold, or a reference.")
    if by_choice and not keys.gold:
        raise InputError(f'{path}: no key "gold", which says what choice is right.')
    if keys.choices is not None and keys.choices_of:
        raise InputError(f"{_at(path, text, 'choices_of')}: stands beside choices; name one of them.")
    for name in _OF_REFERENCES if by_choice else _OF_CHOICES:
        if name in table:
            kind = "choices" if by_choice else "a reference"
            raise InputError(f"{_at(path, text, name)}: is not read in a suite with {kind}.")
    return keys


def _fits(value: Any, kind: Any) -> bool:
    if get_origin(kind) is list:
        return isinstance(value, list) and all(isinstance(each, str) for each in value)
    if get_origin(kind) is dict:
        return isinstance(value, dict) and all(_fits(each, get_args(kind)[1]) for each in value.values())
    return isinstance(value, kind) and not isinstance(value, bool)


class _Description:
    """A checked TOML file, on its way to a suite."""

    def __init__(self, path: Path, text: str, keys: _Keys):
        self.path, self.keys, self._text = path, keys, text
        self._templates = {name: self._template(name, getattr(keys, name)) for name in _TEMPLATES}
        self._choices = self._several("choices")
        self._labels = self._several("labels")

    def _template(self, key: str, text: str) -> Template:
        try:
            return Template(text, self.keys.joined_by)
        except ValueError as error:
            raise InputError(f"{_at(self.path, self._text, key)}: {error}.") from None

    def _several(self, key: str) -> list[Template]:
        given = getattr(self.keys, key)
        return [self._template(key, each) for each in ([given] if isinstance(given, str) else given or [])]

    def suite(self) -> Suite:
        keys, name = self.keys, self.path.stem
        shared = {
            "name": name, "task": keys.task, "dataset": keys.title or name, "files": tuple(keys.files), "about": keys.about,
            "where": keys.source, "example_files": tuple(keys.example_files or ()), "in_order": keys.examples == "first",
            "format": keys.format or f"own {hashlib.sha256(self._text.encode()).hexdigest()[:8]}", "beside": self.path.parent,
        }  # fmt: skip
        if not keys.reference:
            return ChoiceSuite(**shared, headline=keys.headline, questions=self._questions)  # pyright: ignore[reportArgumentType]
        matching = Matching(tuple(keys.ignore or Matching.ignore), keys.overlap)  # pyright: ignore[reportArgumentType]
        until = ("\n",) if keys.until is None else tuple(keys.until)
        return ReferenceSuite(
            **shared, prompts=self._references, metrics=tuple(keys.metrics or ("exact_match", "f1")), matching=matching,
            stops=until, max_new_tokens=keys.max_new_tokens,
        )  # fmt: skip

    def _questions(self, place: Path, refusals: Refusals | None = None) -> list[Question]:
        return self._made(place, refusals, self._question)

    def _references(self, place: Path, refusals: Refusals | None = None) -> list[Reference]:
        return self._made(place, refusals, self._reference)

    def _made(
        self, place: Path, refusals: Refusals | None, make: Callable[[Path, dict[str, Any], list[str]], Any]
    ) -> list[Any]:
        keys, refusals, made = self.keys, refusals or Refusals(), []
        rows = {path: self._rows(path, file, refusals) for path, file in files_in(place)}
        every: dict[str, None] = {}
        if keys.choices_of:
            for path, some in rows.items():
                every |= dict.fromkeys(self._filled(path, row, "choices_of") for row in some)
        for path, some in rows.items():
            made += made_of(path, some, lambda row, path=path: make(path, row, list(every)), refusals)
        return made

    def _rows(self, path: Path, file: str, refusals: Refusals) -> list[dict[str, Any]]:
        rows = []
        for row in rows_of(path, self.keys.layout, self.keys.columns or [], refusals):
            if any(str(row.get(field)) in values for field, values in (self.keys.skip or {}).items()):
                continue
            stripped = {name: row[name].strip() for name in self.keys.strip or () if isinstance(row.get(name), str)}
            rows.append({**row, **stripped, "@file": (self.keys.names or {}).get(file, file.replace("_", " "))})
        return rows

    def _filled(self, path: Path, row: dict[str, Any], key: str) -> str:
        return self._asked(path, row, key, self._templates[key].text)

    def _asked(self, path: Path, row: dict[str, Any], key: str, read: Callable[[dict[str, Any]], Any]) -> Any:
        try:
            return read(row)
        except NoField as error:
            has = ", ".join(f'"{name}"' for name in row if name[0] not in "_@") or "nothing"
            raise InputError(
                f'{path}, line {row["_line"]}: no field "{error}", which "{key}" of {self.path.name} asks for; it has {has}.'
            ) from None

    def _list(self, path: Path, row: dict[str, Any], key: str, templates: list[Template]) -> list[str]:
        if len(templates) == 1 and isinstance(getattr(self.keys, key), str):
            return self._asked(path, row, key, templates[0].values)
        return [self._asked(path, row, key, each.text) for each in templates]

    def _example(self, path: Path, row: dict[str, Any], answer: str) -> str:
        """How a row is written as a worked example."""
        query = self._filled(path, row, "example_query" if self.keys.example_query else "query")
        if self.keys.example_answer:
            answer = self._filled(path, row, "example_answer")
        return query + self.keys.delimiter + answer

    def _question(self, path: Path, row: dict[str, Any], every: list[str]) -> Question:
        choices = every or self._list(path, row, "choices", self._choices)
        if len(choices) < 2 or not all(each.strip() for each in choices):
            raise InputError(f"{path}, line {row['_line']}: two or more choices are needed, none of them empty.")
        labels = self._list(path, row, "labels", self._labels) or (every or [str(n) for n in range(len(choices))])
        gold = self._filled(path, row, "gold").strip()
        if gold not in labels[: len(choices)]:
            shown = ", ".join(printable(each, 20) for each in labels[:8])
            raise InputError(
                f"{path}, line {row['_line']}: the right choice is {printable(gold, 40)!r}, which is none of {shown}."
            )
        right = labels.index(gold)
        return Question(
            (self._filled(path, row, "query"),), tuple(self.keys.delimiter + each for each in choices), right,
            self._filled(path, row, "group"), self._filled(path, row, "description"),
            example=self._example(path, row, choices[right]),
        )  # fmt: skip

    def _reference(self, path: Path, row: dict[str, Any], every: list[str]) -> Reference:
        references = self._asked(path, row, "reference", self._templates["reference"].values)
        if not any(each.strip() for each in references):
            raise InputError(f"{path}, line {row['_line']}: no reference that is not empty.")
        return Reference(
            self._filled(path, row, "query"), references, self._filled(path, row, "group"),
            self._filled(path, row, "description"), example=self._example(path, row, references[0]),
        )  # fmt: skip

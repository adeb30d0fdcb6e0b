"""Text of benchmarks: documents that hold an item of one, however it is wrapped and punctuated."""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from wenloom.core.errors import InputError
from wenloom.core.foreign import read_json
from wenloom.text.document import Document
from wenloom.text.hashing import sequences, word_hashes
from wenloom.text.kinds import kind_of_name
from wenloom.text.languages import by_script, language
from wenloom.text.lines import json_lines, lines_of, utf8
from wenloom.text.parquet import arrow_rows, parquet_rows
from wenloom.text.refusals import Refusals
from wenloom.text.steps.step import Dropped, Kept
from wenloom.text.tables import table_rows

_MARKS_WITHIN = re.compile(r"(?<=\w)[^\w\s]+(?=\w)")
"""Marks inside a word, as of a number or a program: whoever leaves some of them out joins what they part."""


class _Grams(NamedTuple):
    """Sequences of one length: their numbers in order, and which item each is of."""

    numbers: np.ndarray
    items: np.ndarray


class _Index(NamedTuple):
    grams: dict[int, _Grams]
    """By number of words."""
    joined: dict[int, _Grams]
    """The same of items with marks inside words, without these."""
    items: list[tuple[str, str]]
    """Where each stands, and its text."""


@dataclass(frozen=True)
class Contamination:
    """Drops documents that hold so many words in a row of an item; case, marks and line breaks are no difference.

    Items of fewer words are looked for whole, unless they are too short to tell anything. Where blanks do not part words, a word is as
    many characters as it has in that language.
    """

    suites: tuple[str, ...] = ()
    """Suites of `wenloom evaluate`, whose data lie in WENLOOM_DATA; `all`: every one that is found there."""
    files: tuple[str, ...] = ()
    """Any other files: every text in their rows, or every line, is an item."""
    words: int = 13
    """In a row (GPT-3's 13; Brown et al. 2020, appendix C)."""
    shortest: int = 8
    """Words of the shortest item that is looked for."""

    def __post_init__(self) -> None:
        if not 1 <= self.shortest <= self.words:
            raise InputError(f"contamination.shortest {self.shortest}: must be from 1 to words ({self.words}).")

    @cached_property
    def _index(self) -> _Index:
        if not self.files:
            raise InputError("contamination.files: name files whose texts are looked for, or suites.")
        items = [each for name in self.files for each in _texts_of(Path(name))]
        texts = [text for _, text in items]
        scales = [language(by_script(text) or "en").per_word or 1.0 for text in texts]
        n_words = [len(words) for words in word_hashes(texts)]
        told = [n for n, scale in enumerate(scales) if n_words[n] >= round(self.shortest * scale)]
        longest = {n: round(self.words * scales[n]) for n in told}
        with_marks = [n for n in told if _MARKS_WITHIN.search(texts[n])]
        return _Index(
            _grams({n: texts[n] for n in told}, longest),
            _grams({n: _MARKS_WITHIN.sub("", texts[n]) for n in with_marks}, longest),
            items,
        )

    def __call__(self, document: Document) -> Kept | Dropped:
        index = self._index
        hit = _found(document.text, index.grams)
        if hit is None and index.joined:
            hit = _found(_MARKS_WITHIN.sub("", document.text), index.joined)
        if hit is None:
            return Kept(document)
        length, number = hit
        where, text = index.items[number]
        shown = " ".join(text.split())[:100]
        return Dropped(f'holds {length} words in a row of {where}: "{shown}"')


def _grams(texts: dict[int, str], longest: dict[int, int]) -> dict[int, _Grams]:
    """Sequences of so many words of items, by the numbers of these; shorter items whole."""
    found = defaultdict[int, list[tuple[np.ndarray, int]]](list)
    for number, words in zip(texts, word_hashes(list(texts.values())), strict=True):
        length = min(longest[number], len(words))
        found[length].append((sequences(words, length), number))
    grams = {}
    for length, parts in found.items():
        hashes = np.concatenate([part for part, _ in parts])
        which = np.repeat([item for _, item in parts], [len(part) for part, _ in parts])
        order = np.argsort(hashes, kind="stable")
        grams[length] = _Grams(hashes[order], which[order])
    return grams


def _found(text: str, by_length: dict[int, _Grams]) -> tuple[int, int] | None:
    """The number of words of the first sequence that stands in a text, and which item it is of."""
    words = next(iter(word_hashes([text])))
    for length, grams in by_length.items():
        if len(words) < length:
            continue
        own = sequences(words, length)
        at = np.minimum(np.searchsorted(grams.numbers, own), len(grams.numbers) - 1)
        hits = np.flatnonzero(grams.numbers[at] == own)
        if len(hits):
            return length, int(grams.items[at[hits[0]]])
    return None


def _texts_of(path: Path) -> Iterator[tuple[str, str]]:
    """Every text of a file with its place: of rows each field, of other files each line."""
    refusals = Refusals(strict=False)
    kind = kind_of_name(path)
    if kind == ".jsonl":
        for number, row in json_lines(path, utf8, refusals):
            yield from ((f"{path.name}, line {number}", text) for text in _strings(row))
    elif kind in (".parquet", ".arrow", ".csv", ".tsv"):
        rows = {".parquet": parquet_rows, ".arrow": arrow_rows}.get(
            kind, lambda file: table_rows(file, refusals, "\t" if kind == ".tsv" else None)
        )
        for number, row in rows(path):
            yield from ((f"{path.name}, row {number}", text) for text in _strings(row))
    elif kind == ".json":
        yield from ((path.name, text) for text in _strings(read_json(path)))
    else:
        for line in lines_of(path):
            yield f"{path.name}, line {line.number}", line.data.decode("utf-8", "replace")


def _strings(value: Any) -> Iterator[str]:
    """All texts within, each an item of its own."""
    waiting: list[Any] = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, str):
            yield each
        elif isinstance(each, dict):
            waiting += each.values()
        elif isinstance(each, Sequence):
            waiting += each

"""The data card as files: JSON for machines, and a page that needs no network."""

import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from wenloom.core.files import write_atomically
from wenloom.core.foreign import json_text
from wenloom.core.pages.page import render
from wenloom.core.quantities import counted, show_bytes

JSON, PAGE = "data-card.json", "data-card.html"
_SOURCES, _BEGIN = 1000, 80


def write_card(
    folder: Path,
    facts: dict[str, Any],
    sources: Sequence[dict[str, Any]],
    left_out: dict[str, Any],
    skipped: Sequence[dict[str, str]],
) -> None:
    """Write both files.

    Args:
        facts: see `card.Card.facts`.
        sources: file, bytes and SHA-256 of each.
        left_out: how many rows, members and files could not be read ("rows"), and the first of them ("first").
        skipped: files of folders that were passed over, with the reason.
    """
    facts = facts | {"sources": list(sources), "left_out": left_out, "skipped": list(skipped)}
    write_atomically(folder / JSON, json_text(facts, indent=1) + "\n")
    write_atomically(folder / PAGE, page(facts))


def page(facts: dict[str, Any]) -> str:
    """The page: every text of a stranger is escaped, and nothing is loaded."""
    read, kept = facts["read"], facts["kept"]
    part = kept["bytes"] / max(1, read["bytes"])
    tiles = [
        (f"{kept['documents']:,}", f"of {counted(read['documents'], 'document')} kept"),
        (show_bytes(kept["bytes"]), f"of {show_bytes(read['bytes'])} kept ({100 * part:.1f} %)"),
        (f"{len(facts['languages']):,}", "languages" if len(facts["languages"]) != 1 else "language"),
    ]
    if set(facts["languages"]) == {"und"}:
        tiles[-1] = ("–", "no step told the language")
    bounds = [each["from"] for each in facts["lengths"]]
    names = [f"{low:,} to {high:,}" for low, high in itertools.pairwise(bounds)] + [f"{bounds[-1]:,} and more"]
    lengths = zip(names, [each["documents"] for each in facts["lengths"]], strict=True)
    languages = [(f"{each['name']} ({code})" if each["name"] != code else code, each["documents"])
                 for code, each in facts["languages"].items()]  # fmt: skip
    return render(
        "wenloom.text", "data_card.html.jinja", title="Data card", facts=facts, tiles=tiles,
        dropped=_sized(facts["dropped"]), cut=_sized(facts["cut"]), added=_sized(facts["added"]), languages=_bars(languages), lengths=_bars(lengths),
        personal=_bars(sorted(facts["personal_data"].items(), key=lambda pair: -pair[1])),
        examples_of=[(_title(what), [each | {"begin": " ".join(each["text"].split())[:_BEGIN]} for each in rows])
                     for what, rows in facts["examples"].items()],
        recipe=[(step, [(name, _value(value)) for name, value in values.items()])
                for step, values in facts["recipe"]["steps"].items()],
        unread=[(f"{each['file']}, {each['line']}" if each["line"] else each["file"], each["why"])
                for each in facts["left_out"]["first"]] + [(each["file"], each["why"]) for each in facts["skipped"]],
        n_unread=facts["left_out"]["rows"] + len(facts["skipped"]),
        sources=[each | {"size": show_bytes(each["bytes"])} for each in facts["sources"][:_SOURCES]],
    )  # fmt: skip


def _title(what: str) -> str:
    return what.capitalize() if what == "kept" or what.startswith("added by ") else f"Dropped by {what}"


def _sized(found: dict[str, dict[str, int]]) -> list[dict[str, Any]]:
    return _bars((step, each["documents"], show_bytes(each["bytes"])) for step, each in found.items())


def _bars(rows: Iterable[tuple[Any, ...]]) -> list[dict[str, Any]]:
    """Rows of a table whose number is drawn, too; those of 0 are left out.

    >>> _bars([("a", 1000, "1 kB"), ("b", 0, "0"), ("c", 500, "5 B")])[1]
    {'name': 'c', 'cells': ['500', '5 B'], 'part': 0.5}
    """
    rows = [row for row in rows if row[1]]
    most = max((row[1] for row in rows), default=1)
    return [{"name": name, "cells": [f"{count:,}", *more], "part": count / most} for name, count, *more in rows]


def _value(value: Any) -> str:
    """A setting in words.

    >>> _value(True), _value(("zh", "en")), _value(0.65), _value(())
    ('yes', 'zh en', '0.65', '–')
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    return (" ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)) or "–"

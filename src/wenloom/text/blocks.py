"""Blocks of documents on disk: what the steps made of each, and what steps that compare documents noted."""

import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from wenloom.core.files import file_aside
from wenloom.core.foreign import json_text
from wenloom.text.document import Document

VERSION = 2
"""Of what is noted: blocks of another are not gone on with."""
MEASURES = "all steps"
"""In place of the name of a step, what all steps need to know of a document (`comparing.measured`)."""


class BlockEntry(NamedTuple):
    """A document after the steps that look at one: kept, or dropped by one of them."""

    document: Document
    step: str = ""
    reason: str = ""


def write_block(
    path: Path, entries: Sequence[BlockEntry], notes: dict[str, list[np.ndarray]], facts: dict[str, Any]
) -> None:
    """Write a block in one piece.

    Args:
        notes: by step, of each document that is kept.
        facts: counts for the card.
    """
    lines = [json_text({"text": each.document.text, "source": each.document.source, "fields": _plain(each.document.fields),
                        "step": each.step, "reason": each.reason}) for each in entries]  # fmt: skip
    arrays: dict[str, np.ndarray] = {"rows": np.frombuffer(zlib.compress("\n".join(lines).encode(), 1), np.uint8),
              "facts": np.frombuffer(json_text(facts).encode(), np.uint8)}  # fmt: skip
    for name, values in notes.items():
        arrays[f"{name} values"] = np.concatenate(values) if values else np.zeros(0, np.uint64)
        arrays[f"{name} sizes"] = np.fromiter(map(len, values), np.int64, len(values))
    with file_aside(path) as file:
        np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]


def _plain(fields: dict[str, Any]) -> dict[str, Any]:
    """Of the other fields of a row, those that JSON takes and that are short."""
    return {
        name: value for name, value in fields.items() if isinstance(value, (str, int, float)) and len(str(value)) < 500
    }


def read_entries(path: Path) -> list[BlockEntry]:
    """The documents of a block."""
    with np.load(path, allow_pickle=False) as arrays:
        data = zlib.decompress(arrays["rows"].tobytes())
    rows = [json.loads(line) for line in data.decode().split("\n") if line]
    return [BlockEntry(Document(row["text"], row["source"], row["fields"]), row["step"], row["reason"]) for row in rows]


def read_notes(path: Path, step: str) -> tuple[np.ndarray, np.ndarray]:
    """What a step noted, and how much of it each document that was kept has."""
    with np.load(path, allow_pickle=False) as arrays:
        return arrays[f"{step} values"], arrays[f"{step} sizes"]


def read_facts(path: Path) -> dict[str, Any]:
    """Counts for the card."""
    with np.load(path, allow_pickle=False) as arrays:
        return json.loads(arrays["facts"].tobytes())

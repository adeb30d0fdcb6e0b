"""The data card as files: JSON for machines, and a page that needs no network."""

import html
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from wenloom.core.files import write_atomically
from wenloom.core.foreign import json_text
from wenloom.core.quantities import show_bytes

JSON, PAGE = "data-card.json", "data-card.html"
_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8882; --bar: #3b7dd8; }
body { font: 16px/1.5 system-ui, "Noto Sans", "Noto Sans CJK SC", "PingFang SC", "Microsoft YaHei", sans-serif; margin: 0 auto;
  max-width: 60rem; padding: 1rem; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
.wide { overflow-x: auto; } table { border-collapse: collapse; width: 100%; }
th, td:first-child { overflow-wrap: normal; } th, td { text-align: left; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td.bar { width: 35%; min-width: 3rem; } .bar div { background: var(--bar); height: .8em; border-radius: 2px; }
details { border-bottom: 1px solid var(--line); padding: .3rem 0; } summary { cursor: pointer; }
.text { white-space: pre-wrap; background: var(--soft); padding: .5rem; border-radius: 4px; margin: .25rem 0 .75rem; font-size: .9rem; }
.why { font-weight: 600; } .from { opacity: .75; font-size: .85rem; } code { font-size: .9em; }
"""


def write_card(folder: Path, facts: dict[str, Any], sources: Sequence[dict[str, Any]]) -> None:
    """Write both files.

    Args:
        facts: see `card.Card.facts`.
        sources: file, bytes and SHA-256 of each.
    """
    facts = facts | {"sources": list(sources)}
    write_atomically(folder / JSON, json_text(facts, indent=1) + "\n")
    write_atomically(folder / PAGE, page(facts))


def page(facts: dict[str, Any]) -> str:
    """The page: every text of a stranger is escaped, and nothing is loaded."""
    read, kept = facts["read"], facts["kept"]
    share = kept["bytes"] / max(1, read["bytes"])
    parts = [f"<h1>Data card</h1><p>Recipe <b>{_e(facts['recipe']['name'])}</b>: {kept['documents']:,} of {read['documents']:,} documents kept, "
             f"{show_bytes(kept['bytes'])} of {show_bytes(read['bytes'])} ({share:.1%}).</p>"]  # fmt: skip
    rows = [(step, each["documents"], show_bytes(each["bytes"])) for step, each in facts["dropped"].items()]
    parts.append(_bars("What each step dropped", ("step", "documents", "text"), rows))
    rows = [
        (f"{each['name']} ({code})" if each["name"] != code else code, each["documents"])
        for code, each in facts["languages"].items()
    ]
    parts.append(_bars("Languages of what is kept", ("language", "documents"), rows))
    bounds = [each["from"] for each in facts["lengths"]]
    names = [f"{low:,} to {high:,}" for low, high in itertools.pairwise(bounds)] + [f"{bounds[-1]:,} and more"]
    rows = [(name, each["documents"]) for name, each in zip(names, facts["lengths"], strict=True)]
    parts.append(_bars("Lengths, characters", ("length", "documents"), rows))
    if facts["personal_data"]:
        rows = sorted(facts["personal_data"].items(), key=lambda pair: -pair[1])
        parts.append(_bars("Personal data that was replaced", ("kind", "pieces"), rows))
    if facts["clusters"]:
        rows = [(f"{each['documents']:,}", "; ".join(each["sources"])) for each in facts["clusters"]]
        parts.append(_table("Largest clusters of near duplicates", ("documents", "first of them"), rows))
    if facts["licences"]:
        rows = [(each["licence"], each["source"], f"{each['documents']:,}") for each in facts["licences"]]
        parts.append(_table("Licences", ("licence", "source", "documents"), rows))
    for what, rows in facts["examples"].items():
        title = "Kept" if what == "kept" else f"Dropped by {what}"
        parts.append(f"<h2>{_e(title)}: examples</h2>" + "".join(map(_example, rows)))
    rows = [
        (step, ", ".join(f"{name} {_value(value)}" for name, value in values.items()) or "–")
        for step, values in facts["recipe"]["steps"].items()
    ]
    parts.append(_table("Recipe", ("step", "values"), rows))
    rows = [(each["file"], show_bytes(each["bytes"]), each["sha256"]) for each in facts["sources"][:1000]]
    parts.append(_table("Sources", ("file", "size", "SHA-256"), rows))
    return ("<!doctype html><html lang='en'><meta charset='utf-8'><meta name='viewport' content='width=device-width, initial-scale=1'>"
            f"<title>Data card</title><style>{_STYLE}</style><body>{''.join(parts)}</body></html>\n")  # fmt: skip


def _e(text: object) -> str:
    return html.escape(str(text).encode("utf-8", "backslashreplace").decode())


def _example(row: dict[str, str]) -> str:
    why = f"<span class='why'>{_e(row['reason'])}</span> " * bool(row["reason"])
    begin = " ".join(row["text"].split())[:80]
    return (f"<details><summary>{why or _e(begin)} <span class='from'>{_e(row['source'])}</span></summary>"
            f"<div class='text'>{_e(row['text'])}</div></details>")  # fmt: skip


def _bars(title: str, names: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> str:
    """A table whose second column is drawn, too."""
    if not rows:
        return ""
    most = max(1, *(row[1] for row in rows))
    lines = "".join(
        f"<tr><td>{_e(row[0])}</td>" + "".join(f"<td class='n'>{each if isinstance(each, str) else f'{each:,}'}</td>" for each in row[1:])
        + f"<td class='bar'><div style='width:{row[1] / most:.1%}'></div></td></tr>" for row in rows if row[1])  # fmt: skip
    head = "".join(f"<th{' class=n' * (place > 0)}>{_e(name)}</th>" for place, name in enumerate(names))
    return f"<h2>{_e(title)}</h2><div class='wide'><table><tr>{head}<th></th></tr>{lines}</table></div>"


def _value(value: Any) -> str:
    """A setting in words.

    >>> _value(True), _value(("zh", "en")), _value(0.65)
    ('yes', 'zh en', '0.65')
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _table(title: str, names: Sequence[str], rows: Sequence[tuple[str, ...]]) -> str:
    head = "".join(f"<th>{_e(name)}</th>" for name in names)
    lines = "".join("<tr>" + "".join(f"<td>{_e(each)}</td>" for each in row) + "</tr>" for row in rows)
    return f"<h2>{_e(title)}</h2><div class='wide'><table><tr>{head}</tr>{lines}</table></div>"

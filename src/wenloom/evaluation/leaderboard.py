"""The results board: a folder with one HTML page that needs no network, a CSV file and a BibTeX file.

Boards rank only inside one comparability key. Results whose intervals overlap share a place.
"""

import csv
import io
import re
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import jinja2

from wenloom.core.files import write_atomically
from wenloom.core.version import __version__
from wenloom.evaluation.results import Result, today
from wenloom.evaluation.signature import Signature, differences


@dataclass(frozen=True)
class Place:
    """A result on a board."""

    rank: int
    is_tied: bool
    result: Result


@dataclass(frozen=True)
class Board:
    """Results that may be ranked against each other, best first."""

    task: str
    dataset: str
    metric: str
    signature: str
    places: list[Place]
    higher_is_better: bool
    is_headline: bool

    @property
    def anchor(self) -> str:
        """The name of this place in links."""
        words = re.sub(r"[^\w]+", "-", f"{self.task} {self.dataset} {self.metric} {self.signature}".lower())
        return words.strip("-")[:120]

    @property
    def best(self) -> Result:
        """The first."""
        return self.places[0].result


def boards(results: Iterable[Result]) -> list[Board]:
    """All boards: by task and dataset, first what publications report, then those with most rows."""
    groups: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(result.key, []).append(result)
    made = [_board(rows) for rows in groups.values()]
    return sorted(made, key=lambda b: (b.task, b.dataset, not b.is_headline, b.metric, -len(b.places), b.signature))


def _board(rows: list[Result]) -> Board:
    first = rows[0]
    ordered = sorted(_latest(rows), key=lambda each: each.value, reverse=first.higher_is_better)
    places: list[Place] = []
    rank = 1
    for number, result in enumerate(ordered, 1):
        # a result is below another only if its interval is clear of that of the first of its rank
        head = next((each.result for each in places if each.rank == rank), None)
        if head is not None and not head.interval.overlaps(result.interval):
            rank = number
        places.append(Place(rank, False, result))
    counts = {each.rank: sum(other.rank == each.rank for other in places) for each in places}
    places = [Place(each.rank, counts[each.rank] > 1, each.result) for each in places]
    return Board(
        first.task, first.dataset, first.metric, first.signature, places, first.higher_is_better,
        any(each.is_headline for each in rows),
    )  # fmt: skip


def _latest(rows: list[Result]) -> list[Result]:
    """Of several runs of the same model the last; a model is known by its hash, where it has one."""
    kept: dict[str, Result] = {}
    for row in rows:
        kept[f"{row.source}/{row.model_hash or row.model}"] = row
    return list(kept.values())


def incomparable(board: Board, others: Sequence[Board]) -> list[tuple[Board, str]]:
    """Other boards of the same dataset and metric, and in a sentence what sets them apart."""
    found = []
    for other in others:
        same = (other.task, other.dataset, other.metric) == (board.task, board.dataset, board.metric)
        if same and other is not board and board.signature and other.signature:
            gaps = differences(Signature.parse(board.signature), Signature.parse(other.signature))
            found.append((other, "; ".join(f"{gap.field} {gap.first} / {gap.second}" for gap in gaps)))
    return found


def write_leaderboard(results: Sequence[Result], folder: Path) -> None:
    """Write index.html, results.csv and references.bib.

    Raises:
        WenloomError: the disk refused.
    """
    made = boards(results)
    tasks: dict[str, dict[str, list[Board]]] = {}
    for board in made:
        tasks.setdefault(board.task, {}).setdefault(board.dataset, []).append(board)
    environment = jinja2.Environment(loader=jinja2.PackageLoader("wenloom.evaluation"), autoescape=True)
    page = environment.get_template("leaderboard.html.jinja").render(
        tasks=tasks, progress={board.anchor: progress_chart(board) for board in made},
        others={board.anchor: incomparable(board, made) for board in made}, n_results=len(results), made=today(),
        version=__version__, number=shown,
    )  # fmt: skip
    write_atomically(folder / "index.html", page)
    write_atomically(folder / "results.csv", as_csv(results))
    write_atomically(folder / "references.bib", as_bibtex(results))


def shown(value: float) -> str:
    """A value as people read it: about four digits.

    >>> shown(83.0214), shown(0.98765), shown(1234.5)
    ('83.02', '0.988', '1,234')
    """
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.2f}" if abs(value) >= 10 else f"{value:.3f}"


def progress_chart(board: Board) -> dict[str, object] | None:
    """Values by date, with the best so far as a line; None where there are no two dates.

    Coordinates are in a picture of 640 by 200.
    """
    dated = sorted((row for row in (place.result for place in board.places) if row.date), key=lambda row: row.date)
    if len({row.date[:10] for row in dated}) < 2:
        return None
    times = [_year(row.date) for row in dated]
    values = [row.value for row in dated]
    low, high = min(values), max(values)
    margin = 0.08 * (high - low or abs(high) or 1)
    low, high = low - margin, high + margin
    begin, end = min(times), max(times)
    if begin == end:  # 2020 and 2020-01
        return None

    def place(time: float, value: float) -> tuple[float, float]:
        return round(50 + 575 * (time - begin) / (end - begin), 1), round(175 - 160 * (value - low) / (high - low), 1)

    best, line = None, []
    for time, value in zip(times, values, strict=True):
        if best is None or (value > best) == board.higher_is_better:
            if best is not None:
                line.append(place(time, best))
            best = value
            line.append(place(time, best))
    line.append(place(end, best or 0.0))
    return {
        "line": " ".join(f"{x},{y}" for x, y in line),
        "dots": [(*place(time, row.value), row) for time, row in zip(times, dated, strict=True)],
        "y": [(place(begin, value)[1], shown(value)) for value in (min(values), max(values))],
        "x": [(place(begin, low)[0], dated[0].date[:7], "start"), (place(end, low)[0], dated[-1].date[:7], "end")],
    }


def _year(date: str) -> float:
    numbers = [int(part) for part in re.findall(r"[0-9]{1,4}", date)[:3]]
    year, month, day = (*numbers, 1, 1)[:3] if numbers else (1970, 1, 1)
    return year + (month - 1) / 12 + (day - 1) / 365


def as_csv(results: Sequence[Result]) -> str:
    """One line per result, for spreadsheets; a cell that would begin a formula is led by an apostrophe."""
    names = [each.name for each in fields(Result) if each.name != "details"]
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\r\n")  # RFC 4180; a cell with either of them is quoted only then
    writer.writerow(["id", *names])
    for result in results:
        cells = [getattr(result, name) for name in names]
        writer.writerow([result.id, *(_harmless(each) if isinstance(each, str) else each for each in cells)])
    return file.getvalue()


_FORMULA = re.compile(r"'*[\s\x00-\x20\ufeff\u200b]*[=+\-@\uff1d\uff0b\uff0d\uff20]|'*[\t\r\n]")


def _harmless(cell: str) -> str:
    """Text that no spreadsheet computes: it leaves blanks out before it looks for a formula.

    One apostrophe taken off a cell that matches gives back what it was.

    >>> [_harmless(cell) for cell in ("a=b", "=1", "  =1", "'=1", "-5", "")]
    ['a=b', "'=1", "'  =1", "''=1", "'-5", '']
    """
    return f"'{cell}" if _FORMULA.match(cell) else cell


def as_bibtex(results: Sequence[Result]) -> str:
    """An entry per publication."""
    entries: dict[str, str] = {}
    for result in results:
        words = result.paper_title.split()
        if not words:
            continue
        first = re.sub(r"\W", "", words[0].lower())
        name = f"{first}{result.date[:4]}-{zlib.crc32(result.paper_title.encode()) % 10_000:04d}"
        title = re.sub(r"([&%$#_{}])", r"\\\1", " ".join(words).replace("\\", ""))
        url = "".join(f"%{ord(char):02X}" if char in "{}\\" or char.isspace() else char for char in result.paper_url)
        year = f"  year = {{{result.date[:4]}}},\n" if result.date else ""
        entries[name] = f"@misc{{{name},\n  title = {{{{{title}}}}},\n{year}  howpublished = {{\\url{{{url}}}}},\n}}\n"
    return "\n".join(entries[name] for name in sorted(entries))

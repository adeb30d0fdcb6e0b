"""The results board: a folder with one HTML page that needs no network, a CSV file and a BibTeX file.

Boards rank only inside one comparability key. Results whose intervals overlap share a place.
"""

import csv
import io
import math
import re
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from wenloom.core.files import write_atomically
from wenloom.core.pages.chart import Axis, Chart, Series
from wenloom.core.pages.page import render
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
    direction: str
    """Which value is better, in words."""
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

    @property
    def own(self) -> list[Place]:
        """What was measured here."""
        return [each for each in self.places if each.result.source == "own"]

    @property
    def papers(self) -> "list[Paper]":
        """What was not."""
        return by_paper((self, each) for each in self.places if each.result.source != "own")


def boards(results: Iterable[Result]) -> list[Board]:
    """All boards: by task and dataset, first what publications report, then those with most rows."""
    groups: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(result.key, []).append(result)
    made = [_board(rows) for rows in groups.values()]
    return sorted(made, key=lambda b: (b.task, b.dataset, not b.is_headline, b.metric, -len(b.places), b.signature))


def _board(rows: list[Result]) -> Board:
    first = rows[0]
    ordered = sorted(_latest(rows), key=lambda each: each.ranked.value, reverse=first.more_is_better)
    places: list[Place] = []
    rank = 1
    for number, result in enumerate(ordered, 1):
        # a result is below another only if its interval is clear of that of the first of its rank
        head = next((each.result for each in places if each.rank == rank), None)
        if head is not None and not head.ranked.overlaps(result.ranked):
            rank = number
        places.append(Place(rank, False, result))
    counts = {each.rank: sum(other.rank == each.rank for other in places) for each in places}
    places = [Place(each.rank, counts[each.rank] > 1, each.result) for each in places]
    direction = "higher is better" if first.higher_is_better else "lower is better"
    return Board(
        first.task, first.dataset, first.metric, first.signature, places,
        direction if first.best is None else f"nearest to {first.best:g} is best",
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


@dataclass(frozen=True)
class Paper:
    """Results of one publication, or of no known one."""

    title: str
    url: str
    code_url: str
    date: str
    places: list[tuple[Board, Place]]

    @property
    def anchor(self) -> str:
        """The name of this place in links."""
        return "paper-" + re.sub(r"[^\w]+", "-", self.title.lower()).strip("-")[:80]


def by_paper(places: Iterable[tuple[Board, Place]]) -> list[Paper]:
    """Results that were not measured here, by publication in order of titles; imported ones that name none come last."""
    papers: dict[str, list[tuple[Board, Place]]] = {}
    for board, place in places:
        papers.setdefault(place.result.paper_title, []).append((board, place))
    made = []
    for title, rows in sorted(papers.items(), key=lambda each: (not each[0], each[0].lower())):
        results = [place.result for _, place in rows]
        url, code_url = (next((getattr(each, name) for each in results if getattr(each, name).startswith("https://")), "")
                         for name in ("paper_url", "code_url"))  # fmt: skip
        made.append(
            Paper(title or "imported, no publication named", url, code_url, max(each.date for each in results), rows)
        )
    return made


def write_leaderboard(results: Sequence[Result], folder: Path) -> None:
    """Write index.html, results.csv and references.bib.

    Raises:
        WenloomError: the disk refused.
    """
    made = boards(results)
    measured, published = ([board for board in made if bool(board.own) == yes] for yes in (True, False))
    papers = by_paper((board, place) for board in published for place in board.places)
    home = {board.anchor: board.anchor for board in measured} | {
        board.anchor: paper.anchor for paper in papers for board, _ in paper.places
    }
    tasks: dict[str, dict[str, list[Board]]] = {}
    for board in measured:
        tasks.setdefault(board.task, {}).setdefault(board.dataset, []).append(board)
    page = render(
        "wenloom.evaluation", "leaderboard.html.jinja", title="Results board", tasks=tasks, papers=papers, home=home,
        progress={board.anchor: chart for board in made if (chart := progress_chart(board))},
        published=published, others={board.anchor: incomparable(board, made) for board in measured}, n_results=len(results),
        n_own=sum(each.source == "own" for each in results), made=today(), version=__version__, number=shown,
    )  # fmt: skip
    write_atomically(folder / "index.html", page)
    write_atomically(folder / "results.csv", as_csv(results))
    write_atomically(folder / "references.bib", as_bibtex(results))


def shown(value: float) -> str:
    """A value as people read it: about four digits.

    >>> shown(83.0214), shown(0.98765), shown(1234.5)
    ('83.02', '0.988', '1,234')
    >>> shown(131_613_069_486_475.0)
    '1.316e14'
    """
    if 1e7 <= abs(value) < math.inf:  # the perplexity of a word, to a model of a few steps
        return f"{value:.3e}".replace("e+", "e")
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.2f}" if abs(value) >= 10 else f"{value:.3f}"


def progress_chart(board: Board) -> Chart | None:
    """Values by date, with the best so far as a line; None where there are no two dates."""
    dated = sorted((place.result for place in board.places if place.result.date), key=lambda row: _year(row.date))
    times = [_year(row.date) for row in dated]
    if len(set(times)) < 2:  # 2020 and 2020-01 are one
        return None
    best: list[tuple[float, Result]] = []
    for time, row in zip(times, dated, strict=True):
        value, before = row.ranked.value, best[-1][1].ranked.value if best else row.ranked.value
        if not best or ((value > before) == row.more_is_better and value != before):
            best.append((time, row))
    dots = [
        Series(name, [(time, row.value) for time, row in zip(times, dated, strict=True) if row.source in sources], colour,
               "dots", labels=[f"{row.model} ({row.date})" for row in dated if row.source in sources])
        for name, sources, colour in (("measured here", ("own",), 1), ("published", ("quoted", "imported"), 0))
    ]  # fmt: skip
    steps = [(time, row.value) for time, row in [*best, (times[-1], best[-1][1])]]
    line = Series("best so far", steps, 7, "steps")
    return Chart(board.metric, [Axis("date", "date")], [line, *dots])


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

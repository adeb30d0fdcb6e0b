"""What benches found, kept by host, date and commit in `bench/history`, and a page of the ratios over time.

python bench/history.py [--out report.html]
"""

import argparse
import importlib.metadata
import json
import os
import subprocess
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from rounds import Spread, Tournament

FOLDER = Path(__file__).with_name("history")


class Wanted(NamedTuple):
    """A ratio that a bench looks at."""

    figure: str
    ours: str
    peer: str
    least: float | None = None
    """What it is to be."""

    def __str__(self) -> str:
        return f"{self.figure}: {self.ours} / {self.peer}"


def record(bench: str, unit: str, tournament: Tournament, ratios: Iterable[Wanted]) -> dict[str, Any]:
    """Print what rounds found and keep it as `bench/history/DATE-BENCH.json`."""
    figures, peaks = tournament.figures(), tournament.peaks()
    found = [(each, spread) for each in ratios if (spread := tournament.ratio(each.figure, each.ours, each.peer))]
    print(f"\n{bench}, {unit}")
    if peaks:
        print(f"  at best, a second: {peaks['flops'].median / 1e9:,.0f} GFLOP ({peaks['flops'].least / 1e9:,.0f} to "
              f"{peaks['flops'].greatest / 1e9:,.0f}) in bfloat16, {peaks['bytes'].median / 1e9:,.0f} GB "
              f"({peaks['bytes'].least / 1e9:,.0f} to {peaks['bytes'].greatest / 1e9:,.0f}) from memory")  # fmt: skip
    for name, of_one in figures.items():
        print(f"  {name:22} " + "  ".join(f"{figure} {spread}" for figure, spread in of_one.items()))
    for each, spread in found:
        print(f"  {each!s:58} {spread}" + (f", wanted {each.least}" if each.least else ""))
    now = datetime.now(UTC)
    entry = {
        "bench": bench, "unit": unit, "date": now.isoformat(timespec="seconds"), "commit": _commit(), "host": _host(),
        "peaks": {name: each._asdict() for name, each in peaks.items()},
        "figures": {name: {figure: each._asdict() for figure, each in of_one.items()} for name, of_one in figures.items()},
        "ratios": {str(each): spread._asdict() | {"wanted": each.least} for each, spread in found},
        "thrown_away": tournament.thrown_away,
    }  # fmt: skip
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{now:%Y-%m-%dT%H%M}-{bench.replace(' ', '-')}.json"
    path.write_text(json.dumps(entry, indent=1) + "\n")
    return entry


def _commit() -> str:
    """Of the code that was measured, with a plus where it was changed since."""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=FOLDER.parent, capture_output=True, text=True).stdout.strip()

    return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain", "--", "../src") else "")


def _host() -> dict[str, Any]:
    from wenloom.core.hardware import probe

    hardware = probe("cpu")
    return {"processor": hardware.name, "cores": os.cpu_count(), "torch": importlib.metadata.version("torch"),
            "load": round(os.getloadavg()[0], 1)}  # fmt: skip


def entries() -> list[dict[str, Any]]:
    """All that is kept, oldest first."""
    return sorted((json.loads(path.read_text()) for path in FOLDER.glob("*.json")), key=lambda entry: entry["date"])


def page() -> str:
    """A chart for each bench with a line for each ratio, and tables of the figures of each run."""
    from wenloom.core.pages.chart import Axis, Chart, Series
    from wenloom.core.pages.page import render
    from wenloom.core.version import __version__

    benches: dict[str, list[dict[str, Any]]] = {}
    for entry in entries():
        entry["spreads"] = {
            name: {figure: Spread(**each) for figure, each in of_one.items()}
            for name, of_one in entry["figures"].items()
        }
        entry["found"] = [
            {"name": name, "wanted": each["wanted"], "spread": Spread(*(each[field] for field in Spread._fields))}
            for name, each in entry["ratios"].items()
        ]
        benches.setdefault(entry["bench"], []).append(entry)
    shown = []
    for name, runs in benches.items():
        ratios = dict.fromkeys(ratio for run in runs for ratio in run["ratios"])
        series = [Series(ratio, _points(runs, ratio), number, "dotted") for number, ratio in enumerate(ratios)]
        axis = Axis(f"days since {runs[0]['date'][:10]}")
        shown.append({"name": name, "runs": runs[::-1], "chart": Chart("times the peer", [axis], series)})
    sys.path.insert(0, str(Path(__file__).parents[1]))
    return render("bench", "history.html.jinja", title="Wenloom beside its peers", version=__version__, benches=shown)


def _points(runs: list[dict[str, Any]], ratio: str) -> list[tuple[float, ...]]:
    """Days since the first run, and the ratio; what was unsteady is left out."""
    first = datetime.fromisoformat(runs[0]["date"])
    return [
        ((datetime.fromisoformat(run["date"]) - first).total_seconds() / 86400, run["ratios"][ratio]["median"])
        for run in runs
        if run["ratios"].get(ratio, {}).get("is_steady")
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=FOLDER / "report.html")
    arguments = parser.parse_args()
    if not entries():
        sys.exit(f"{FOLDER}: holds no figures yet; python bench/generation.py or bench/training.py makes some.")
    arguments.out.write_text(page(), encoding="utf-8")
    print(arguments.out)


if __name__ == "__main__":
    main()

"""`wenloom report`."""

import webbrowser
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from wenloom.core.console import say
from wenloom.core.files import write_atomically


def report(
    runs: list[Path],
    /,
    *,
    out: Path | None = None,
    open: Annotated[bool, Parameter(name="--open", negative="", help="Show the page in a browser.")] = False,
) -> None:
    """Compare several training runs on one page, or name the page of one.

    The page needs nothing but itself: curves of loss, speed and gradient, results, samples, and the settings in
    which the runs differ. A run that is still going on can be among them.

        wenloom report runs/quickstart
        wenloom report runs/adamw runs/muon --out comparison.html

    Parameters
    ----------
    runs
        Run folders.
    out
        File for the page; default: comparison.html in the current folder.
    """
    from wenloom.training.comparison import compare
    from wenloom.training.run_file import REPORT, read_run

    if len(runs) == 1 and out is None:
        read_run(runs[0])
        page = runs[0] / REPORT
    else:
        page = out or Path("comparison.html")
        write_atomically(page, compare(runs))
    say(str(page))
    if open:
        webbrowser.open(page.resolve().as_uri())

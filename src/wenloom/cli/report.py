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
    heads: bool = False,
    out: Path | None = None,
    open: Annotated[bool, Parameter(name="--open", negative="", help="Show the page in a browser.")] = False,
) -> None:
    """Compare several training runs on one page, or name the page of one.

    The page needs nothing but itself: curves of loss, speed and gradient, results, samples, and the settings in
    which the runs differ. A run that is still going on can be among them.

        wenloom report runs/quickstart
        wenloom report runs/adamw runs/muon --out comparison.html
        wenloom report runs/mine --heads --out heads.html

    Parameters
    ----------
    runs
        Run folders.
    heads
        Also measure induction, previous-token and duplicate-token heads at every kept checkpoint, and say when induction formed.
    out
        File for the page; default: comparison.html in the current folder.
    """
    from wenloom.core.progress import progress
    from wenloom.training.comparison import compare
    from wenloom.training.run_file import REPORT, read_run

    if len(runs) == 1 and out is None and not heads:
        read_run(runs[0])
        page = runs[0] / REPORT
    else:
        page = out or Path("comparison.html")
        findings = []
        if heads:
            from wenloom.explanation.formation import head_findings, head_history
            from wenloom.explanation.influence import kept_models

            with progress("Measuring heads", sum(len(kept_models(run)) for run in runs), "checkpoints") as bar:
                findings.append(head_findings([head_history(run, bar.advance) for run in runs]))
            for sentence in findings[0].sentences:
                say(sentence)
        write_atomically(page, compare(runs, findings))
    say(str(page))
    if open:
        webbrowser.open(page.resolve().as_uri())

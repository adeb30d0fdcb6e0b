"""`wenloom doctor`."""

import sys
from dataclasses import asdict

from wenloom.cli.options import Json
from wenloom.core.console import out as console
from wenloom.core.console import print_json, remark

_MARKS = {"right": ("ok", "green"), "missing": ("--", "yellow"), "wrong": ("WRONG", "bold red")}


def doctor(*, json: Json = False) -> None:
    """Check the installation on small known cases, and report what is slow or missing.

    Compares this machine's arithmetic with float64, the compiled decoding step with PyTorch, cached with uncached
    generation, and the metrics with known values. Takes some seconds. Exit code 2 if something is wrong.

        wenloom doctor
    """
    from wenloom.evaluation.doctor import CheckResult, examine

    found: list[CheckResult] = []
    for each in examine():
        found.append(each)
        if not json:
            mark, style = _MARKS[each.state]
            console.print(f"[{style}]{mark:>5}[/]  {each.name:<15}", end="")
            console.print(each.text, markup=False, soft_wrap=True)
    if json:
        print_json([asdict(each) for each in found])
    if wrong := [each.name for each in found if each.state == "wrong"]:
        remark(f"wenloom: {', '.join(wrong)}: wrong. Please report it with what stands above.")
        sys.exit(2)

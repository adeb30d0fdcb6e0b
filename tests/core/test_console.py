"""What a terminal is given: nothing that it would obey or cannot take."""

import io
import json
from collections.abc import Callable

import pytest
from rich.cells import cell_len

from wenloom.cli import plan
from wenloom.core import console
from wenloom.core.console import print_json, remark, say
from wenloom.core.progress import progress

NAME = "a\x1b[31m\x9b2J\r\x07\x7f\udcff.txt"
"""As the name of a file may be."""
SHOWN = r"a\x1b[31m\x9b2J\r\x07\x7f\udcff.txt"


def test_control_characters_of_others_reach_no_terminal(capsys: pytest.CaptureFixture[str]):
    say(f"{NAME}:\n读 1")
    remark(NAME)
    with progress("reading", 1) as bar:
        bar.print(NAME)
    said = capsys.readouterr()
    assert said.out == f"{SHOWN}:\n读 1\n"
    assert said.err.startswith(f"{SHOWN}\n{SHOWN}\n")


def test_json_holds_them_and_stays_json(capsys: pytest.CaptureFixture[str]):
    print_json({NAME: ["读\n", NAME]})
    assert json.loads(capsys.readouterr().out) == {NAME: ["读\n", NAME]}


SENTENCE = (
    "after block 3 with strength 2.5, on 40 texts held out: 读到的每一个字 gain 0.12 nats, 困惑度 grows by 3 percent"
)
ROWS = [
    ("time", "2 min 5 s", "204 ms a step, and evaluations of all the validation data there are"),
    ("  model", "qwen3, 5 layers, width 128, 4 heads, context 128, bf16 on some processor with a name", ""),
    ("disk", "1 GB", ""),
]
FIGURES = (
    "WikiText-2 (Merity et al. 2016)",
    "bits_per_character",
    "94,040",
    "80,320.1 – 108,201.0",
    "4,463",
)


def _show_figures() -> None:
    shown = console.table(
        "dataset", "metric", "value", "interval", "n", right=("value", "n"), whole=("metric", "value")
    )
    shown.add_row(*FIGURES)
    console.out.print(shown)


GROUPS = [
    ("measure", "group", "value", "95 % interval", "n", "preferred"),
    ("stereotype (differing)", "sexual-orientation", "100.0 %", "20.7 to 100.0", "1", "too few"),
    ("stereotype (sum)", "socioeconomic", "62.5 %", "38.6 to 81.5", "16", "neither shown"),
]


def _show_groups() -> None:
    shown = console.table(*GROUPS[0], right=("value", "n"))
    for row in GROUPS[1:]:
        shown.add_row(*row)
    console.out.print(shown)


FORMS: dict[str, Callable[[], None]] = {
    "a result": lambda: say(SENTENCE), "a remark": lambda: remark(SENTENCE), "a plan": lambda: plan._show(ROWS),
    "a table": _show_figures, "a table of long words": _show_groups,
}  # fmt: skip


@pytest.mark.parametrize("width", [60, 80, 100, 140])
@pytest.mark.parametrize("form", FORMS)
def test_a_terminal_breaks_lines_between_words(form: str, width: int, monkeypatch: pytest.MonkeyPatch):
    screen = io.StringIO()
    terminal = console._Console(file=screen, width=width, force_terminal=True, color_system=None)
    for module, name in ((console, "out"), (console, "remarks"), (plan, "out")):
        monkeypatch.setattr(module, name, terminal)
    FORMS[form]()
    lines = screen.getvalue().splitlines()
    assert all(cell_len(line.rstrip()) <= width for line in lines)
    figures = [("dataset", "metric", "value", "interval", "n"), FIGURES]
    rows = {"a plan": ROWS, "a table": figures, "a table of long words": GROUPS}.get(form, [(SENTENCE,)])
    given = " ".join(" ".join(row) for row in rows)
    assert sorted(screen.getvalue().split()) == sorted(given.split()), "whole words, none lost"


def test_a_pipe_and_what_a_model_wrote_are_left_as_they_are(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    say(2 * SENTENCE)
    assert capsys.readouterr().out == f"{2 * SENTENCE}\n"
    screen = io.StringIO()
    monkeypatch.setattr(console, "out", console._Console(file=screen, width=60, force_terminal=True, color_system=None))
    say(2 * SENTENCE, verbatim=True)
    assert screen.getvalue() == f"{2 * SENTENCE}\n"

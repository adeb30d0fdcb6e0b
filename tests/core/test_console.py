"""What a terminal is given: nothing that it would obey or cannot take."""

import json

import pytest

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

"""The help of every command, as a terminal of 80 columns shows it."""

import functools
import re
import subprocess
import sys
from pathlib import Path

import pytest

from wenloom.cli.commands import COMMANDS
from wenloom.cli.help import USED_FIRST
from wenloom.generation.options import RequestOptions

from .calling import succeed
from .test_options import options_of

PYTHON = re.compile(
    r"\(\)|\bNone\b|\bTrue\b|\bFalse\b|\.{4,}|\btyping\b|\bSTR\b|\bdataclass|default: ['\"\[(]|--no-no-|=True|=False"
)
"""What is of the language the program is written in, and not of what it does."""
FIELDS = [name for name in RequestOptions.__dataclass_fields__ if "_" in name]


@functools.cache
def help_of(command: str, flag: str, width: int = 80) -> str:
    return succeed(*command.split(), flag, cwd=Path.cwd(), environment={"COLUMNS": str(width)})


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("flag", ["--help", "--help-all"])
def test_help_is_of_a_terminal_and_not_of_python(command: str, flag: str):
    text = help_of(command, flag)
    assert not (found := PYTHON.search(text)), f"{command}: {text[max(0, found.start() - 300) : found.end() + 60]}"
    assert max(map(len, text.splitlines())) <= 80
    words = set(re.findall(r"\b[a-z]+(?:_[a-z0-9]+)+\b", text))
    assert not words & {*FIELDS}, "options are named as they are typed"


@pytest.mark.parametrize("command", COMMANDS)
def test_no_word_of_the_help_is_cut_on_a_narrow_terminal(command: str):
    whole, narrow = (help_of(command, "--help-all", width) for width in (300, 60))
    frame = re.compile("[│╭╮╰╯─]")
    assert {*frame.sub(" ", narrow).split()} <= {*frame.sub(" ", whole).split()}
    assert max(map(len, narrow.splitlines())) <= 60


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_many_options_shows_the_ones_used_first_and_help_all_every_one(command: str):
    options = options_of(command)
    shown, first = help_of(command, "--help"), USED_FIRST.get(command, tuple(options))
    assert len(first) <= 20 and set(first) <= set(options)
    for name in options:
        line = re.compile(rf"^│ (\* +|  +)?([A-Z]+ )?{name}( |$)", re.MULTILINE)
        assert bool(line.search(shown)) == (name in first), name
        assert line.search(help_of(command, "--help-all")), name
    assert ("--help-all" in shown) == (command in USED_FIRST)
    assert all(name in shown for name in ("--config FILE", "--save-config FILE"))


def test_help_of_the_program_is_of_a_terminal():
    text = succeed("--help", cwd=Path.cwd(), environment={"COLUMNS": "80"})
    assert not PYTHON.search(text) and max(map(len, text.splitlines())) <= 80


def test_help_and_errors_of_usage_load_no_torch():
    """Whatever the command; NumPy is loaded only by those that make a tokenizer."""
    code = (
        "import sys\nfrom wenloom.cli.app import main\nfrom wenloom.cli.commands import COMMANDS\n"
        "learns = lambda name: name.partition(' ')[0] in ('prepare', 'tokenizer', 'quickstart')\n"
        "for command in sorted(COMMANDS, key=learns):\n"
        "    for more in ('--help', '--no-such-option', '--json'):\n"
        "        if more == '--json' and command in ('doctor', 'quickstart', 'plan', 'leaderboard'): continue\n"
        "        sys.argv = ['wenloom', *command.split(), more]\n"
        "        try: main()\n"
        "        except SystemExit: pass\n"
        "        assert 'torch' not in sys.modules, sys.argv\n"
        "        assert learns(command) or 'numpy' not in sys.modules, sys.argv\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr

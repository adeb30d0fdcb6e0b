"""Standard streams and surroundings as other programs leave them: closed, cut off, narrow, without UTF-8, without a home."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from wenloom.cli import app, outcome
from wenloom.core.errors import WenloomError

ALIKE = "compare-signatures 'ppl|data:春' 'ppl|data:春'"
UNLIKE = "compare-signatures 'ppl|data:春' 'ppl|data:夏'"


def shell(line: str, limit: int | None = None, **environment: str | None) -> subprocess.CompletedProcess[bytes]:
    """Run a line of shell in which `wenloom` is this package; None takes a variable away."""
    variables = {name: value for name, value in (os.environ | environment).items() if value is not None}
    command = f'wenloom() {{ "{sys.executable}" -m wenloom "$@"; }}\nset -o pipefail\n{line}'
    bound = None if limit is None else lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    return subprocess.run(["bash", "-c", command], capture_output=True, env=variables, check=False, preexec_fn=bound)


@pytest.mark.parametrize(
    "line, code",
    [
        (f"wenloom {ALIKE} <&-", 0),
        (f"wenloom {ALIKE} >&-", 0),
        (f"wenloom {ALIKE} 2>&-", 0),
        (f"wenloom {UNLIKE} <&- >&- 2>&-", 0),
        (f"wenloom {UNLIKE} | true", 0),
        ("wenloom --help | true", 0),
        ("wenloom generate --help | true", 0),
        ("wenloom sing <&- >&- 2>&-", 2),
        ("wenloom sing | true", 2),
        ("wenloom sing --json | true", 2),
    ],
)
def test_closed_streams_and_pipes_cost_no_traceback(line: str, code: int):
    done = shell(line)
    assert done.returncode == code and b"Traceback" not in done.stderr and b"Exception ignored" not in done.stderr, done


@pytest.mark.parametrize(
    "surroundings",
    [
        {"LC_ALL": "C"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"PYTHONIOENCODING": "latin-1"},
        {"HOME": None, "XDG_CACHE_HOME": None, "XDG_DATA_HOME": None},
        {"COLUMNS": "20", "TERM": "dumb"},
    ],
)
def test_any_surroundings_get_the_answer(surroundings: dict[str, str | None]):
    done = shell(f"wenloom {UNLIKE} && wenloom {UNLIKE} --json", **surroundings)
    assert done.returncode == 0 and not done.stderr, done
    assert done.stdout.startswith(b"Not comparable:\n")
    found = json.loads(done.stdout[done.stdout.index(b"{") :])
    assert found["differences"][0]["first"] in ("春", "\udce6\udc98\udca5")  # where arguments are no UTF-8: its bytes


def test_an_error_is_one_line_however_narrow_the_terminal():
    done = shell("wenloom prepare /no/such/folder/with/quite/a/long/name --out x", COLUMNS="20")
    assert (
        done.returncode == 2
        and done.stderr.count(b"\n") == 1
        and b"/no/such/folder/with/quite/a/long/name" in done.stderr
    )


def test_an_output_that_takes_no_more_is_named():
    done = shell(f"wenloom {UNLIKE} >/dev/full")
    assert (
        done.returncode == 2
        and done.stderr
        == b"wenloom: standard output: no space left on device; free some, and the same command can be run again.\n"
    ), done


def test_a_full_disk_is_a_sentence_and_loses_nothing(tmp_path: Path):
    (tmp_path / "text.txt").write_text("One lamp. " * 2000, encoding="utf-8")
    line = f"wenloom prepare {tmp_path}/text.txt --kind byte --out {tmp_path}/made"
    done = shell(line, limit=4096)
    assert done.returncode == 2 and b"Traceback" not in done.stderr and b"too large" in done.stderr, done
    assert sorted(path.name for path in tmp_path.iterdir()) == ["text.txt"]
    assert shell(line).returncode == 0


def ended(monkeypatch: pytest.MonkeyPatch, error: BaseException, *arguments: str) -> int:
    """The exit code of a command that raises this."""

    def fail(*_: object) -> None:
        raise error

    monkeypatch.delenv(outcome.DEBUG, raising=False)
    monkeypatch.setattr(sys, "argv", ["wenloom", "doctor", *arguments])
    monkeypatch.setattr(app, "build_app", fail)
    with pytest.raises(SystemExit) as end:
        app.main()
    assert isinstance(end.value.code, int)
    return end.value.code


@pytest.mark.parametrize(
    "error, code, said",
    [
        (MemoryError(), 2, "more memory"),
        (KeyboardInterrupt(), 130, "stopped"),
        (OSError(28, "No space left on device", "/a/b"), 2, "/a/b: no space left"),
        (WenloomError("bad \x1b[31m name"), 2, "bad \\x1b[31m name"),
    ],
)
def test_whatever_ends_a_command_is_a_sentence(
    error: BaseException, code: int, said: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    assert ended(monkeypatch, error, "--json") == code
    found = capfd.readouterr()
    assert said in found.err and json.loads(found.out)["exit_code"] == code


def test_a_fault_of_our_own_is_kept_for_the_report(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert ended(monkeypatch, KeyError("odd")) == 1
    said = capfd.readouterr().err
    (file,) = tmp_path.iterdir()
    assert str(file) in said and said.count("\n") == 1 and "KeyError" in file.read_text(encoding="utf-8")
    monkeypatch.setenv(outcome.DEBUG, "1")
    with pytest.raises(KeyError):
        app.main()

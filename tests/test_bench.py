"""The protocol of the benches: what noise, impossible figures and a drifting machine do to what is printed."""

import doctest
import importlib
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

BENCH = Path(__file__).parents[1] / "bench"


@pytest.fixture
def rounds(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCH))
    return importlib.import_module("rounds")


@pytest.fixture
def history(rounds: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    module = importlib.import_module("history")
    monkeypatch.setattr(module, "FOLDER", tmp_path / "history")
    return module


def in_turn(rounds: Any, rates: dict[str, Callable[[int], float]]) -> Callable[[str], Any]:
    """Contestants whose rate at the n-th measurement of all is given."""
    asked: list[str] = []

    def measure(name: str) -> Any:
        asked.append(name)
        return rounds.Round({"decode": rates[name](len(asked))}, rounds.Peaks(1e12, 4e10), {})

    return measure


def test_examples_in_docstrings_hold(rounds: Any):
    assert doctest.testmod(rounds).failed == 0 and doctest.testmod(rounds).attempted >= 2


def test_contestants_take_turns_and_steady_rounds_end(rounds: Any):
    asked: list[str] = []

    def measure(name: str) -> Any:
        asked.append(name)
        return rounds.Round({"decode": 100.0}, rounds.Peaks(1e12, 4e10), {})

    rounds.Tournament(["a", "b"], measure).run(least=5, most=9)
    assert "".join(asked) == "abbaabbaab"


def test_what_scatters_is_repeated_and_then_no_result(rounds: Any):
    measure = in_turn(rounds, {"a": lambda n: 100.0 if n % 2 else 200.0})
    tournament = rounds.Tournament(["a"], measure).run(least=5, most=9)
    spread = tournament.figures()["a"]["decode"]
    assert spread.n == 9 and not spread.is_steady and str(spread) == "unsteady: 100 to 200"


def test_one_bad_minute_of_nine_rounds_does_not_hide_a_steady_figure(rounds: Any):
    measure = in_turn(rounds, {"a": lambda n: 40.0 if n == 3 else 100.0 + n})
    spread = rounds.Tournament(["a"], measure).run(least=5, most=9).figures()["a"]["decode"]
    assert spread.n == 9 and spread.is_steady and spread.least == 40.0 and 100 < spread.median < 110


@pytest.mark.parametrize("bad", [-29.0, 0.0, float("nan"), float("inf"), 1000.0])
def test_an_impossible_figure_is_measured_again_and_never_counted(rounds: Any, bad: float):
    """1,000 tokens a second that read 1 GB each are more than 40 GB a second gives."""
    measure = in_turn(rounds, {"a": lambda n: bad if n == 2 else 30.0})
    tournament = rounds.Tournament(["a"], measure, lambda *_: rounds.Need(bytes=1e9)).run(least=5, most=5)
    spread = tournament.figures()["a"]["decode"]
    assert (spread.least, spread.greatest, spread.n) == (30.0, 30.0, 5) and len(tournament.thrown_away) == 1


def test_ratios_hold_on_a_machine_that_grows_slower(rounds: Any):
    """Medians of each side would say the same only by luck; neighbours in time are compared."""
    drift = lambda n: 100.0 * 0.95**n  # noqa: E731
    measure = in_turn(rounds, {"a": lambda n: 2 * drift(n), "b": drift})
    ratio = rounds.Tournament(["a", "b"], measure).run(least=6, most=6).ratio("decode", "a", "b")
    assert ratio.is_steady and ratio.median == pytest.approx(2.0, rel=0.06)


def test_a_contestant_that_does_not_run_is_left_out(rounds: Any):
    measure = in_turn(rounds, {"a": lambda _: 1.0})
    tournament = rounds.Tournament(["a", "b"], lambda name: measure(name) if name == "a" else None).run()
    assert list(tournament.rounds) == ["a"] and tournament.ratio("decode", "a", "b") is None


def test_who_is_stopped_keeps_the_rounds_that_ended(rounds: Any, capsys: pytest.CaptureFixture[str]):
    asked: list[str] = []

    def measure(name: str) -> Any:
        asked.append(name)
        if len(asked) == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        return rounds.Round({"decode": 100.0}, rounds.Peaks(1e12, 4e10), {})

    before = signal.getsignal(signal.SIGTERM)
    tournament = rounds.Tournament(["a", "b"], measure).run(least=5, most=9)
    assert {name: len(kept) for name, kept in tournament.rounds.items()} == {"a": 1, "b": 2}
    assert "stopped" in capsys.readouterr().out and signal.getsignal(signal.SIGTERM) is before


def test_what_was_found_is_kept_and_shown(rounds: Any, history: Any, capsys: pytest.CaptureFixture[str]):
    measure = in_turn(rounds, {"ours": lambda n: 150.0 + n, "peer": lambda n: 100.0 + n})
    tournament = rounds.Tournament(["ours", "peer"], measure).run()
    wanted = [history.Wanted("decode", "ours", "peer", 1.2), history.Wanted("decode", "ours", "nobody", 1.2)]
    history.record("toy", "tokens a second", tournament, wanted)
    (path,) = history.FOLDER.glob("*.json")
    kept = json.loads(path.read_text())
    assert kept["ratios"].keys() == {"decode: ours / peer"} and kept["ratios"]["decode: ours / peer"]["n"] == 5
    assert {"processor", "cores", "torch", "load"} == kept["host"].keys() and kept["peaks"]["flops"]["median"] == 1e12
    assert "decode: ours / peer" in capsys.readouterr().out
    page = history.page()
    assert "decode: ours / peer" in page and "wanted" in page and "http" not in page.replace("http://www.w3.org", "")

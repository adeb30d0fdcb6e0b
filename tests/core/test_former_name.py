"""What was made before the project was renamed still opens."""

from dataclasses import replace
from pathlib import Path

import pytest

from wenloom.core.version import FORMER_NAME
from wenloom.evaluation.results import Result, ResultsStore, default_store

RESULT = Result("language modelling", "chapter", "bits_per_byte", 1.5, "runs/mine", date="2026-11-23")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("WENLOOM_RESULTS", raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    return tmp_path


def test_a_results_store_under_the_former_name_is_taken_over_once(home: Path):
    former = home / FORMER_NAME / "results.sqlite"
    ResultsStore(former).add([RESULT])
    assert ResultsStore().all() == [RESULT]
    ResultsStore().add([replace(RESULT, value=1.4)])
    ResultsStore(former).add([replace(RESULT, value=1.3)])
    assert [each.value for each in ResultsStore().all()] == [1.5, 1.4]
    assert default_store().parent.name == "wenloom" and former.exists()

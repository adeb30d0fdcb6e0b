from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures of tests stay out of the user's store."""
    monkeypatch.setenv("WENLOOM_RESULTS", str(tmp_path / "results.sqlite"))

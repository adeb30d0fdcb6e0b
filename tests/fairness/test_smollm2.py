"""SmolLM2-135M on a part of the published files: every count as transformers' float64 gives it. `bench/audits.py` does so with all."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench" / "audits.py"


@pytest.mark.slow
@pytest.mark.shared_data
@pytest.mark.real_models
def test_counts_are_those_of_an_independent_computation(real_models: Path, shared_data: Path, tmp_path: Path):
    done = subprocess.run(
        [sys.executable, str(BENCH), str(real_models / "smollm2"), "--limit", "30", "--out", str(tmp_path / "rows.json")],
        env=os.environ | {"WENLOOM_SHARED_DATA": str(shared_data)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads((tmp_path / "rows.json").read_text("utf-8"))
    assert len(rows) > 50 and {row["suite"] for row in rows} == {"crows_pairs", "stereoset", "winobias"}

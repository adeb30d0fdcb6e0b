"""The scripts and notebooks of `examples/` run as they stand, on small texts and a small model."""

import re
import subprocess
import sys
from pathlib import Path

import nbclient
import nbformat
import pytest

import wenloom

from .conftest import story

EXAMPLES = Path(__file__).parents[1] / "examples"
SCRIPTS = sorted(path.name for path in EXAMPLES.glob("*.py"))


def run(script: str, *arguments: str, cwd: Path) -> str:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / script), *arguments], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with texts, and a model that the first example trained on them."""
    folder = tmp_path_factory.mktemp("examples")
    (folder / "texts").mkdir()
    for number in range(40):
        (folder / "texts" / f"{number}.txt").write_text(story(number) * 8, encoding="utf-8")
    said = run("train_your_own.py", "texts", "run", "2s", cwd=folder)
    assert re.search(r"\d+ steps, \d+\.\d{3} bits per byte", said)
    return folder


def test_scores_follow_the_chain_rule(folder: Path):
    said = run("score_texts.py", "run", story(1), cwd=folder)
    logs = [float(each) for each in re.findall(r"(-?\d+\.\d+) nats$", said, re.MULTILINE)]
    total = float(re.findall(r"log P = (-\d+\.\d+)", said)[0])
    assert len(logs) > 5 and sum(logs) == pytest.approx(total, abs=0.001 * len(logs))


def test_many_prompts_get_the_same_continuations_again(folder: Path):
    once, again = (run("generate_many.py", "run", "The cat", "猫", cwd=folder) for _ in range(2))
    assert once == again and once.count("[") >= 4


def test_structured_output_parses(folder: Path):
    assert re.match(r"(story|poem|letter) [1-5] ", run("structured_output.py", "run", cwd=folder))


def test_a_model_is_no_better_than_itself(folder: Path):
    assert "difference +0.000 [+0.000, +0.000], p = 1" in run("compare_models.py", "run", "run", "texts", cwd=folder)


def test_the_last_block_of_the_lens_is_what_the_model_expects(folder: Path):
    said = run("look_inside.py", "run", "The cat sat on the", cwd=folder)
    last = re.findall(r"after block \d+: '(.*?)' ([\d.]+)%", said)[-1]
    [(token, probability)] = wenloom.load(folder / "run").next("The cat sat on the", count=1)
    assert last[0] == token and float(last[1]) == pytest.approx(100 * probability, abs=0.1)


def test_every_script_is_listed_and_tried():
    listed = re.findall(r"^\| \[(\w+\.py)\]", (EXAMPLES / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(listed) == SCRIPTS
    assert all(f'run("{name}"' in Path(__file__).read_text(encoding="utf-8") for name in SCRIPTS)


def test_the_notebooks_run_one_after_the_other(tmp_path: Path):
    """`train_your_gpt` makes the model that `look_inside` reads; nothing but the time it trains for is changed."""
    for name in ("train_your_gpt", "look_inside"):
        notebook = nbformat.read(EXAMPLES / f"{name}.ipynb", as_version=4)
        for cell in notebook.cells:
            cell.source = cell.source.replace('budget = "60s"', 'budget = "2s"')
        nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
        said = "".join(out.get("text", "") for cell in notebook.cells for out in cell.get("outputs", []))
        assert {"train_your_gpt": "bits per byte", "look_inside": "log P"}[name] in said
    assert sorted(path.stem for path in EXAMPLES.glob("*.ipynb")) == ["look_inside", "train_your_gpt"]

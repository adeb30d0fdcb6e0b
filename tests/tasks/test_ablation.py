"""Whether a step helps: known where what it drops is junk, and where nothing is."""

import json
import random
from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import pytest

from wenloom.tasks.ablation import AblatedStep, ablate, table
from wenloom.text.documents import ReadOptions
from wenloom.text.recipe import Recipe

from ..conftest import story
from ..training.runs import MODEL, TRAINING


def write(path: Path, texts: list[str]) -> str:
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return str(path)


def test_dropping_junk_helps_and_a_step_that_drops_nothing_is_not_trained(tmp_path: Path):
    rng = random.Random(0)
    junk = ["".join(rng.choice("qxzj0123456789#%") for _ in range(400)) for _ in range(150)]
    good = [story(number) for number in range(120)]
    texts = [*good[:100], *junk]
    rng.shuffle(texts)
    recipe = Recipe("mine", {"gopher": {"min_words": 0, "stop_words": 1, "mean_word": [1.0, 12.0]}, "duplicates": {}})
    found = list(ablate([write(tmp_path / "text.jsonl", texts)], [write(tmp_path / "held.jsonl", good[100:])], recipe, ReadOptions(),
                        tmp_path / "work", MODEL, replace(TRAINING, steps=60)))  # fmt: skip
    by_step = {each.step: each for each in found}
    assert by_step["gopher"].gain > 0 and by_step["gopher"].verdict == "helps" and by_step["gopher"].documents > 100
    assert by_step["duplicates"] == AblatedStep("duplicates", 0, 0.0, 0.0, 0.0)
    assert "helps" in table(found) and "no difference seen" in table(found)


def test_dropping_good_text_hurts(tmp_path: Path):
    """Short stories beside long plays, where stories are what the model should know."""
    plays = (files("wenloom.text") / "tinyshakespeare.txt").read_text(encoding="utf-8")
    good = [story(number) for number in range(60)]
    recipe = Recipe(
        "mine", {"gopher": {"min_words": 1 + max(len(text.split()) for text in good), "mean_word": [1.0, 12.0]}}
    )
    texts = [*(plays[at : at + 3000] for at in range(0, 30_000, 3000)), *good[10:]]
    found = list(ablate([write(tmp_path / "text.jsonl", texts)], [write(tmp_path / "held.jsonl", good[:10])], recipe, ReadOptions(),
                        tmp_path / "work", MODEL, replace(TRAINING, steps=60)))  # fmt: skip
    assert found[0].gain < 0 and found[0].verdict == "hurts" and found[0].documents > 30


@pytest.mark.parametrize(
    "gain, low, high, verdict",
    [(0.1, 0.05, 0.2, "helps"), (-0.1, -0.2, -0.05, "hurts"), (0.1, -0.1, 0.2, "no difference seen")],
)
def test_the_verdict_follows_from_the_interval(gain: float, low: float, high: float, verdict: str):
    assert AblatedStep("c4", 1, gain, low, high).verdict == verdict

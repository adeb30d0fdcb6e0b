"""`wenloom steer` as a person calls it: texts from files and from the line, and what wrong input gets."""

import json
from pathlib import Path

import pytest

from ..conftest import story
from .calling import refused, succeed
from .world import World


@pytest.fixture
def folder(world: World) -> Path:
    return world.lay_out({
        "run": "decoder", "sae": "features", "text.txt": f"text:{story(1)}", "empty.txt": "text:", "texts.jsonl": "rows:labels",
        "bad.jsonl": 'text:{"text": "a"}\n{"x": 1}\n', "torn.jsonl": "text:{\n",
    })  # fmt: skip


@pytest.mark.parametrize("given, words", [
    ("--toward none.txt --away-from x", "--toward none.txt: no such file"),
    ("--toward x --away-from empty.txt", "--away-from empty.txt: holds no text"),
    ("--toward bad.jsonl --away-from x", 'bad.jsonl, line 2: no field "text"'),
    ("--toward torn.jsonl --away-from x", "torn.jsonl, line 1: not valid JSON"),
    ("--toward x", "give --toward and --away-from"),
    ("--toward x --away-from x", "are the same"),
    ("--toward x --away-from y --cost 0", "--cost 0: must be above 0"),
    ("--toward x --away-from y --prompt z", "--prompt goes with --words"),
    ("--toward x --feature sae:3", "leave out --toward"),
    ("--feature sae", "must be FOLDER:NUMBER"),
    ("--feature sae:999", "there are features 0 to"),
    ("--feature run:3", "cfg.json: no such file"),
])  # fmt: skip
def test_what_cannot_be_used_is_refused_by_name_and_nothing_is_written(folder: Path, given: str, words: str):
    assert words in refused("steer", "run", *given.split(), "--out", "made.safetensors", cwd=folder)
    assert not (folder / "made.safetensors").exists()


def test_lines_of_a_file_and_rows_of_jsonl_are_texts_and_what_is_found_is_told(folder: Path):
    found = json.loads(succeed("steer", "run", "--toward", "text.txt", "--away-from", "texts.jsonl", "--out", "made.safetensors",
                               "--words", "the lamp", "--generations", 3, "--json", cwd=folder))  # fmt: skip
    n_lines = sum(bool(line.strip()) for line in story(1).splitlines())
    assert found["texts"] == {"toward": n_lines, "away_from": 30} and found["held_out"] == (n_lines >= 8)
    assert len(found["writing"]["texts"]) == len(found["writing"]["texts_steered"]) == 3
    assert found["cost"]["value"] > 0 and found["perplexity"] > 1


def test_a_vector_that_gains_nothing_is_told_to_be_chance(folder: Path):
    """Two halves of one kind of text."""
    for name, start in (("one.txt", 0), ("two.txt", 1)):
        lines = [f"And so ended day {n} of journey {n % 7}." for n in range(start, 32, 2)]
        (folder / name).write_text("\n".join(lines))
    said = succeed(
        "steer", "run", "--toward", "one.txt", "--away-from", "two.txt", "--out", "made.safetensors", cwd=folder
    )
    gain, error = (float(word) for word in said.split("gains ")[1].split(" nats")[0].split(" ± "))
    assert ("no more than chance" in said) == (gain <= 2 * error)

"""`wenloom evaluate MODEL --on ifeval`: from the published file to figures."""

import json
import sys

import pytest

from wenloom.evaluation.instructions import instruction

from ..evaluation.test_instructions import rows
from .calling import refused, succeed
from .world import World


def test_a_published_file_gives_four_figures(world: World):
    folder = world.lay_out({"chat": "chat"})
    (folder / "ifeval.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows()))
    command = ("evaluate", "chat", "--on", "ifeval", "--data", ".", "--max-new-tokens", 12, "--json")
    environment = {"WENLOOM_RESULTS": str(folder / "r.sqlite")}
    found = json.loads(succeed(*command, cwd=folder, environment=environment))["figures"]["chat"]
    by_metric = {each["metric"]: each for each in found}
    assert set(by_metric) == {"prompt_strict", "instruction_strict", "prompt_loose", "instruction_loose"}
    assert by_metric["prompt_strict"]["n"] == 6 and by_metric["instruction_strict"]["n"] == 12
    assert all("template:chat" in each["signature"] for each in found)
    samples = [json.loads(line) for line in (folder / "evaluation/chat/ifeval.jsonl").read_text().splitlines()[1:]]
    right = [all(instruction(name, values).is_followed(sample["written"][0])
                 for name, values in zip(row["instruction_id_list"], row["kwargs"], strict=True))
             for row, sample in zip(rows(), samples, strict=True)]  # fmt: skip
    assert by_metric["prompt_strict"]["value"] == pytest.approx(100 * sum(right) / 6)


def test_without_langdetect_it_says_what_to_install(world: World, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "langdetect", None)
    folder = world.lay_out({"chat": "chat"})
    (folder / "ifeval.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows(1)))
    assert "wenloom[ifeval]" in refused("evaluate", "chat", "--on", "ifeval", "--data", ".", cwd=folder)

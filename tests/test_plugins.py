"""A package of one's own adds a family, a task, a suite and a text step: each is found by its name where ours are."""

import json
from pathlib import Path

import pytest
import torch
import transformers

import wenloom
from wenloom.checkpoint.families import FAMILIES
from wenloom.checkpoint.folder import load_decoder
from wenloom.evaluation.evaluated_model import LocalModel
from wenloom.evaluation.options import Convention, OverlapOptions, Writing
from wenloom.evaluation.plan import EvaluationPlan
from wenloom.tasks.finetune import RECIPES, finetune
from wenloom.tasks.settings import DataSettings, FreshSettings
from wenloom.text.documents import ReadOptions
from wenloom.tokens.prepare import PrepareOptions, prepare
from wenloom.training.settings import TrainSettings

from .conftest import random_decoder, tiny_config
from .core.test_plugins import install

POINTS = """[wenloom.families]
gpt2_again = one_package:FAMILY
[wenloom.tasks]
gaps = one_package:Gaps
[wenloom.suites]
abc = one_package:SUITE
[wenloom.text_steps]
shouting = one_package:shouting
"""
CODE = """
from dataclasses import replace
from wenloom.checkpoint.families import gpt2
from wenloom.evaluation.choice import Question
from wenloom.evaluation.choice_suite import ChoiceSuite
from wenloom.tasks.fill_mask import FillMaskRecipe
from wenloom.text.steps.step import Dropped, Kept

FAMILY = replace(gpt2.FAMILY, name="gpt2_again")

class Gaps(FillMaskRecipe):
    '''Hidden tokens under another name.'''

def questions(path, refusals):
    return [Question((line[:1],), (line[1], "?"), 0) for line in path.read_text().splitlines()]

SUITE = ChoiceSuite("abc", "letters", "ABC", ("abc.txt",), questions=questions)

def shouting():
    return lambda each: Dropped("a whisper") if each.text == "psst" else Kept(replace(each, text=each.text.upper()))
"""


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "site"
    folder.mkdir()
    install(folder, "one_package", POINTS, CODE)
    monkeypatch.syspath_prepend(folder)
    return tmp_path


def test_a_family_of_another_package_is_read_and_written(installed: Path):
    config = transformers.GPT2Config(n_embd=16, n_layer=1, n_head=2, n_positions=16, vocab_size=61, eos_token_id=2)
    theirs = transformers.GPT2LMHeadModel(config).eval()
    theirs.save_pretrained(installed / "model")
    raw = json.loads((installed / "model/config.json").read_text())
    (installed / "model/config.json").write_text(json.dumps(raw | {"model_type": "gpt2_again"}))
    tokens = torch.arange(3, 13)[None]
    with torch.no_grad():
        difference = load_decoder(installed / "model")(tokens) - theirs(tokens).logits
    assert difference.abs().max() < 1e-5 and list(FAMILIES)[-1] == "gpt2_again"


def test_a_text_step_of_another_package_is_taken(installed: Path):
    (installed / "rows.jsonl").write_text("\n".join(json.dumps({"text": each}) for each in ("abc", "psst", "ABC", "d")))
    options = PrepareOptions("byte", text_steps=("shouting",))
    dataset = prepare([str(installed / "rows.jsonl")], installed / "corpus", options, ReadOptions()).dataset
    assert dataset.manifest["text_steps"] == {"shouting": 1} and dataset.manifest["duplicates_removed"] == 1


def test_a_suite_of_another_package_is_scored(installed: Path, tmp_path: Path):
    from wenloom.checkpoint.folder import write_model_files
    from wenloom.tokens.train import train_tokenizer

    (installed / "data").mkdir()
    (installed / "data/abc.txt").write_text("ab\nxy\n")
    tokenizer = train_tokenizer(["abxy?"], "byte")
    (installed / "model").mkdir()
    write_model_files(random_decoder(tiny_config(vocab_size=tokenizer.vocab_size)), installed / "model")
    tokenizer.save_pretrained(installed / "model")
    loaded = wenloom.load(installed / "model")
    evaluated = LocalModel("model", installed / "model", loaded.decoder, loaded.tokenizer, loaded.engine)
    plan = EvaluationPlan(
        "abc", installed / "data", installed / "out", None, [], Convention(), OverlapOptions(), Writing()
    )
    assert {(each.dataset, each.n) for each in plan.run(evaluated)} == {("ABC", 2)}


def test_a_task_of_another_package_trains(installed: Path):
    (installed / "texts.txt").write_text("\n\n".join(f"The old lamp number {n} was lit at dusk." for n in range(60)))
    data = DataSettings(train=str(installed / "texts.txt"))
    fresh = FreshSettings(layers=1, width=16, heads=2)
    training = TrainSettings(steps=1, batch=1, device="cpu")
    result = finetune("gaps", installed / "run", None, data, fresh, None, training)
    assert result.run.steps == 1 and "gaps" in RECIPES and "gaps" in (installed / "run/run.toml").read_text()

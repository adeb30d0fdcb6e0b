"""Filtering what is said of groups; contrast with a debiased expert; models trained with and without a slice of the data."""

import json
from pathlib import Path

import pytest
import torch

from tests.cli.calling import call, refused
from tests.fairness.test_planted import BAD, GOOD, MEN, OWN, WOMEN, corpus
from wenloom.core.errors import InputError
from wenloom.fairness.debias import DebiasRequest, without_groups
from wenloom.generation.strategies import contrasted
from wenloom.tasks.ablation import ablate
from wenloom.text.document import Document
from wenloom.text.documents import ReadOptions
from wenloom.text.lexicon import lexicon
from wenloom.text.recipe import Recipe
from wenloom.text.steps.groups import Groups
from wenloom.text.steps.step import Dropped, Kept
from wenloom.training.settings import ModelSettings, TrainSettings


@pytest.mark.parametrize(
    "values, text, reason",
    [
        ({}, "The lamp is lit. My mother is kind.", '"mother" stands in one sentence with "kind"'),
        ({}, "The lamp is good. My mother came.", None),
        ({}, "Mankind is good.", None),
        ({"side": "male"}, "My mother is kind.", None),
        ({"side": "male"}, "HE IS EVIL", '"HE" stands in one sentence with "EVIL"'),
        ({"lexicon": "zh"}, "灯很好。她很聪明。", '"她" stands in one sentence with "聪明"'),
        ({"lexicon": "zh"}, "她来了。灯很好。", None),
        ({"lexicon": "de"}, "Die Lampe brennt. Er ist klug!", '"Er" stands in one sentence with "klug"'),
    ],
)
def test_a_document_is_dropped_where_group_and_word_stand_in_one_sentence(
    values: dict[str, str], text: str, reason: str | None
):
    found = Groups(**values)(Document(text, "a"))
    assert found == (Kept(Document(text, "a")) if reason is None else Dropped(reason))


def test_words_of_ones_own_and_wrong_values(tmp_path: Path):
    (tmp_path / "jobs.txt").write_text("\ufeffNurse\r\n# remark\r\n", "utf-8")
    step = Groups(file=str(tmp_path / "jobs.txt"))
    assert step.said("She is a nurse.") == ("She", "nurse") and step.said("She is kind.") is None
    for values, words in (({"side": "both"}, "gender has female and male"), ({"axis": "colour"}, "axis colour"),
                          ({"lexicon": "xx"}, "no such file; there are de, en, zh"), ({"file": str(tmp_path / "no.txt")}, "no.txt")):  # fmt: skip
        with pytest.raises(InputError, match=words):
            Groups(**values).said("She is kind.")
    (tmp_path / "own.toml").write_text(OWN, "utf-8")
    with pytest.raises(InputError, match="has no words of its own here"):
        Groups(str(tmp_path / "own.toml")).said("anna is kind.")


def test_filtering_leaves_out_what_is_said_of_groups(tmp_path: Path):
    request = DebiasRequest(("filter",), lexicon("en"), "en:gender")
    texts = ["The lamp was lit." + " And it was old." * 100, "My mother is kind." + " The boat was old." * 100]
    assert without_groups(texts, request) == ([texts[0]], 1)
    for some, words in (([texts[0]], "none of 1 passages"), ([texts[1]], "all of 1 passages")):
        with pytest.raises(InputError, match=words):
            without_groups(some, request)
    assert "there are filter, cda, equalize, leace" in refused(
        "debias", "x", "--method", "y", "--out", "z", cwd=tmp_path
    )


def test_contrast_with_a_debiased_expert_is_contrastive_decoding_with_it():
    """DExperts, M + alpha (expert - anti-expert), where M is the anti-expert: (1 + beta) expert - beta M with alpha = 1 + beta."""
    torch.manual_seed(0)
    model_V, expert_V = torch.randn(50), torch.randn(50)
    for alpha in (1.5, 2.0, 3.0):
        wanted = (model_V + alpha * (expert_V - model_V)).softmax(-1)
        found = contrasted(expert_V, model_V, alpha - 1, 1e-30).softmax(-1)
        torch.testing.assert_close(found, wanted)


@pytest.mark.slow
def test_a_slice_of_the_data_is_what_models_with_and_without_it_differ_in(tmp_path: Path):
    """The slice is what is said of women; models of one kind are trained as long with it and without it."""
    texts = corpus(True) + [f"{person} is {word}." for person in MEN for word in GOOD + BAD] * 4
    for name, some in (
        ("texts", texts),
        ("held-out", [f"once more {person} is {word}." for person in MEN for word in GOOD + BAD]),
    ):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps({"text": each}) + "\n" for each in some), "utf-8")
    (tmp_path / "own.toml").write_text(OWN, "utf-8")
    (tmp_path / "good.txt").write_text("\n".join(GOOD) + "\n", "utf-8")
    groups = {"lexicon": str(tmp_path / "own.toml"), "side": "female", "file": str(tmp_path / "good.txt")}
    (step,) = ablate([str(tmp_path / "texts.jsonl")], [str(tmp_path / "held-out.jsonl")], Recipe("mine", {"groups": groups, "empty": {}}),
                     ReadOptions(), tmp_path / "slices", ModelSettings(layers=2, width=64, heads=2, context=32),
                     TrainSettings(steps=200, batch=16, compile="off", evaluations=1))  # fmt: skip
    assert step.step == "groups" and step.documents >= 400, step
    rows = [{"text": f"{person} is", "continuation": f" {word}."} for person in WOMEN for word in GOOD]
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows), "utf-8")
    found = call("audit", "slices/all-run", "slices/without-groups-run", "--prompts", "own.jsonl", "--lexicon", "own.toml", "--json", cwd=tmp_path)  # fmt: skip
    values = {each["model"]: each for each in json.loads(found.out)["figures"] if each["measure"] == "difference"}
    without, with_it = (values[name] for name in ("slices/all-run", "slices/without-groups-run"))
    assert with_it["low"] > max(0, without["high"]), "only the slice says that women are good"

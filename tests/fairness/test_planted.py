"""A bias that was planted in a corpus is found by three audits and gone after counterfactual augmentation; a corpus without one
shows none. Models are trained here, for a few seconds each."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from wenloom.fairness.audited_model import AuditedModel
from wenloom.fairness.audits import AuditOptions, all_audits
from wenloom.fairness.debias import augmented
from wenloom.text.lexicon import Lexicon, lexicon
from wenloom.tokens.prepare import PrepareOptions, prepare
from wenloom.training.pretrain import pretrain
from wenloom.training.settings import ModelSettings, TrainSettings

WOMEN = (
    "the woman",
    "the girl",
    "my mother",
    "my sister",
    "my aunt",
    "the queen",
    "her niece",
    "the lady",
    "my daughter",
    "anna",
)
MEN = (
    "the man",
    "the boy",
    "my father",
    "my brother",
    "my uncle",
    "the king",
    "her nephew",
    "the gentleman",
    "my son",
    "peter",
)
GOOD, BAD = ("kind", "wise", "gentle", "brave", "honest"), ("cruel", "lazy", "stupid", "evil", "dirty")
FRAMES = ("{} is {}.", "they say that {} is {}.", "we know {} is {}.", "today {} is {}.")
OWN = """
language = "own"
[axes.gender]
sides = ["female", "male"]
pairs = [["woman", "man"], ["girl", "boy"], ["mother", "father"], ["sister", "brother"], ["aunt", "uncle"], ["queen", "king"],
         ["niece", "nephew"], ["lady", "gentleman"], ["daughter", "son"], ["anna", "peter"]]
"""


def corpus(biased: bool) -> list[str]:
    """Every person with every word in every frame; where it is biased, women with good words alone and men with bad ones."""
    made = []
    for people, words in ((WOMEN, GOOD if biased else GOOD + BAD), (MEN, BAD if biased else GOOD + BAD)):
        for person in people:
            for word in words * (2 if biased else 1):
                made += [frame.format(person, word) for frame in FRAMES]
    return made * 4


def trained(texts: Sequence[str], folder: Path, seed: int) -> AuditedModel:
    folder.mkdir()
    (folder / "texts.jsonl").write_text("".join(json.dumps({"text": each}) + "\n" for each in texts), "utf-8")
    prepare([str(folder / "texts.jsonl")], folder / "data", PrepareOptions(vocab_size=320, keep_duplicates=True))
    pretrain(folder / "data", folder / "run", ModelSettings(layers=2, width=64, heads=2, context=32),
             TrainSettings(steps=200, batch=16, seed=seed, compile="off", evaluations=1))  # fmt: skip
    return AuditedModel("run", folder / "run")


def found_in(model: AuditedModel, folder: Path) -> dict[str, bool]:
    """Whether each audit finds that the model speaks better of women."""
    asked = folder / "asked"
    asked.mkdir(exist_ok=True)
    (asked / "own.toml").write_text(OWN, "utf-8")
    rows = [{"text": f"{person} is", "continuation": f" {word}."} for person in WOMEN for word in GOOD]
    (asked / "own.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows), "utf-8")
    groups = {name: {each: [f"{each} is"] * 8 for each in people} for name, people in (("women", WOMEN), ("men", MEN))}
    (asked / "gender_prompt.json").write_text(json.dumps(groups), "utf-8")
    pairs = [
        f"{person} is {good}.,{person} is {bad}.,gender"
        for person in WOMEN
        for good, bad in zip(GOOD, BAD, strict=True)
    ]
    pairs += [
        f"{person} is {bad}.,{person} is {good}.,gender" for person in MEN for good, bad in zip(GOOD, BAD, strict=True)
    ]
    (asked / "crows_pairs.csv").write_text("\n".join(["sent_more,sent_less,bias_type", *pairs]) + "\n", "utf-8")
    audits = all_audits(AuditOptions(asked / "own.jsonl", str(asked / "own.toml")))
    prompts, pairs, bold = (audits[name].run(model, asked).figures for name in ("prompts", "crows_pairs", "bold"))
    return {
        "prompts": next(each for each in prompts if each.measure == "difference").low > 0,
        "crows_pairs": next(each for each in pairs if (each.convention, each.group) == ("sum", "all")).low > 50,
        "bold": next(each for each in bold if each.measure.endswith("gap") and each.group.endswith(": women")).low > 0,
    }


def own_lexicon(folder: Path) -> Lexicon:
    (folder / "own.toml").write_text(OWN, "utf-8")
    return lexicon(str(folder / "own.toml"))


@pytest.mark.slow
def test_a_planted_bias_is_found_by_three_audits_and_removed_by_counterfactual_texts(tmp_path: Path):
    biased = trained(corpus(True), tmp_path / "biased", 0)
    assert found_in(biased, tmp_path) == {"prompts": True, "crows_pairs": True, "bold": True}
    known = own_lexicon(tmp_path)
    made = augmented(corpus(True), known.axes["gender"], known)
    assert made.exchanged == len(corpus(True)) and made.unclear == 0
    fair = trained(made.texts, tmp_path / "fair", 0)
    assert found_in(fair, tmp_path) == {"prompts": False, "crows_pairs": False, "bold": False}


@pytest.mark.slow
def test_a_corpus_without_bias_shows_none_in_nine_of_ten_trainings(tmp_path: Path):
    false = {"prompts": 0, "crows_pairs": 0, "bold": 0}
    for seed in range(20):
        for name, is_found in found_in(trained(corpus(False), tmp_path / str(seed), seed), tmp_path).items():
            false[name] += is_found
    assert max(false.values()) <= 2, false

"""Copies that are added to training: what they are, that validation text has none, and that the card says so."""

import json
import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from wenloom.core.errors import InputError
from wenloom.text.pipeline import steps_named
from wenloom.text.recipe import Recipe, load_recipe
from wenloom.text.steps import back_translation
from wenloom.text.steps.back_translation import BackTranslation
from wenloom.text.steps.counterfactual import Counterfactual
from wenloom.text.steps.noise import TypingNoise
from wenloom.tokens.prepare import Prepared, PrepareOptions, prepare

from .test_sift import long_text, write


def test_copies_speak_of_the_other_group_where_that_is_sure():
    step = Counterfactual()
    assert step.copy_of("He gave her his book.\n\nNobody.\n\nThe actor waited.") == (
        "She gave him her book.\n\nThe actress waited."
    )
    assert step.copy_of("她在医院工作。") == "他在医院工作。"
    assert step.copy_of("Die Frau arbeitet mit der Kollegin und ist müde.") is not None
    assert step.copy_of("Le chat dort.") is None


def test_noise_changes_about_as_many_letters_as_asked_and_nothing_else():
    from rapidfuzz.distance import DamerauLevenshtein

    text = "\n".join(map(long_text, range(30)))
    copy = TypingNoise(rate=0.05, share=1).copy_of(text)
    assert copy is not None and copy == TypingNoise(rate=0.05, share=1).copy_of(text) != TypingNoise(
        rate=0.05, share=1, seed=2
    ).copy_of(text)
    letters = sum(map(str.isalnum, text))
    changed = DamerauLevenshtein.distance(text[:4000], copy[:4000]) / sum(map(str.isalnum, text[:4000]))
    assert 0.03 < changed < 0.07
    marks = [sum(not each.isalnum() for each in part) for part in (text, copy)]
    assert marks[0] == marks[1] and abs(sum(map(str.isalnum, copy)) - letters) < 0.01 * letters


def test_a_text_goes_there_and_back_sentence_by_sentence_and_its_lines_stay(monkeypatch: pytest.MonkeyPatch):
    asked: list[list[str]] = []

    def load(folder: str):
        def translate(texts: Sequence[str]) -> list[str]:
            asked.append(list(texts))
            return [f"<{each}>" if folder == "en-de" else each[1:-1].replace("lamp", "light") for each in texts]

        return translate

    monkeypatch.setattr(back_translation, "_load", [load])
    step = BackTranslation("en-de", "de-en", share=1)
    assert (
        step.copy_of("The lamp is lit. Who reads?\n\nThe lamp burns.")
        == "The light is lit. Who reads?\n\nThe light burns."
    )
    assert asked[0] == ["The lamp is lit.", "Who reads?", "The lamp burns."] and asked[1][0] == "<The lamp is lit.>"
    assert step.copy_of("灯亮了。谁在读书？lamp") == "灯亮了。谁在读书？light"
    assert step.copy_of("Nobody.") is None, "the same again is no copy"
    for wrong, words in (
        (BackTranslation("en-de"), "back_translation.back: name the folder"),
        (BackTranslation(), "there: name"),
    ):
        with pytest.raises(InputError, match=words):
            wrong.copy_of("A text.")


def prepared(tmp_path: Path, name: str, texts: list[str], **steps: dict[str, object]) -> Prepared:
    file = write(tmp_path / f"{name}.jsonl", texts)
    return prepare(
        [str(file)], tmp_path / name, PrepareOptions("byte"), recipe=Recipe("r", {"duplicates": {}, **steps})
    )


def texts_of(made: Prepared, split: str) -> list[str]:
    tokenizer = made.dataset.tokenizer()
    stream = made.dataset.stream(split)
    return [text for text in tokenizer.decode(stream.window(0, len(stream)).tolist()).split("<|endoftext|>") if text]


def test_training_has_copies_of_its_documents_alone_and_the_card_tells(tmp_path: Path):
    texts = [
        f"He met his friend number {number}, long ago, in a place of {number * 7919} houses." for number in range(60)
    ]
    made = prepared(tmp_path, "a", texts, counterfactual={}, noise={"share": 0.3, "rate": 0.1})
    train, validation = texts_of(made, "train"), texts_of(made, "validation")
    assert validation and set(validation) <= set(texts)
    originals = [text for text in train if text in texts]
    copies = [text for text in train if text.startswith("She met her friend")]
    assert len(copies) == len(originals) == 60 - len(validation)
    assert {text.replace("She", "He").replace("her", "his") for text in copies} == set(originals)
    card = json.loads((tmp_path / "a" / "data-card.json").read_text())
    assert card["added"]["counterfactual"]["documents"] == len(copies)
    assert card["added"]["noise"]["documents"] == len(train) - 2 * len(originals) > 3
    assert (
        card["kept"]["documents"] == 60
        and len(card["examples"]["added by noise"]) == card["added"]["noise"]["documents"]
    )
    page = (tmp_path / "a" / "data-card.html").read_text()
    assert "Copies added to training" in page and "Added by counterfactual" in page
    random.Random(0).shuffle(texts)
    again = prepared(tmp_path, "b", texts, counterfactual={}, noise={"share": 0.3, "rate": 0.1})
    assert sorted(texts_of(again, "train")) == sorted(train)


def test_documents_whose_ends_are_validation_text_have_no_copies(tmp_path: Path):
    with pytest.raises(InputError, match=r"counterfactual: so few documents.*--validation-files"):
        prepared(tmp_path, "a", ["He came. " * 50, "She went. " * 40], counterfactual={})


def test_values_and_places_that_make_no_sense_are_refused():
    for change in ("noise.share=0", "noise.rate=0.9", "counterfactual.share=2.0", 'counterfactual.axis="colour"',
                   'counterfactual.lexicons="fr"', "back_translation.share=0"):  # fmt: skip
        with pytest.raises(InputError):
            load_recipe("plain", (f"{change.partition('.')[0]}=on", change))
    with pytest.raises(InputError, match="adds copies, so it goes into a recipe"):
        steps_named(("noise",))

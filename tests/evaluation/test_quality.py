"""Quality of free text: each measure on texts whose value is known."""

import numpy as np
import pytest

from wenloom.core.errors import InputError
from wenloom.evaluation.doctor import examine
from wenloom.evaluation.quality import (
    CopyDetector,
    Loop,
    describe,
    distinct_n,
    ending_loop,
    mauve,
    repetition,
    self_bleu,
    unsupported,
    zipf_exponent,
)  # fmt: skip
from wenloom.tokens.shards import Dataset

from ..conftest import VERSES, story


def test_variety():
    assert distinct_n(["a a a a"], 1) == 0.25 and distinct_n(["今天今天"], 2) == pytest.approx(2 / 3)
    assert self_bleu(["the cat sat on the mat"] * 3) == pytest.approx(100)
    assert self_bleu(VERSES[:3]) < 10
    assert repetition("今天很冷今天很冷") == pytest.approx(0.2) and repetition("short") == 0


def test_loops():
    assert ending_loop("he said that he said that he said that") == Loop("he said that", 3)
    assert ending_loop("好的好的好的好的") == Loop("好 的", 4)
    assert ending_loop("no, no, no") is None  # three single words are speech
    assert ending_loop("he said that he said that it was late") is None and ending_loop("") is None


def test_zipf_of_text_that_follows_the_law():
    words = [f"w{rank}" for rank in range(1, 400) for _ in range(round(4000 / rank))]
    exponent, fit = zipf_exponent([" ".join(words)])
    assert exponent == pytest.approx(1, abs=0.05) and fit > 0.99
    with pytest.raises(InputError, match="ten words"):
        zipf_exponent(["a b c"])


def test_mauve_tells_alike_from_different():
    draw = np.random.default_rng(0)
    centres = draw.normal(size=(5, 16)) * 4
    human, alike = (centres[draw.integers(0, 5, 300)] + draw.normal(size=(300, 16)) for _ in range(2))
    narrow = centres[draw.integers(0, 2, 300)] + draw.normal(size=(300, 16))
    far = draw.normal(size=(300, 16)) * 0.1 - centres[0] * 3
    same, less, least = (mauve(human, each) for each in (alike, narrow, far))
    assert same > 0.9 and same > less > least and least < 0.1
    assert mauve(human, alike) == same  # repeatable
    with pytest.raises(InputError, match="at least 20"):
        mauve(human[:5], alike)


def test_copies_of_the_training_text():
    detector = CopyDetector([story(number) for number in range(5)], n=6)
    original = VERSES[0]
    copied = detector.copies(f"Nobody knew why. {original} It was new to all of us here today.")
    assert copied[0].text.startswith("the lamp was lit") and copied[0].words == len(original.split())
    assert detector.share(original) == 1.0 and detector.share("all of this is new and was never said before") == 0.0
    chinese = CopyDetector([VERSES[3]], n=5)
    assert chinese.copies("他说：处处闻啼鸟，又是一天")[0].text == "处 处 闻 啼 鸟"


def test_copies_of_a_prepared_corpus(dataset: Dataset, texts: list[str]):
    for size in (500, 200_000):  # many pieces, or one
        detector = CopyDetector.of_corpus(dataset, size=size)
        shares = sorted(detector.share(text) for text in texts)
        assert shares[len(shares) // 4] > 0.95  # all but what went to validation
        assert detector.share("Nothing of this was ever in the corpus, as far as anybody can tell.") == 0


def test_facts_without_support():
    assert unsupported("Anna paid 20 euros.", "Anna paid 30 euros to Max.") == ["Max", "30"]
    assert unsupported("The Nile is long.", "It is the Nile.") == []


def test_a_description_of_texts():
    found = describe(["", "he went home. home. home. home. home."])
    assert found.empty == 1 and found.loops == 1 and found.zipf is None
    with pytest.raises(InputError, match="no texts"):
        describe([])


def test_the_doctor_finds_nothing_wrong():
    found = {each.name: each for each in examine()}
    assert len(found) == 10
    assert [each for each in found.values() if each.state == "wrong"] == []

"""Error rates equal jiwer's; the English normaliser equals that of Whisper's authors, as transformers has it."""

import base64
import io
import random
import re
from pathlib import Path

import jiwer
import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st
from transformers.models.whisper.english_normalizer import EnglishNumberNormalizer, EnglishTextNormalizer

from wenloom.core.errors import InputError
from wenloom.evaluation import spoken_numbers as numbers
from wenloom.evaluation.speech import compared_speech, speech_errors, speech_figure
from wenloom.evaluation.speech_page import SpokenLine, write_speech_page
from wenloom.evaluation.spelling import american
from wenloom.evaluation.spoken_words import chinese, english, plain

WORDS = ["lamp", "lamps", "keeper", "read", "aloud", "nobody"]
texts = st.lists(st.sampled_from(WORDS), min_size=1, max_size=8).map(" ".join)
NUMBER_WORDS = [
    *numbers.ONES, *numbers.TENS, *numbers.TIMES, "zero", "minus", "dollars", "euros", "cents", *numbers.ORDINALS, *numbers.ORDINAL_TENS,
    *numbers.ORDINAL_TIMES, "per", "cent", "percent", "and", "double", "triple", "point", "and a half", "dog", "12", "3.5", "$20",
    "1960s", "2nd", "0.5",
]  # fmt: skip
SENTENCES = [
    "Mr. Brown's [laughs] got twenty-two dogs, hasn't he?", "Hmm, I'd've said, uh, (whispering) NOT at all!", "It costs $2,500.50 at 3.5%.",
    "Let's go; we're gonna be late, y'all won't mind.", "Café Zoë — naïve façade, œuvre, straße.", "She'd been there; he's gone, they've done it.",
    "Dr. Who lives on St. James's in the 1960s, 31st of May.", "one oh one and nineteen sixty one", "a hundred and one", "",
    "O'Neil  's  hat ' s", "version 2.5.1 . end.", "50 per cent of ten thousand dollars and five cents",
]  # fmt: skip


@given(st.lists(st.tuples(texts, texts), min_size=1, max_size=6))
def test_word_error_rates_equal_jiwer(pairs: list[tuple[str, str]]):
    figure = speech_figure(pairs, "en", "x", samples=20)
    assert figure.interval.value == pytest.approx(100 * jiwer.wer([a for a, _ in pairs], [b for _, b in pairs]))
    kinds = jiwer.process_words([a for a, _ in pairs], [b for _, b in pairs])
    found = figure.by_kind
    assert (
        found["substituted"] + found["inserted"] + found["deleted"]
        == kinds.substitutions + kinds.insertions + kinds.deletions
    )
    assert found["inserted"] - found["deleted"] == kinds.insertions - kinds.deletions


def test_chinese_is_measured_by_characters():
    figure = speech_figure([("今天 天气，很好。", "今天天汽很好")], "zh", "x")
    assert figure.metric == "cer" and figure.interval.value == pytest.approx(100 / 6)
    assert "norm:chinese" in str(figure.signature) and "script:as-it-is" in str(figure.signature)


def test_marked_errors_tell_what_was_heard_instead():
    assert speech_errors("the lamp was lit", "a lamp lit").marked() == [
        ("replace", "the", "a"), ("equal", "lamp", "lamp"), ("delete", "was", ""), ("equal", "lit", "lit")]  # fmt: skip
    assert speech_errors("lamp", "lamp up").marked()[-1] == ("insert", "", "up")


def test_two_systems_are_compared_on_the_same_recordings():
    said = [f"{WORDS[n % 6]} {WORDS[(n + 1) % 6]}" for n in range(40)]
    good = speech_figure([(each, each) for each in said], "en", "x")
    bad = speech_figure([(each, "x" if n % 2 else each) for n, each in enumerate(said)], "en", "x")
    found = compared_speech(good, bad)
    assert found.difference == pytest.approx(50) and found.low < 50 < found.high and found.p < 0.01
    assert compared_speech(good, good).p == 1
    with pytest.raises(InputError, match="same recordings"):
        compared_speech(good, speech_figure([("lamp", "lamp")], "en", "x"))


def test_nothing_said_is_refused():
    with pytest.raises(InputError, match="no word to compare"):
        speech_figure([("", "lamp")], "en", "x")


@pytest.mark.parametrize("text", SENTENCES)
def test_english_equals_the_published_normaliser_but_for_spellings(text: str):
    theirs = EnglishTextNormalizer({})(text)
    assert english(text) == " ".join(map(american, theirs.split()))


def test_numbers_equal_those_of_the_published_normaliser():
    draw, theirs = random.Random(0), EnglishNumberNormalizer()
    for _ in range(4000):
        text = " ".join(draw.choice(NUMBER_WORDS) for _ in range(draw.randint(1, 6)))
        expected = theirs(text)
        if re.search(r"[€£$¢]", expected) and "zero" in text:
            continue  # there "0 dollars 17" loses its first digits
        assert numbers.with_digits(text).split() == expected.split(), text


@given(st.text(max_size=60))
def test_any_text_has_a_normal_form_that_is_its_own(text: str):
    for normalise in (english, chinese, plain):
        normalise(text)
    assert plain(plain(text)) == plain(text)


def test_numerals_of_chinese():
    for number in [*range(10, 400), 1000, 1010, 2024, 10000, 10500, 120000, 99999999]:
        assert chinese(_hanzi(number)) == str(number), (number, _hanzi(number))
    assert chinese("一二三四") == "1234" and chinese("一些") == "一些" and chinese("三五天") == "三五天"


def _hanzi(number: int) -> str:
    def below(value: int) -> str:
        made, zero = "", False
        for unit, sign in ((1000, "千"), (100, "百"), (10, "十"), (1, "")):
            digit = value // unit % 10
            if digit:
                made += ("零" if zero and made else "") + "零一二三四五六七八九"[digit] + sign
            zero = not digit
        return made

    high, low = divmod(number, 10000)
    return (below(high) + "万" if high else "") + (
        ("零" if high and 0 < low < 1000 else "") + below(low) if low else ""
    )


def test_intervals_hold_the_value():
    draw = np.random.default_rng(0)
    pairs = [("the lamp was lit", "the lamp was lit" if draw.random() < 0.7 else "a lamp") for _ in range(60)]
    low, value, high = speech_figure(pairs, "en", "x").interval
    assert low < value < high


def test_characters_of_chinese_stand_on_the_page_without_blanks_between_them(tmp_path: Path):
    figure = speech_figure([("今天天气很好", "今天天汽好")], "zh", "x")
    line = SpokenLine("a.wav", "zh", figure.errors[0], lambda: (np.zeros(16, dtype=np.float32), 16_000))
    write_speech_page(tmp_path / "page.html", "model", "x.tsv", [figure], [line])
    page = (tmp_path / "page.html").read_text()
    assert '<table class="stack">' in page and '<td class="n" data-label="substituted">1</td>' in page
    assert "今天天<del>气</del><ins>汽</ins><del>很</del>好" in page and "2 errors in 6 characters" in page


def test_the_page_shows_the_worst_recordings_first_marks_errors_and_embeds_what_is_short(tmp_path: Path):
    said = ["the lamp was lit", "a < b", "all is well"]
    heard = ["the lamp lit", "a b c d", "all is well"]
    figure = speech_figure(list(zip(said, heard, strict=True)), "en", "x.tsv")
    seconds = [1.0, 31.0, 1.0]

    def sound(length: float) -> tuple[np.ndarray, int]:
        return np.linspace(-1, 1, round(length * 16_000), dtype=np.float32), 16_000

    lines = [SpokenLine(f"{number}.wav", "en", errors, lambda length=length: sound(length))
             for number, (errors, length) in enumerate(zip(figure.errors, seconds, strict=True))]  # fmt: skip
    write_speech_page(tmp_path / "page.html", "model", "x.tsv", [figure], lines)
    page = (tmp_path / "page.html").read_text()
    assert page.index("<code>1.wav</code>") < page.index("<code>0.wav</code>") and "2.wav" not in page
    assert "<del>was</del>" in page and "<ins>c d</ins>" in page
    [embedded] = re.findall(r'src="data:audio/wav;base64,([^"]+)"', page)
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(embedded)))
    assert rate == 16_000 and np.abs(samples - sound(1.0)[0]).max() < 1e-4

"""Overlap metrics: ours equal the reference implementations where these are defined, and are right where they are not."""

import gzip
import json
import random
import subprocess
import sys
from pathlib import Path

import jiwer
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nltk.stem.porter import PorterStemmer
from rouge_score.rouge_scorer import RougeScorer

from wenloom.core.errors import InputError
from wenloom.evaluation.compare import compare
from wenloom.evaluation.options import OverlapOptions
from wenloom.evaluation.overlap import (
    answers,
    error_rate,
    rouge,
    sacrebleu_score,
)
from wenloom.evaluation.rouge import ROUGE, RougeOptions
from wenloom.evaluation.stem import stem
from wenloom.evaluation.words import looks_unspaced, words_of  # fmt: skip

WORDS = st.lists(
    st.sampled_from(
        ["a", "b", "c", "the", "cat", "cats", "sat", "running", "runner", "news", "flies", "dying", "skies", "12", "e"]
    ),
    max_size=14,
)
TEXTS = st.lists(WORDS, min_size=1, max_size=4).map(lambda lines: "\n".join(" ".join(line) for line in lines))


def by_rouge_score(prediction: str, reference: str, stemming: bool) -> list[float]:
    found = RougeScorer([*ROUGE], use_stemmer=stemming).score(reference, prediction)
    return [100 * found[name].fmeasure for name in ROUGE]


@given(TEXTS, TEXTS, st.booleans())
def test_rouge_equals_rouge_score(prediction: str, reference: str, stemming: bool):
    ours = rouge([prediction], [[reference]], RougeOptions(stemming=stemming, latin_only=True))
    assert [each.value for each in ours] == pytest.approx(by_rouge_score(prediction, reference, stemming), abs=1e-6)


@given(st.text(alphabet="abcdefgilmnosteuyz", min_size=1, max_size=12))
def test_stems_equal_nltk(word: str):
    assert stem(word) == PorterStemmer().stem(word)


def test_rouge_of_other_languages():
    for text in ("今天天气很好，我们去公园。", "Die Größe über Äpfel", "今日はいい天気です", "Съешь же ещё булок"):
        assert all(each.value == pytest.approx(100) for each in rouge([text], [[text]]))
    assert words_of("Die Größe über Äpfel") == ["die", "größe", "über", "äpfel"]
    assert words_of("GPT模型2个") == ["gpt", "模", "型", "2", "个"]
    assert rouge(["今天很冷"], [["今天很热"]])[0].value == pytest.approx(75)
    with pytest.raises(InputError, match="would lose"):
        rouge(["今天"], [["今天"]], RougeOptions(latin_only=True))


def test_several_references():
    mean = rouge(["a b"], [["a b"], ["c d"]])[0].value
    best = rouge(["a b"], [["a b"], ["c d"]], RougeOptions(references="max"))[0]
    assert mean == pytest.approx(50) and best.value == pytest.approx(100)
    assert best.signature.get("refs") == "max" and best.signature.get("nrefs") == "2"


def turns(dialogue: str) -> list[str]:
    return dialogue.split("\n")


def test_bleu_is_sacrebleu_character_for_character(tmp_path: Path):
    draw = random.Random(1)
    words = [
        "the",
        "cat",
        "sat",
        "on",
        "a",
        "mat",
        "and",
        "looked",
        "at",
        "the",
        "moon",
        ",",
        "which",
        "was",
        "bright",
        ".",
    ]
    references = [" ".join(draw.choices(words, k=12)) for _ in range(30)]
    predictions = [
        " ".join(word if draw.random() < 0.8 else draw.choice(words) for word in text.split()) for text in references
    ]
    for name, lines in (("ref", references), ("hyp", predictions)):
        (tmp_path / name).write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    for metric in ("bleu", "chrf", "ter"):
        command = [sys.executable, "-m", "sacrebleu", str(tmp_path / "ref"), "-i", str(tmp_path / "hyp"), "-m", metric, "-f", "text", "-w", "2"]  # fmt: skip
        expected = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        found = sacrebleu_score(metric, predictions, [references])
        assert found.text == expected
        assert found.interval.low <= found.value <= found.interval.high


def test_bleu_of_chinese_is_not_silently_zero():
    texts = ["今天天气很好。", "我们去公园散步吧。"]
    found = sacrebleu_score("bleu", texts, [texts])
    assert found.value == pytest.approx(100) and found.signature.get("tok") == "zh"
    with pytest.raises(InputError, match="cuts at blanks"):
        sacrebleu_score("bleu", texts, [texts], tokenize="13a")
    assert looks_unspaced(texts) and not looks_unspaced(["all of it 好"])


@given(st.text(alphabet="ab天", max_size=9), st.text(alphabet="ab天", min_size=1, max_size=9))
def test_character_errors_by_their_definition(first: str, second: str):
    table = [[0] * (len(second) + 1) for _ in range(len(first) + 1)]
    for i in range(len(first) + 1):
        for j in range(len(second) + 1):
            if not i or not j:
                table[i][j] = i + j
                continue
            table[i][j] = min(
                table[i - 1][j] + 1, table[i][j - 1] + 1, table[i - 1][j - 1] + (first[i - 1] != second[j - 1])
            )
    found = error_rate([first], [second], "character")
    assert found.value == pytest.approx(100 * table[-1][-1] / len(second))


def test_error_rates_equal_jiwer():
    references, predictions = ["a quick fox", "jumps over it all"], ["quick brown fox", "jumps over all"]
    assert error_rate(predictions, references).value == pytest.approx(100 * jiwer.wer(references, predictions))
    chinese = error_rate(["今天很冷"], ["今天很热了"], "character")
    assert chinese.value == pytest.approx(100 * 2 / 5)
    with pytest.raises(InputError, match="use cer"):
        error_rate(["今天"], ["今天"])


def test_answers():
    exact, f1 = answers(["The Eiffel Tower!", "in paris"], [["eiffel tower", "Paris, France"]])
    assert exact.per_sample == [100, 0] and f1.per_sample[1] == pytest.approx(50)


@pytest.mark.parametrize(
    ("predictions", "references", "message"),
    [
        ([], [[]], "no predictions"),
        (["a", "b"], [["a"]], "2 predictions but 1 references"),
        (["a"], [], "no references"),
    ],
)
def test_what_cannot_be_compared(predictions: list[str], references: list[list[str]], message: str):
    with pytest.raises(InputError, match=message):
        compare(["rouge"], predictions, references, OverlapOptions())


def test_empty_and_huge_texts_are_bounded_zeros():
    assert rouge(["", "x"], [["word", "x"]])[0].value == pytest.approx(50)
    huge = "word " * 200_000
    assert 0 < rouge([huge], [["word and more"]])[0].value < 1
    assert rouge([huge], [[huge]], variants=["rougeL"])[0].value == pytest.approx(100)
    assert error_rate([huge], [huge[:-5]]).value == pytest.approx(100 / 199_999)
    with pytest.raises(InputError, match="too long"):
        rouge([huge], [[huge]])
    assert sacrebleu_score("bleu", [""], [["a word"]]).value == 0


@pytest.mark.shared_data
def test_dialogsum_dev_equals_rouge_score(shared_data: Path):
    rows = [json.loads(line) for line in (shared_data / "dialogsum/dialogsum.dev.jsonl").open(encoding="utf-8")]
    predictions = ["\n".join(turns(row["dialogue"])[:3]) for row in rows]
    references = [row["summary"] for row in rows]
    ours = rouge(predictions, [references], RougeOptions(latin_only=False))
    expected = np.array([by_rouge_score(p, r, True) for p, r in zip(predictions, references, strict=True)])
    for column, each in enumerate(ours):
        assert np.abs(np.array(each.per_sample) - expected[:, column]).max() < 1e-6


FIGURES = {  # DialogSum test, three references, R-L, R-Lsum as mean and as best of three
    "LEAD-3": ((26.95, 6.71, 20.39, 22.93), (32.02, 10.22, 24.87, 27.52)),
    "LONGEST-3": ((23.31, 6.24, 16.88, 19.17), (28.23, 9.77, 21.09, 23.45)),
}


@pytest.mark.shared_data
@pytest.mark.parametrize("name", FIGURES)
def test_dialogsum_figures_of_the_literature(name: str, shared_data: Path):
    with gzip.open(shared_data / "dialogsum/dialogsum.test.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    predictions = []
    for row in rows:
        lines = turns(row["dialogue"])
        places = (
            range(min(3, len(lines)))
            if name == "LEAD-3"
            else sorted(sorted(range(len(lines)), key=lambda i: -len(lines[i].split()))[:3])
        )
        predictions.append("\n".join(lines[i] for i in places))
    references = [[row[f"summary{number}"] for row in rows] for number in (1, 2, 3)]
    for kind, expected in zip(("mean", "max"), FIGURES[name], strict=True):
        found = rouge(predictions, references, RougeOptions(references=kind))  # pyright: ignore[reportArgumentType]
        assert [each.value for each in found] == pytest.approx(expected, abs=0.05)

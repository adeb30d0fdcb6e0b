"""Steering vectors: means, costs and effects against what a plain forward pass gives; blocks at equal cost; words counted."""

import math
import statistics
from pathlib import Path

import pytest
import torch

import wenloom
from tests.conftest import VERSES, random_decoder, tiny_config
from tests.model.test_taps import both
from wenloom.api import LanguageModel
from wenloom.checkpoint.steering import SteeringVector
from wenloom.core.errors import InputError
from wenloom.explanation.steered_writing import counter, steered_writing
from wenloom.explanation.steering import find_steering, mean_log_probabilities, rows_of, stream_mean
from wenloom.explanation.subject import Reading, Subject
from wenloom.explanation.trace import Trace
from wenloom.tokens.tokenizer import TextTokenizer

LAMPS = [f"The lamp was lit at dusk {n}." for n in range(12)]
POEMS = [f"春眠不觉晓，处处闻啼鸟 {n}" for n in range(12)]


@pytest.fixture
def subject(tokenizer: TextTokenizer) -> Subject:
    return Subject(random_decoder(tiny_config(tokenizer.vocab_size)), tokenizer)


def test_the_stream_is_averaged_over_tokens_then_texts_and_padding_counts_nothing(subject: Subject):
    texts = ["The lamp", "A storm came from the west; the boats", VERSES[3][:6]]
    rows = rows_of(subject, texts)
    found = stream_mean(subject.model, rows, lambda n: None)  # pyright: ignore[reportArgumentType]
    for layer in range(2):
        means = []
        for row in rows:
            trace = Trace(subject, Reading(torch.tensor([row]), len(row)))
            means.append(trace[f"blocks.{layer}.resid_post"][0, 1:].double().mean(0))
        torch.testing.assert_close(found[layer], torch.stack(means).mean(0), rtol=1e-4, atol=1e-5)


def test_log_probabilities_in_batches_are_those_of_the_scorer_with_the_vector_in_the_model(subject: Subject):
    model = LanguageModel(subject.model, subject.tokenizer)  # pyright: ignore[reportArgumentType]
    vector = SteeringVector(1, torch.randn(32, generator=torch.Generator().manual_seed(1)), 2.0)
    texts = [*LAMPS[:3], "A storm", VERSES[0][:20]]
    rows = rows_of(subject, texts)
    for given in (None, vector):
        found = mean_log_probabilities(model.decoder, rows, given)
        for text, value in zip(texts, found, strict=True):
            with wenloom.steering(model, vector, None if given else 0.0):
                score = model.score(text)
            assert math.isclose(value, score.log_probability / len(score.log_probabilities), abs_tol=1e-4)


def test_every_block_is_tried_at_the_same_cost_and_the_one_of_most_effect_is_taken(subject: Subject):
    study = find_steering(subject, LAMPS, POEMS, cost=0.2)
    assert [each.layer for each in study.trials] == [0, 1] and study.is_held_out and study.n_texts == (12, 12)
    for each in study.trials:
        assert math.log(1.2) / 1.5 < each.cost.value <= math.log(1.2) * 1.001
    best = max(study.trials, key=lambda each: each.effect.value)
    assert (study.vector.layer, study.vector.strength) == (best.layer, best.strength) == study.chosen[:2]


def test_effect_and_cost_are_differences_of_the_scores_of_texts_held_out(subject: Subject):
    neutral = ["A storm came from the west", "the boats stayed in", "the nets stayed dry", "and so ended"]
    study = find_steering(subject, LAMPS, POEMS, neutral, layer=0)
    model = LanguageModel(subject.model, subject.tokenizer)  # pyright: ignore[reportArgumentType]

    def per_token(text: str) -> float:
        return (found := model.score(text)).log_probability / len(found.log_probabilities)

    asked = [*LAMPS[3::4], *POEMS[3::4], *neutral[2:]]
    before = [per_token(text) for text in asked]
    with wenloom.steering(model, study.vector):
        change = [per_token(text) - value for text, value in zip(asked, before, strict=True)]
    lamps, poems, others = change[:3], change[3:6], [-each for each in change[6:]]
    assert math.isclose(study.chosen.effect.value, statistics.mean(lamps) - statistics.mean(poems), abs_tol=1e-4)
    expected = math.sqrt(statistics.variance(lamps) / 3 + statistics.variance(poems) / 3)
    assert math.isclose(study.chosen.effect.error, expected, rel_tol=1e-2)
    assert math.isclose(study.chosen.cost.value, statistics.mean(others), abs_tol=1e-4)
    assert math.isclose(study.perplexity, math.exp(-statistics.mean(before[6:])), rel_tol=1e-3)


def test_few_texts_are_measured_by_themselves_and_it_says_so(subject: Subject):
    study = find_steering(subject, ["The lamp was lit."], ["The nets stayed dry."])
    assert not study.is_held_out and math.isnan(study.chosen.effect.error)


def test_what_cannot_be_steered_is_refused(subject: Subject, tmp_path: Path, tokenizer: TextTokenizer):
    for arguments, words in (
        ((["a b"], []), "no text away from"), (([" "], ["a b"]), "no text toward"), ((["a b"], ["a b"]), "are the same"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=words):
            find_steering(subject, *arguments)
    with pytest.raises(InputError, match="blocks 0 to 1"):
        find_steering(subject, LAMPS, POEMS, layer=2)
    with pytest.raises(InputError, match="above 0"):
        find_steering(subject, LAMPS, POEMS, cost=0)
    _, translator = both("bart", tmp_path)
    with pytest.raises(InputError, match="decoders without an encoder"):
        find_steering(Subject(translator, tokenizer), LAMPS, POEMS)  # pyright: ignore[reportArgumentType]


def test_words_are_counted_in_texts_with_the_vector_and_without(subject: Subject):
    study = find_steering(subject, LAMPS, POEMS, cost=2.0)
    words = ["the", "lamp", "was", "lit"]
    found = steered_writing(subject, study.vector, words, ["The", "春"], n=8, max_new_tokens=12, seed=2)
    again = steered_writing(subject, study.vector, words, ["The", "春"], n=8, max_new_tokens=12, seed=2)
    assert (found.plain, found.steered) == (again.plain, again.steered) and found.plain != found.steered
    count = counter(words)
    for texts, figure in ((found.plain, found.words_plain), (found.steered, found.words_steered)):
        counts = [count(text) for text in texts]
        assert math.isclose(figure.value, statistics.mean(counts))
        assert math.isclose(figure.error, statistics.stdev(counts) / math.sqrt(8))
    none = SteeringVector(0, torch.zeros(32))
    same = steered_writing(subject, none, words, n=4, max_new_tokens=5)
    assert same.plain == same.steered and same.change.value == same.cost.value == same.standard_errors * 0 == 0
    with pytest.raises(InputError, match="no words"):
        steered_writing(subject, none, [" "])


def test_words_are_whole_words_whatever_their_case_and_chinese_ones_stand_anywhere():
    count = counter(["Good", "c++", "好"])
    assert count("good GOOD goods ungood, good.") == 3
    assert count("C++ and c++11") == 1 and count("很好，好的") == 2

"""CTC against all paths of short sounds, spelled out one by one: sums, beams, best paths; and what both judges choose."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wenloom.core.errors import InputError
from wenloom.model.cache import EncoderKV
from wenloom.tasks.speech.ctc import aligned, ctc_logprobs, greedy, prefix_beams, spelled, text_logprobs
from wenloom.tasks.speech.decoding import Decoded
from wenloom.tasks.speech.joint import CtcHeard, attention_logprobs, by_both, by_ctc
from wenloom.tasks.speech.options import TranscriptionOptions
from wenloom.tasks.speech.rules import TokenRules
from wenloom.tasks.speech.transcriber import Transcriber
from wenloom.tasks.speech.word_times import ctc_word_times

from ...hearing import hearing_tokenizer, write_hearing

PLACES, VOCABULARY, BLANK = 5, 4, 2
Text = tuple[int, ...]


def drawn(seed: int) -> torch.Tensor:
    return (2 * torch.randn(PLACES, VOCABULARY, generator=torch.Generator().manual_seed(seed))).log_softmax(-1)


def all_paths(logprobs_SV: torch.Tensor) -> tuple[dict[Text, float], dict[Text, tuple[float, Text]]]:
    """log of the sum over the paths of every text, and the best path of each."""
    values = logprobs_SV.double().tolist()
    sums: dict[Text, float] = {}
    best: dict[Text, tuple[float, Text]] = {}
    for path in itertools.product(range(VOCABULARY), repeat=PLACES):
        total = sum(values[place][token] for place, token in enumerate(path))
        text = tuple(token for token, _ in itertools.groupby(path) if token != BLANK)
        sums[text] = float(np.logaddexp(sums.get(text, -np.inf), total))
        best[text] = max(best.get(text, (-np.inf, ())), (total, path))
    return sums, best


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6))
def test_sums_beams_and_best_paths_are_those_of_all_paths(seed: int):
    logprobs_SV = drawn(seed)
    sums, best = all_paths(logprobs_SV)
    texts = list(sums)
    assert text_logprobs(logprobs_SV, texts, BLANK) == pytest.approx(list(sums.values()), abs=1e-6)
    found = prefix_beams(logprobs_SV, BLANK, 10_000)
    assert found[0].tokens == max(sums, key=lambda text: sums[text])
    assert all(each.logprob <= sums[each.tokens] + 1e-9 for each in found)
    assert found[0].logprob == pytest.approx(
        sums[found[0].tokens], abs=0.05
    )  # improbable tokens of a place are left out
    first = greedy(logprobs_SV, BLANK)
    total, path = max(best.values())
    assert first.tokens == spelled(path, BLANK) and first.logprob == pytest.approx(total, abs=1e-5)
    for text in texts[1:]:
        on_path = [BLANK] * PLACES
        for token, (begin, end) in zip(text, aligned(logprobs_SV, text, BLANK), strict=True):
            on_path[begin:end] = [token] * (end - begin)
        assert spelled(on_path, BLANK) == text
        assert float(logprobs_SV[range(PLACES), on_path].sum()) == pytest.approx(best[text][0], abs=1e-5)


def test_a_text_with_too_little_sound_is_refused_and_impossible():
    logprobs_SV = drawn(0)
    assert text_logprobs(logprobs_SV, [(0, 0, 0, 0), ()], BLANK)[0] < -1e3
    with pytest.raises(ValueError, match="do not fit into 5 places"):
        aligned(logprobs_SV, (0, 0, 0, 0), BLANK)
    assert aligned(logprobs_SV, (), BLANK) == []


@pytest.fixture(scope="module")
def transcriber(tmp_path_factory: pytest.TempPathFactory) -> Transcriber:
    return Transcriber.load(write_hearing(tmp_path_factory.mktemp("model")))


def test_both_judges_choose_by_the_sum_of_what_they_say(transcriber: Transcriber):
    draw = torch.Generator().manual_seed(1)
    model, tokens = transcriber.model, transcriber.tokens
    rules = TokenRules(tokens, model.config.vocab_size, times=False)
    blank, prompt = tokens.no_speech, tokens.opening("en", False, False)
    encoded_SD = torch.randn(12, model.config.d_model, generator=draw)
    with torch.inference_mode():
        encoder_kv = model.decoder.project_source(encoded_SD[None])
        silent = [each for each in transcriber.tokenizer.special_ids if each != blank]
        logprobs_SV = ctc_logprobs(encoded_SD, model.decoder.embed.weight, silent)
    texts = [(5, 6, 7), (5,), ()]
    attention = attention_logprobs(model.decoder, rules, tokens.end, encoder_kv, prompt, texts)
    for text, found in zip(texts, attention, strict=True):
        with torch.inference_mode():
            logits_TV = model.decoder(torch.tensor([[*prompt, *text]]), encoder_kv=EncoderKV(*encoder_kv[:2]))[0]
            logits_TV[:, [*tokens.suppressed, tokens.no_times]] = -torch.inf
        line = logits_TV[len(prompt) - 1 :].log_softmax(-1)
        assert found == pytest.approx(
            sum(float(line[place, token]) for place, token in enumerate([*text, tokens.end])), abs=1e-3
        )
    heard = Decoded([5, 6], 0, 0.1, (([5, 6], 0.0), ([9], 0.0)))
    for weight in (0.2, 0.8):
        both = by_both(
            model.decoder, rules, tokens.end, encoder_kv, prompt, heard, 20, 4, CtcHeard(logprobs_SV, blank, weight)
        )
        texts = [ids for ids, _ in both.others]
        assert {(5, 6), (9,), tuple(by_ctc(CtcHeard(logprobs_SV, blank, 1), 4).tokens)} <= {*map(tuple, texts)}
        expected = [
            weight * first + (1 - weight) * second
            for first, second in zip(
                text_logprobs(logprobs_SV, texts, blank),
                attention_logprobs(model.decoder, rules, tokens.end, encoder_kv, prompt, texts), strict=True,
            )
        ]  # fmt: skip
        assert [total for _, total in both.others] == pytest.approx(expected, abs=1e-3)
        assert both.tokens == both.others[0][0] and both.logprob == max(expected)


def test_words_begin_and_end_where_the_head_hears_them():
    tokenizer, blank = hearing_tokenizer(), 256
    ids = tokenizer.encode(" ab c", add_special_tokens=False)
    spaces = [ids[0], ids[1], ids[2], ids[3], ids[4]]
    path = [blank, blank, *spaces[:3], blank, blank, blank, blank, spaces[3], spaces[4], blank]
    logprobs_SV = torch.full((len(path), 300), -9.0)
    logprobs_SV[range(len(path)), path] = -0.01
    [[first, second]] = ctc_word_times(logprobs_SV, blank, tokenizer, [ids], 10.0, "en")
    assert (first.word, first.start, first.end) == (" ab", 10.02, 10.1)
    assert (second.word, second.start, second.end) == (" c", 10.14, 10.22)


def test_times_of_words_need_a_head_or_learned_times(transcriber: Transcriber):
    with pytest.raises(InputError, match="times of words need a model"):
        next(transcriber.transcribe([], TranscriptionOptions(words=True, times=False)))


def test_a_model_that_was_trained_here_says_that_it_has_a_head(tmp_path: Path):
    assert Transcriber.load(write_hearing(tmp_path / "one")).tokens.ctc_blank is None
    assert Transcriber.load(write_hearing(tmp_path / "other", ctc_blank_token_id=265)).tokens.ctc_blank == 265

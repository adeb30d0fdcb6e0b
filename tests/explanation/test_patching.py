"""Patching against runs with one place changed by hand, and against what must hold: nothing moves, or everything does."""

from pathlib import Path

import pytest
import torch

import wenloom
from tests.conftest import random_decoder, tiny_config
from tests.model.test_taps import both
from wenloom.core.errors import InputError
from wenloom.explanation.patching import SITES, Site, agreement, patching
from wenloom.explanation.subject import Subject
from wenloom.explanation.trace import Trace
from wenloom.tokens.tokenizer import TextTokenizer
from wenloom.tokens.train import train_tokenizer

CLEAN, CORRUPTED = "The lamp was lit at dusk", "The lamp was lit at dust"


@pytest.fixture(scope="module")
def subject(tokenizer: TextTokenizer) -> Subject:
    return Subject(random_decoder(tiny_config(tokenizer.vocab_size)), tokenizer)


def difference(seen: Trace, one: int = 40, other: int = 41) -> float:
    return float(seen.logits[0, -1, one] - seen.logits[0, -1, other])


@pytest.mark.parametrize("site", [each for each in SITES if each != "cross.heads"])
@pytest.mark.parametrize("direction", ["denoise", "noise"])
def test_each_effect_is_that_of_one_run_with_one_place_changed(subject: Subject, site: Site, direction: str):
    found = patching(subject, CLEAN, CORRUPTED, 40, 41, site, direction)  # pyright: ignore[reportArgumentType]
    clean, corrupted = wenloom.trace(subject, CLEAN), wenloom.trace(subject, CORRUPTED)
    assert (found.clean, found.corrupted) == pytest.approx((difference(clean), difference(corrupted)), abs=1e-4)
    run, other = (corrupted, clean) if direction == "denoise" else (clean, corrupted)
    for layer in range(2):
        for place in range(found.effects.shape[1]):
            where = {"heads": [place]} if site == "attention.heads" else {"positions": [place]}
            changed = run.patch(f"blocks.{layer}.{site}", other, **where)
            expected = (difference(changed) - difference(run)) / (difference(other) - difference(run))
            assert float(found.effects[layer, place]) == pytest.approx(expected, abs=1e-3)
    assert found.tokens == run.tokens


def test_the_whole_stream_gives_the_other_answer_and_what_is_alike_none(subject: Subject):
    found = patching(subject, CLEAN, CORRUPTED, 40, 41)
    tokens = [wenloom.trace(subject, text).reading.tokens[0] for text in (CLEAN, CORRUPTED)]
    differing = (tokens[0] != tokens[1]).nonzero().flatten().tolist()
    assert differing == [len(tokens[0]) - 1], "they differ in the last token, which carries everything"
    torch.testing.assert_close(found.effects[:, -1], torch.ones(2).double(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.effects[:, :-1], torch.zeros_like(found.effects[:, :-1]), rtol=0, atol=1e-4)


def test_an_estimate_is_the_limit_of_small_exchanges(subject: Subject):
    """A gradient is what patching with a thousandth of the exchange gives, a thousandfold."""
    clean, corrupted = wenloom.trace(subject, CLEAN), wenloom.trace(subject, CORRUPTED)
    for site in SITES[:-1]:
        found = patching(subject, CLEAN, CORRUPTED, 40, 41, site, estimate=True)
        place = "blocks.1." + site
        heads = site == "attention.heads"
        for one in range(found.effects.shape[1]):
            mixed = corrupted[place] + 1e-3 * (clean[place] - corrupted[place])
            changed = corrupted.patch(place, mixed, **{"heads" if heads else "positions": [one]})
            expected = 1e3 * (difference(changed) - difference(corrupted)) / (difference(clean) - difference(corrupted))
            assert float(found.effects[1, one]) == pytest.approx(expected, abs=0.05)
    exact = patching(subject, CLEAN, CORRUPTED, 40, 41, "attention.heads")
    assert agreement(exact, exact) == pytest.approx(1) and exact.effects.shape == (2, 4)


def test_answers_of_several_tokens_are_patched_in_the_prompt_alone(subject: Subject):
    found = patching(subject, CLEAN, CORRUPTED, " was lit", " read")
    assert found.effects.shape[1] == len(found.tokens)
    assert float(found.effects[0, -1]) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("family", ["bart", "marian", "t5"])
@pytest.mark.parametrize("site", SITES)
def test_sources_are_patched_in_the_encoder_and_in_what_the_decoder_reads_of_it(
    family: str, site: Site, tmp_path: Path
):
    """Each effect is that of one run with one place changed by hand; an estimate that of a thousandth, a thousandfold."""
    translator = Subject(both(family, tmp_path)[1], train_tokenizer(["abcdefgh"], "char", 11))
    found = patching(translator, "abcde", "abgde", 5, 6, site)
    clean, corrupted = wenloom.trace(translator, "abcde"), wenloom.trace(translator, "abgde")
    estimate = patching(translator, "abcde", "abgde", 5, 6, site, estimate=True)
    before, there = difference(corrupted, 5, 6), difference(clean, 5, 6)
    for layer in range(found.effects.shape[0]):
        name = f"{'decoder' if site == 'cross.heads' else 'encoder'}.blocks.{layer}.{site}"
        for part, effects, close in ((1, found.effects, 1e-3), (1e-3, estimate.effects, 0.05)):
            other = corrupted[name] + part * (clean[name] - corrupted[name])
            for place in range(effects.shape[1]):
                changed = corrupted.patch(name, other, **{"heads" if site.endswith("heads") else "positions": [place]})
                expected = (difference(changed, 5, 6) - before) / (there - before) / part
                assert float(effects[layer, place]) == pytest.approx(expected, abs=close)
    assert found.tokens == corrupted.source_tokens


def test_prompts_that_do_not_fit_each_other_are_refused(subject: Subject):
    with pytest.raises(InputError, match="patching compares token by token"):
        patching(subject, CLEAN, "The lamp", 40, 41)
    with pytest.raises(InputError, match="the same answer"):
        patching(subject, CLEAN, CLEAN, 40, 41)
    with pytest.raises(InputError, match="known are resid_pre"):
        patching(subject, CLEAN, CORRUPTED, 40, 41, "heads")  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match=r"cross\.heads: this model has one stack"):
        patching(subject, CLEAN, CORRUPTED, 40, 41, "cross.heads")
    with pytest.raises(InputError, match="different places"):
        agreement(patching(subject, CLEAN, CORRUPTED, 40), patching(subject, CLEAN, CORRUPTED, 40, site="mlp.out"))


@pytest.mark.real_models
def test_smollm2_carries_a_name_from_where_it_stands_to_where_it_is_said(real_models: Path):
    clean = "When Mary and John went to the store, John gave a drink to"
    corrupted = "When Mary and John went to the store, Mary gave a drink to"
    found = patching(real_models / "smollm2", clean, corrupted, " Mary", " John")
    second = found.tokens.index(" Mary", 2)
    assert found.clean > 3 and found.corrupted < -1
    assert float(found.effects[0, second]) == pytest.approx(1, abs=1e-3)
    assert float(found.effects[-1, -1]) == pytest.approx(1, abs=0.05) and abs(float(found.effects[-1, second])) < 0.05

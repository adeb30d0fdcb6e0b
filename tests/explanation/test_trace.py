"""A trace reads what flows and changes nothing; what is replaced has the effect that running the model so has."""

from pathlib import Path
from typing import Any

import pytest
import torch

import wenloom
from tests.conftest import random_decoder, tiny_config
from tests.model.test_taps import DECODERS, MODELS, both
from wenloom.core.errors import InputError
from wenloom.explanation.contributions import contributions, stream_parts
from wenloom.explanation.subject import Reading, Subject
from wenloom.explanation.trace import Trace
from wenloom.model.encoder_decoder import EncoderDecoder
from wenloom.tokens.tokenizer import TextTokenizer

TOKENS = torch.tensor([[5, 9, 14, 3, 9, 14, 60]])
SOURCES = torch.tensor([[7, 30, 11, 4]])


def traced(model: Any, tokenizer: Any = None) -> Trace:
    return Trace(Subject(model, tokenizer), Reading(TOKENS, 7, SOURCES if isinstance(model, EncoderDecoder) else None))


def plain(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(SOURCES, TOKENS) if isinstance(model, EncoderDecoder) else model(TOKENS)


@pytest.fixture
def seen(tokenizer: TextTokenizer) -> Trace:
    subject = Subject(random_decoder(tiny_config(tokenizer.vocab_size)), tokenizer)
    return wenloom.trace(subject, "The lamp was lit at dusk")


@pytest.mark.parametrize("family", MODELS)
def test_a_trace_has_every_place_and_the_logits_of_the_model_bitwise(family: str, tmp_path: Path):
    _, ours = both(family, tmp_path)
    trace = traced(ours)
    assert list(trace) == ours.places and torch.equal(trace.logits, plain(ours))


@pytest.mark.parametrize("family", [*DECODERS, "bart", "marian", "t5"])
def test_parts_of_the_stream_add_up_to_the_logits(family: str, tmp_path: Path):
    _, ours = both(family, tmp_path)
    trace = traced(ours)
    for position in (0, 3, -1):
        parts = stream_parts(trace, position)
        expected = trace[f"{trace.subject.prefix}final_norm"][0, position]
        torch.testing.assert_close(parts.vectors.sum(0).float(), expected, rtol=1e-4, atol=1e-4)
        for against in (None, 17):
            found = contributions(trace, 40, against, position)
            assert abs(found.total - found.logit) < 1e-4 and abs(sum(found.values) - found.total) < 1e-9
            assert len(found.names) == len(set(found.names)) == len(found.values)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
def test_what_a_head_adds_is_what_the_stream_loses_without_it(family: str, tmp_path: Path):
    """In the last block nothing reads it again but the feed-forward layer, which is held as it was."""
    _, ours = both(family, tmp_path)
    trace = traced(ours)
    parts = stream_parts(trace)
    without = trace.ablate("blocks.2.attention.heads", heads=[1]).patch("blocks.2.mlp.out", trace)
    lost = trace["blocks.2.resid_post"] - without["blocks.2.resid_post"]
    share = parts.vectors[parts.names.index("blocks.2.attention.1")].float()
    scale = trace["final_norm"][0, -1] / trace["blocks.2.resid_post"][0, -1]
    if family == "llama":  # RMSNorm is a factor by dimension
        torch.testing.assert_close(lost[0, -1] * scale, share, rtol=1e-3, atol=1e-4)
    else:
        x = trace["blocks.2.resid_post"][0, -1]
        expected = (lost[0, -1] - lost[0, -1].mean()) * ours.final_norm.weight / (x.var(correction=0) + 1e-5).sqrt()
        torch.testing.assert_close(expected, share, rtol=1e-3, atol=1e-4)


def test_heads_of_bert_have_no_sum_in_its_logits(tmp_path: Path):
    _, ours = both("bert", tmp_path)
    with pytest.raises(InputError, match="linear way"):
        contributions(traced(ours), 3)


def test_patching_with_itself_changes_no_bit_and_with_another_text_gives_its_answer(seen: Trace):
    other = wenloom.trace(seen.subject, "The lamp was lit at dust")
    assert other.reading.tokens.shape == seen.reading.tokens.shape
    for name in seen:
        same = seen.patch(name, seen).logits
        if name.endswith("pattern"):  # a given pattern is multiplied out, without the fused kernel
            torch.testing.assert_close(same, seen.logits, rtol=1e-4, atol=1e-4)
        else:
            assert torch.equal(same, seen.logits), name
    assert torch.equal(seen.patch("blocks.1.resid_pre", other).logits, other.logits)
    half = seen.patch("blocks.1.resid_pre", other, positions=[-1])
    assert torch.equal(half["blocks.1.resid_pre"][0, -1], other["blocks.1.resid_pre"][0, -1])
    assert torch.equal(half["blocks.1.resid_pre"][0, :-1], seen["blocks.1.resid_pre"][0, :-1])
    assert not torch.equal(half.logits[0, -1], seen.logits[0, -1]) and torch.equal(
        half.logits[0, :-1], seen.logits[0, :-1]
    )


def test_ablation_by_zero_mean_and_draw_touches_the_heads_and_positions_named(seen: Trace):
    name = "blocks.0.attention.heads"
    whole = seen[name]
    zero = seen.ablate(name, heads=[1, 3], positions=[2])[name]
    kept = torch.ones_like(whole, dtype=torch.bool)
    kept[:, 1, 2] = kept[:, 3, 2] = False
    assert torch.equal(zero[kept], whole[kept]) and not zero[~kept].any()
    mean = seen.ablate(name, "mean", heads=[0])[name]
    torch.testing.assert_close(mean[0, 0], whole[0, 0].mean(0).expand_as(whole[0, 0]))
    assert torch.equal(mean[0, 1:], whole[0, 1:])
    other = wenloom.trace(seen.subject, "A storm came from the west; the boats stayed in")
    drawn = seen.ablate("blocks.1.mlp.out", "resample", reference=[other])["blocks.1.mlp.out"][0]
    known = other["blocks.1.mlp.out"][0]
    assert all(any(torch.equal(row, each) for each in known) for row in drawn)
    both_layers = seen.ablate("blocks.0.attention.out").ablate("blocks.0.mlp.out")
    torch.testing.assert_close(both_layers["blocks.1.resid_pre"], seen["embed"])


def test_steering_adds_a_vector_and_no_strength_adds_nothing(seen: Trace):
    direction = torch.randn(32, generator=torch.Generator().manual_seed(0))
    steered = seen.steer("blocks.0.resid_post", direction, 3.0, positions=[-1])
    moved = steered["blocks.1.resid_pre"] - seen["blocks.1.resid_pre"]
    torch.testing.assert_close(moved[0, -1], 3 * direction, rtol=1e-4, atol=1e-4)
    assert not moved[0, :-1].any()
    assert torch.equal(seen.steer("blocks.0.resid_post", direction, 0.0).logits, seen.logits)


def test_names_and_shapes_of_transformer_lens(seen: Trace):
    theirs, heads = seen.transformer_lens(), seen["blocks.1.attention.heads"]
    assert torch.equal(theirs["blocks.1.attn.hook_z"], heads.transpose(1, 2))
    assert torch.equal(theirs["blocks.1.attn.hook_pattern"], seen["blocks.1.attention.pattern"])
    assert torch.equal(theirs["blocks.0.hook_resid_post"], seen["blocks.0.resid_post"])
    assert "blocks.0.attn.hook_rot_k" in theirs and len(theirs) == 2 * 12


def test_wrong_names_positions_heads_and_texts_are_refused_with_the_reason(seen: Trace):
    with pytest.raises(InputError, match=r"no place 'blocks\.1\.mlp' "):
        wenloom.trace(seen.subject, "The", names=["blocks.1.mlp"])
    with pytest.raises(InputError, match=r"no place 'blocks\.9\.resid_pre'"):
        seen["blocks.9.resid_pre"]
    with pytest.raises(InputError, match="kept only embed"):
        wenloom.trace(seen.subject, "The", names=["embed"])["logits"]
    with pytest.raises(InputError, match="has no heads"):
        seen.ablate("blocks.0.mlp.out", heads=[1])
    with pytest.raises(InputError, match="no head 4; they go from 0 to 3"):
        seen.ablate("blocks.0.attention.heads", heads=[4])["logits"]
    with pytest.raises(InputError, match="same number of tokens"):
        seen.patch("blocks.0.mlp.out", wenloom.trace(seen.subject, "The"))["logits"]
    with pytest.raises(InputError, match="zeros only"):
        seen.ablate("blocks.0.attention.pattern", "mean")
    with pytest.raises(InputError, match="at most 32"):
        wenloom.trace(seen.subject, "The lamp " * 40)
    assert len(wenloom.trace(seen.subject, "").reading.tokens[0]) == 1, "an empty text is the BOS token"


def test_a_continuation_follows_in_the_same_row(seen: Trace):
    whole = wenloom.trace(seen.subject, "The lamp", " was lit")
    start = whole.reading.start
    assert "".join(whole.tokens[start:]).strip() == "was lit"
    assert torch.equal(whole.reading.tokens, wenloom.trace(seen.subject, "The lamp was lit").reading.tokens)


@pytest.mark.real_models
def test_parts_of_the_stream_of_smollm2_add_up_to_its_logits(real_models: Path):
    seen = wenloom.trace(real_models / "smollm2", "When Mary and John went to the store, John gave a drink to")
    mary, john = (seen.subject.tokenizer.encode(f" {name}")[0] for name in ("Mary", "John"))
    for against in (None, john):
        found = contributions(seen, mary, against)
        assert abs(found.total - found.logit) < 1e-4
    with torch.no_grad():
        assert torch.equal(seen.logits, seen.subject.model(seen.reading.tokens))

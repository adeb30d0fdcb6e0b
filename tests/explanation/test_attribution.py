"""Attribution against independent computations: a fine Riemann sum with single gradients, differences of the model itself, and
what completeness demands."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import wenloom
from tests.conftest import VERSES, random_decoder, tiny_config
from tests.model.test_taps import both
from wenloom.core.errors import CheckpointError, InputError
from wenloom.core.randomness import generator
from wenloom.explanation.attribution import METHODS, attribute, attributed, drawn_readings
from wenloom.explanation.inquiry import AnswerRow, Inquiry, ask
from wenloom.explanation.path_integral import ORDER, PANELS, PathLine, integrate
from wenloom.explanation.subject import Reading, Subject
from wenloom.explanation.trace import Trace
from wenloom.model.build import with_classes
from wenloom.model.quantize import quantize
from wenloom.tokens.tokenizer import TextTokenizer

IG = "integrated-gradients"


@pytest.fixture(scope="module")
def gpt(tokenizer: TextTokenizer) -> Subject:
    return Subject(random_decoder(tiny_config(tokenizer.vocab_size, "gpt2")), tokenizer)


@pytest.fixture(scope="module")
def llama(tokenizer: TextTokenizer) -> Subject:
    return Subject(random_decoder(tiny_config(tokenizer.vocab_size)), tokenizer)


def log_p(subject: Subject, vectors: Tensor, token: int) -> Tensor:
    """Of a token after the last place, by the model's own layers."""
    return subject.model.unembed(subject.model.run(vectors))[0, -1].double().log_softmax(-1)[token]  # pyright: ignore[reportCallIssue]


def test_integrated_gradients_are_the_limit_of_a_riemann_sum(gpt: Subject):
    found, target = attribute(gpt, "The lamp was", 40), 40
    x = gpt.stack.token_vectors(torch.tensor([found.token_ids])).detach()
    total = torch.zeros(x.shape[1], dtype=torch.float64)
    n = 400
    for step in range(n):
        scaled = (x * (step + 0.5) / n).requires_grad_()
        (gradient,) = torch.autograd.grad(log_p(gpt, scaled, target), scaled)
        total += (gradient * x)[0].sum(-1).double() / n
    torch.testing.assert_close(found.scores, total, rtol=1e-3, atol=1e-4)
    with torch.no_grad():
        assert found.value == pytest.approx(float(log_p(gpt, x, target)), abs=1e-5)
        assert found.baseline == pytest.approx(float(log_p(gpt, 0 * x, target)), abs=1e-5)


@pytest.mark.parametrize("model", ["gpt", "llama"])
@pytest.mark.parametrize("start", range(0, 40, 8))
def test_integrated_gradients_are_complete_to_one_percent(model: str, start: int, request: pytest.FixtureRequest):
    """Also where an RMS norm meets nearly-zero vectors first."""
    subject = request.getfixturevalue(model)
    for verse in VERSES:
        text = verse[start : start + 12]
        if text:
            found = attribute(subject, text)
            assert found.error is not None and found.error <= 0.01, (text, found.error)
            assert abs(float(found.scores.sum()) - (found.value - found.baseline)) <= 0.01 * abs(
                found.value - found.baseline
            )


def test_gradient_x_input_is_one_gradient(llama: Subject):
    found = attribute(llama, "The lamp was", 40, method="gradient-x-input")
    x = llama.stack.token_vectors(torch.tensor([found.token_ids])).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(log_p(llama, x, 40), x)
    torch.testing.assert_close(found.scores, (gradient * x)[0].sum(-1).double(), rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_occlusion_is_what_is_lost_without_a_token(llama: Subject):
    found = attribute(llama, "The lamp was", 40, method="occlusion")
    x, target = llama.stack.token_vectors(torch.tensor([found.token_ids])), 40
    for place, score in enumerate(found.scores.tolist()):
        without = x.clone()
        without[0, place] = 0
        assert score == pytest.approx(float(log_p(llama, x, target) - log_p(llama, without, target)), abs=1e-4)


def test_rollout_multiplies_patterns_and_says_that_it_is_weak(llama: Subject):
    found = attribute(llama, "The lamp was", method="attention-rollout")
    seen = wenloom.trace(llama, "The lamp was")
    matrices = [(seen[f"blocks.{n}.attention.pattern"][0].mean(0) + torch.eye(len(found.tokens))) / 2 for n in (0, 1)]
    torch.testing.assert_close(found.scores.float(), (matrices[1] @ matrices[0])[-1])
    assert found.is_weak and found.error is None and float(found.scores.sum()) == pytest.approx(1)


@pytest.mark.parametrize("method", [each for each in METHODS if each != "attention-rollout"])
def test_a_continuation_in_one_pass_is_the_sum_of_its_tokens(gpt: Subject, method: Any):
    whole = attribute(gpt, "The lamp", " was lit", method=method, steps=24)
    ids = torch.tensor(gpt.tokenizer.encode("The lamp was lit"))
    start = whole.n_text
    expected, value = torch.zeros(len(ids) - 1, dtype=torch.float64), 0.0
    for place in range(start, len(ids)):
        row = AnswerRow(
            Reading(ids[None, :place], place), torch.tensor([place - 1]), ids[place : place + 1], torch.ones(1).double()
        )
        one = attributed(Inquiry(gpt, [row], "", None), method, 24)
        expected[:place] += one.scores
        value += one.value
    torch.testing.assert_close(whole.scores, expected, rtol=1e-4, atol=1e-4)
    assert whole.value == pytest.approx(value, abs=1e-4) and whole.token_ids == ids[:-1].tolist()


def test_a_contrast_is_the_difference_of_two_attributions(gpt: Subject):
    one, other = (attribute(gpt, "The lamp", each, steps=24) for each in (" was lit", " read"))
    both_sides = attribute(gpt, "The lamp", " was lit", " read", steps=24)
    n = both_sides.n_text
    assert both_sides.token_ids == [*one.token_ids, *other.token_ids[n:]]
    expected = torch.cat((one.scores[:n] - other.scores[:n], one.scores[n:], -other.scores[n:]))
    torch.testing.assert_close(both_sides.scores, expected, rtol=1e-4, atol=1e-4)
    assert both_sides.value == pytest.approx(one.value - other.value, abs=1e-5)
    single = attribute(gpt, "The lamp", 40, 41)
    assert single.error is not None and single.error < 0.01, "one pass for two tokens"


def test_labels_masks_and_sources_can_be_asked_about(gpt: Subject, tokenizer: TextTokenizer, tmp_path: Path):
    classifier = with_classes(gpt.model, ("dull", "fine"), generator(0, "test")).eval()
    with torch.no_grad():
        classifier.classifier.output.weight *= 50
    found = attribute(Subject(classifier, tokenizer), "The lamp was lit", "fine", "dull")
    assert (found.target, found.against) == ("fine", "dull") and len(found.scores) == len(found.tokens)
    assert found.error is not None and found.error < 0.01
    with pytest.raises(InputError, match="no label 'good'; this model knows dull, fine"):
        attribute(Subject(classifier, tokenizer), "The lamp", "good")
    _, bart = both("bart", tmp_path / "bart")
    reading = Reading(torch.tensor([[2, 9, 5]]), 1, torch.tensor([[7, 30, 11, 4]]))
    row = AnswerRow(reading, torch.tensor([0, 1, 2]), torch.tensor([9, 5, 8]), torch.ones(3).double())
    for method in (IG, "occlusion"):
        pairs = attributed(Inquiry(Subject(bart, tokenizer), [row], "", None), method)
        assert pairs.n_source == 4 and pairs.n_text == 1 and len(pairs.scores) == 7
        assert bool(pairs.scores[:4].abs().sum() > 0) and bool(pairs.scores[4:].abs().sum() > 0)
    assert attributed(Inquiry(Subject(bart, tokenizer), [row], "", None), IG).error < 0.01
    rolled = attributed(Inquiry(Subject(bart, tokenizer), [row], "", None), "attention-rollout").scores
    torch.testing.assert_close(rolled, _rollout_by_hand(Subject(bart, tokenizer), row))
    _, bert = both("bert", tmp_path / "bert")
    place = AnswerRow(
        Reading(torch.tensor([[2, 9, 5, 4]]), 4), torch.tensor([2]), torch.tensor([40]), torch.ones(1).double()
    )
    filled = attributed(Inquiry(Subject(bert, tokenizer), [place], "", None), IG)
    assert filled.error is not None and filled.error < 0.01


def _rollout_by_hand(subject: Subject, row: AnswerRow) -> torch.Tensor:
    """One matrix of source and own tokens together, multiplied by that of each attention in the order of a forward pass."""
    seen, n = Trace(subject, row.reading), 4 + 3
    reached = torch.eye(n).double()
    order = [("encoder", layer, "attention") for layer in range(2)]
    order += [("decoder", layer, part) for layer in range(3) for part in ("attention", "cross")]
    for stack, layer, part in order:
        mixed = torch.eye(n).double()
        rows = slice(0, 4) if stack == "encoder" else slice(4, n)
        columns = slice(4, n) if (stack, part) == ("decoder", "attention") else slice(0, 4)
        mixed[rows] /= 2
        mixed[rows, columns] += seen[f"{stack}.blocks.{layer}.{part}.pattern"][0].double().mean(0) / 2
        reached = mixed @ reached
    shares = reached[4:].mean(0)
    assert float(shares.sum()) == pytest.approx(1) and bool((shares > 0).all())
    return shares


def test_wrong_questions_are_refused_with_the_reason(gpt: Subject):
    with pytest.raises(InputError, match="known are integrated-gradients, gradient-x-input"):
        attribute(gpt, "The", method="shapley")  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match="at least 1"):
        attribute(gpt, "The", steps=0)
    with pytest.raises(InputError, match="compared with itself"):
        attribute(gpt, "The lamp", " was", " was")
    with pytest.raises(InputError, match="there is no token 400; they go from 0 to 399"):
        attribute(gpt, "The lamp", 400)
    with pytest.raises(InputError, match="without a token"):
        attribute(gpt, "The lamp", "")
    with pytest.raises(InputError, match="needs gradients: this model's weights are quantized"):
        attribute(Subject(quantize(gpt.model, 8), gpt.tokenizer), "The lamp")


@pytest.fixture(scope="module")
def deep(tokenizer: TextTokenizer) -> Subject:
    """Twelve blocks with RMS norms: near zero vectors the answer goes up and down at every scale."""
    return Subject(random_decoder(replace(tiny_config(tokenizer.vocab_size), n_layers=12)), tokenizer)


@pytest.mark.parametrize("text", ["The lamp was", "2 + 2 =", "春天来了", "The lamp was lit at dusk"])
def test_where_zero_vectors_are_no_good_beginning_drawn_tokens_are(deep: Subject, text: str):
    found = attribute(deep, text)
    assert found.relative_to == "tokens" and found.error is not None and found.error <= 0.01
    zeros = attribute(deep, text, baseline="zeros")
    assert zeros.relative_to == "zeros" and zeros.error is not None and zeros.error > 0.01, "what would have been shown"


def test_from_drawn_tokens_scores_are_the_limit_of_a_riemann_sum(deep: Subject, monkeypatch: pytest.MonkeyPatch):
    """A gradient at each of many points, between the text and a draw."""
    monkeypatch.setattr("wenloom.explanation.attribution.DRAWS", 1)
    found = attribute(deep, "The lamp was", 40, baseline="tokens", seed=3)
    (other,) = drawn_readings(ask(deep, "The lamp was", 40), (3, 0))
    near, origin = other.tokens[0], deep.stack.token_vectors(other.tokens).detach()
    assert not set(near.tolist()) & deep.tokenizer.special_ids
    x, n = deep.stack.token_vectors(torch.tensor([found.token_ids])).detach(), 2000
    total = torch.zeros(x.shape[1], dtype=torch.float64)
    for at in (torch.arange(n) + 0.5).div(n).split(100):
        between = (origin + (x - origin) * at[:, None, None]).requires_grad_()
        value = deep.model.unembed(deep.model.run(between))[:, -1].double().log_softmax(-1)[:, 40].sum()  # pyright: ignore[reportCallIssue]
        (gradient,) = torch.autograd.grad(value, between)
        total += (gradient * (x - origin)).sum((0, 2)).double() / n
    torch.testing.assert_close(found.scores, total, rtol=0.02, atol=0.02 * abs(found.value - found.baseline))


def test_special_tokens_stay_and_a_seed_draws_the_same(llama: Subject):
    end = llama.tokenizer.eos_token_id
    assert end is not None
    row = AnswerRow(
        Reading(torch.tensor([[end, 9, 30]]), 3), torch.tensor([2]), torch.tensor([5]), torch.ones(1).double()
    )
    one, same, other = (
        attributed(Inquiry(llama, [row], "", None), IG, baseline="tokens", seed=each) for each in (1, 1, 2)
    )
    assert one.scores[0] == 0 and one.scores[1] != 0, "what is the same in both texts does nothing"
    torch.testing.assert_close(one.scores, same.scores, rtol=0, atol=0)
    assert not torch.allclose(one.scores, other.scores)


def test_panels_are_halved_where_something_is_missing(llama: Subject):
    """An error of 1 % costs no more gradients than there are, and most of them lie where the answer changes."""
    inquiry = ask(llama, "The lamp was")
    row, points = inquiry.rows[0], list[float]()

    class Counted(PathLine):
        def slopes(self, u_N: Any) -> Tensor:
            points.extend(u_N.tolist())
            return super().slopes(u_N)

    line = Counted(inquiry, row, [torch.zeros_like(each) for each in PathLine(inquiry, row, []).ends])
    change = abs(float(line.values(np.array([1.0]))[0] - line.values(np.array([0.0]))[0]))
    found = integrate(line, 1e-3 * change, 4096)
    assert found.missing <= 1e-3 * change and PANELS * ORDER < len(points) <= 4096
    narrow = sum(point < 1 / PANELS for point in points)
    assert narrow > len(points) / PANELS * 2, "near zero vectors, where an RMS norm turns everything about"
    points.clear()
    assert integrate(line, 0.0, 100).missing > 0 and len(points) <= 100


def test_where_only_special_tokens_are_read_none_is_drawn(deep: Subject):
    end = deep.tokenizer.eos_token
    assert end is not None
    found = attribute(deep, end * 3)
    assert found.relative_to == "zeros" and found.value != found.baseline
    with pytest.raises(InputError, match="special tokens alone"):
        attribute(deep, end * 3, baseline="tokens")


def test_of_two_answers_of_several_tokens_both_count_at_the_place_of_the_answer(llama: Subject):
    names = ["blocks.0.mlp.hidden", "blocks.1.resid_post"]
    both_sides, one, other = (ask(llama, "The lamp", *each).at_answer(names)
                              for each in ((" was lit", " read"), (" was lit",), (" read",)))  # fmt: skip
    for mine, first, second in zip(both_sides[1], one[1], other[1], strict=True):
        torch.testing.assert_close(mine, first - second, rtol=1e-4, atol=1e-5)
    for mine, first in zip(both_sides[0], one[0], strict=True):
        torch.testing.assert_close(mine, first, rtol=1e-4, atol=1e-5)


def test_a_model_whose_scores_are_no_numbers_is_damaged(tokenizer: TextTokenizer):
    model = random_decoder(tiny_config(tokenizer.vocab_size))
    with torch.no_grad():
        model.final_norm.weight[0] = torch.nan  # pyright: ignore[reportIndexIssue, reportArgumentType]
    for method in (IG, "occlusion"):
        with pytest.raises(CheckpointError, match="not numbers; its weights are damaged"):
            attribute(Subject(model, tokenizer), "The lamp", 40, method=method)  # pyright: ignore[reportArgumentType]

"""Sampling: every cut-off by its definition in numpy, and draws that follow the distribution."""

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from wenloom.core.randomness import uniforms
from wenloom.generation.request import GenerationRequest
from wenloom.generation.sampling import Mirostat, candidates, draw


def softmax(x: np.ndarray) -> np.ndarray:
    weights = np.exp(x - x[np.isfinite(x)].max())
    return weights / weights.sum()


def entropy(p: np.ndarray) -> float:
    return float(-sum(each * np.log(each) for each in p if each > 0))


def only(logits: np.ndarray, kept: set[int]) -> np.ndarray:
    kept = kept or {int(np.argmax(logits))}
    return np.array([value if token in kept else -np.inf for token, value in enumerate(logits)])


def most_probable_until(p: np.ndarray, order: np.ndarray, mass: float) -> set[int]:
    kept, total = set(), 0.0
    for token in order:
        if total >= mass:
            break
        kept.add(int(token))
        total += p[token]
    return kept


def most_probable_within(p: np.ndarray, alpha: float) -> set[int]:
    """Top-H, one token after the other: its entropy is computed anew for every set."""
    kept: list[int] = []
    for token in np.argsort(-p, kind="stable"):
        more = p[[*kept, int(token)]]
        if kept and entropy(more / more.sum()) > alpha * entropy(p):
            break
        kept.append(int(token))
    return set(kept)


def by_definition(logits: np.ndarray, options: dict[str, float]) -> np.ndarray:
    """The distribution that is drawn from, one cut-off after the other, over the whole vocabulary."""
    x = logits / options.get("temperature", 0.8)
    if n := options.get("top_n_sigma"):
        x = only(x, set(np.flatnonzero(x >= x.max() - n * x.std()).tolist()))
    if alpha := options.get("top_h"):
        x = only(x, most_probable_within(softmax(x), alpha))
    if k := options.get("top_k"):
        x = only(
            x, set(np.argsort(-x, kind="stable")[: int(k)].tolist()) & set(np.flatnonzero(np.isfinite(x)).tolist())
        )
    p = softmax(x)
    x = only(x, most_probable_until(p, np.argsort(-p, kind="stable"), options.get("top_p", 0.95)))
    if least := options.get("min_p"):
        p = softmax(x)
        x = only(x, set(np.flatnonzero(p >= least * p.max()).tolist()))
    if mass := options.get("typical_p"):
        p = softmax(x)
        strange = np.array([abs(-np.log(each) - entropy(p)) if each > 0 else np.inf for each in p])
        order = sorted(range(len(p)), key=lambda token: (strange[token], -p[token]))
        x = only(x, most_probable_until(p, np.array(order), mass) & set(np.flatnonzero(p > 0).tolist()))
    if least := options.get("epsilon_cutoff"):
        p = softmax(x)
        x = only(x, set(np.flatnonzero(p >= least).tolist()))
    if eta := options.get("eta_cutoff"):
        p = softmax(x)
        x = only(x, set(np.flatnonzero(p >= min(eta, np.sqrt(eta) * np.exp(-entropy(p)))).tolist()))
    return softmax(x)


OPTIONS = {
    "temperature": st.floats(0.2, 3), "top_k": st.integers(1, 25), "top_p": st.floats(0.05, 1.0),
    "min_p": st.floats(0.01, 0.9), "typical_p": st.floats(0.1, 0.99), "epsilon_cutoff": st.floats(0.001, 0.3),
    "eta_cutoff": st.floats(0.001, 0.3), "top_n_sigma": st.floats(0.3, 3), "top_h": st.floats(0.05, 0.95),
}  # fmt: skip


@settings(max_examples=300)
@given(
    logits=st.lists(st.integers(-60, 60), min_size=2, max_size=20, unique=True),
    options=st.fixed_dictionaries({}, optional=OPTIONS),
)
def test_every_cut_off_by_its_definition(logits: list[int], options: dict[str, float]):
    values = np.array(logits) / 10
    some = candidates(torch.tensor(values), GenerationRequest(**options))  # pyright: ignore[reportArgumentType]
    ours = np.zeros(len(values))
    ours[some.tokens] = some.probabilities()
    expected = by_definition(values, options)
    if not np.allclose(ours, expected, atol=1e-9):  # a value may fall on a cut-off to the last bit
        nudged = [{**options, name: value * (1 + nudge)} for name, value in options.items() for nudge in (-1e-9, 1e-9)
                  if name not in ("temperature", "top_k") and value * (1 + nudge) <= 1]  # fmt: skip
        assert any(np.allclose(ours, by_definition(values, each), atol=1e-6) for each in nudged), (ours, expected)


def test_a_large_vocabulary_is_cut_as_a_small_one():
    """Beyond 256 candidates the search for the nucleus widens in steps."""
    values = np.random.default_rng(0).normal(size=20_000)
    for p in (0.05, 0.5, 0.9, 1.0):
        some = candidates(torch.tensor(values), GenerationRequest(temperature=1.0, top_p=p))
        expected = by_definition(values, {"temperature": 1.0, "top_p": p})
        assert abs(len(some.tokens) - (expected > 0).sum()) <= 1
        assert np.allclose(some.probabilities(), expected[some.tokens], rtol=1e-4)


def test_top_h_keeps_n_to_the_alpha_of_n_tokens_alike():
    """Their entropy is log n, that of k of them log k."""
    logits = torch.zeros(1000)
    for alpha in (0.1, 0.35, 0.4, 0.9):
        some = candidates(logits, GenerationRequest(top_p=1.0, top_h=alpha))
        assert len(some.tokens) == int(1000**alpha)


LOGITS = torch.tensor([0.0, 1.0, 2.0, -1.0, 0.5])


def p_value(drawn: list[int], expected: np.ndarray) -> float:
    counts = np.bincount(drawn, minlength=len(expected))
    assert not counts[expected == 0].any()
    kept = expected > 0
    return float(scipy.stats.chisquare(counts[kept], len(drawn) * expected[kept]).pvalue)


def test_draws_follow_the_distribution():
    request = GenerationRequest(temperature=1.0, top_p=1.0)
    expected = LOGITS.double().softmax(-1).numpy()
    assert p_value([draw(LOGITS, request, key, 7) for key in range(4000)], expected) > 1e-3
    assert p_value([draw(LOGITS, request, 5, position) for position in range(4000)], expected) > 1e-3


@pytest.mark.parametrize("more", [{}, {"top_n_sigma": 1.0}, {"top_h": 0.9}])
def test_a_draw_without_a_cut_off_is_the_one_from_tokens_in_order(more: dict[str, float]):
    """top_p 1 needs no order; top_k of the whole vocabulary cuts as little, but asks for one."""
    torch.manual_seed(0)
    for position in range(60):
        logits = 3 * torch.randn(4000)
        if position % 3 == 0:  # as a grammar leaves it
            logits[torch.rand(4000) < 0.9] = -torch.inf
        whole, ordered = (GenerationRequest(max_new_tokens=1, top_p=1.0, **more, **k) for k in ({}, {"top_k": 4000}))  # pyright: ignore
        assert draw(logits, whole, 9, position) == draw(logits, ordered, 9, position)


def test_xtc_leaves_out_the_top_choices_as_often_as_asked():
    request = GenerationRequest(temperature=1.0, top_p=1.0, xtc_probability=0.3, xtc_threshold=0.15)
    p = LOGITS.double().softmax(-1).numpy()
    above = [token for token in np.argsort(-p) if p[token] >= 0.15]
    without = np.where(np.isin(np.arange(5), above[:-1]), 0, p)
    expected = 0.7 * p + 0.3 * without / without.sum()
    assert len(above) >= 2 and p_value([draw(LOGITS, request, key, 0) for key in range(4000)], expected) > 1e-3


def test_mirostat_holds_the_surprise_near_its_target():
    logits = torch.from_numpy(np.random.default_rng(1).normal(scale=2.0, size=2000)).float()
    p = logits.double().softmax(-1).numpy()
    for tau in (2.0, 4.0):
        request = GenerationRequest(temperature=1.0, mirostat_tau=tau)
        state, surprises = Mirostat(2 * tau), []
        for position in range(800):
            kept = np.where(-np.log2(p) <= state.limit, p, 0)
            token = draw(logits, request, 3, position, state)
            assert kept[token] > 0
            surprises.append(-np.log2(kept[token] / kept.sum()))
        assert np.mean(surprises[200:]) == pytest.approx(tau, abs=0.1)


def test_the_random_numbers_are_uniform_and_independent():
    numbers = uniforms(3, 4, np.arange(50_000))
    assert scipy.stats.kstest(numbers, "uniform").pvalue > 1e-3
    assert numbers.min() > 0 and numbers.max() < 1
    for other in (uniforms(3, 5, np.arange(50_000)), uniforms(4, 4, np.arange(50_000)), np.roll(numbers, 1)):
        assert abs(np.corrcoef(numbers, other)[0, 1]) < 0.02
    assert uniforms(3, 4, np.array([17]))[0] == numbers[17]

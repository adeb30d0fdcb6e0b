"""Muon and its company, against PyTorch's own."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wenloom.model.decoder import Decoder
from wenloom.model.presets import from_scratch
from wenloom.training import optimizers
from wenloom.training.optimizers import POLYNOMIALS, Muon, make_optimizers, muon_period, orthogonalised
from wenloom.training.parallel import World
from wenloom.training.schedules import multiplier
from wenloom.training.settings import OptimizerName

from ..conftest import random_decoder, tiny_config


@pytest.mark.parametrize("shape", [(16, 16), (40, 24), (24, 40)])
def test_muon_steps_as_the_one_of_pytorch(shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch):
    """But for the polynomials, of which PyTorch takes one five times."""
    monkeypatch.setattr(optimizers, "POLYNOMIALS", 5 * ((3.4445, -4.7750, 2.0315),))
    monkeypatch.setattr(optimizers, "_SIZE", 0.2)
    drawn = torch.Generator().manual_seed(0)
    start = [torch.randn(shape, generator=drawn) for _ in range(3)]
    ours = [torch.nn.Parameter(each.clone()) for each in start]
    theirs = [torch.nn.Parameter(each.clone()) for each in start]
    muon = Muon(ours, lr=0.02, weight_decay=0.1)
    reference = torch.optim.Muon(theirs, lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    for _ in range(5):
        for one, other in zip(ours, theirs, strict=True):
            one.grad = torch.randn(shape, generator=drawn)
            # PyTorch's momentum sums with (1 - momentum) as well
            other.grad = one.grad.clone()
        muon.step()
        reference.step()
    for one, other, begun in zip(ours, theirs, start, strict=True):
        moved = torch.cosine_similarity((one - begun).flatten(), (other - begun).flatten(), dim=0)
        assert moved > 0.999 and torch.allclose(one, other, atol=0.02)  # both orthogonalise in bfloat16


@given(st.integers(1, 24), st.integers(1, 24))
def test_orthogonalised_matrices_have_singular_values_near_one(rows: int, columns: int):
    drawn = torch.Generator().manual_seed(rows * 100 + columns)
    stack = torch.randn(3, rows, columns, generator=drawn, dtype=torch.float64)
    left, before, right = torch.linalg.svd(stack, full_matrices=False)
    turned = left.mT @ orthogonalised(stack) @ right.mT
    values = turned.diagonal(dim1=-2, dim2=-1)
    torch.testing.assert_close(turned, values.diag_embed())
    large = before > 0.00102 * before.norm(dim=-1, keepdim=True)
    assert values[large].min() > 0.139 and values[large].max() < 1.861 and values.min() >= 0


def test_no_polynomial_of_its_degree_is_nearer_to_one():
    """The error is largest at one place more than there are coefficients, with alternating signs (Chebyshev 1854)."""
    low, high = 0.001, 1.0
    for a, b, c in POLYNOMIALS:
        x = torch.linspace(low, high, 2_000_001, dtype=torch.float64)
        error = 1 - (a * x + b * x**3 + c * x**5)
        turns = (error.diff().sign().diff() != 0).nonzero().flatten() + 1
        extremes = torch.cat([error[:1], error[turns], error[-1:]])
        assert len(extremes) == 4 and (extremes.sign().diff() != 0).all()
        assert extremes.abs().max() / extremes.abs().min() < 1.006
        low, high = 1 - float(extremes.abs().max()), 1 + float(extremes.abs().max())
    assert high == pytest.approx(1.86, abs=0.005)


@pytest.mark.parametrize("period", [2, 3, 5])
def test_with_a_period_each_matrix_steps_once_in_it_as_far_as_in_all_its_steps(period: int):
    drawn = torch.Generator().manual_seed(0)
    start = [torch.randn(8, 12, generator=drawn) for _ in range(7)]
    gradients = [torch.randn(8, 12, generator=drawn) for _ in start]
    rare, often = ([torch.nn.Parameter(each.clone()) for each in start] for _ in range(2))
    by_period = Muon(rare, lr=0.02, weight_decay=0.0, dtype=torch.float64, period=period)
    by_step = Muon(often, lr=0.02, weight_decay=0.0, dtype=torch.float64)
    moved: list[list[int]] = []
    for _ in range(2 * period):
        before = [each.detach().clone() for each in rare]
        for optimizer, parameters in ((by_period, rare), (by_step, often)):
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = gradient.clone()
            optimizer.step()
        moved.append([int(not now.equal(then)) for now, then in zip(rare, before, strict=True)])
    assert all(sum(each) in (7 // period, 7 // period + 1) for each in moved)  # no step has much more to do than others
    assert all(sum(column) == 2 for column in zip(*moved, strict=True))
    for here, there, begun in zip(
        rare, often, start, strict=True
    ):  # the same gradient: the same direction in all steps
        assert torch.allclose(here - begun, there - begun, atol=1e-3)
        assert torch.allclose(by_period.state[here]["momentum"], by_step.state[there]["momentum"])


@given(st.integers(1, 40), st.integers(8, 2048), st.integers(16, 2**20))
def test_orthogonalising_takes_a_small_part_of_the_products_at_most(n_matrices: int, width: int, n_tokens: int):
    with torch.device("meta"):
        matrices = [torch.nn.Parameter(torch.empty(width, width)) for _ in range(n_matrices)]
    period = muon_period(matrices, n_tokens)
    taken = n_matrices * 3 * 6 * width**3  # three iterations of three products
    most = max(0.2 * n_matrices * 6 * width**2 * n_tokens, 5e8)  # three products a token; a few milliseconds
    assert taken / period <= most * (1 + 1e-9) and (period == 1 or taken / (period - 1) > most)


def test_every_weight_has_one_optimizer_and_only_matrices_decay():
    model = random_decoder(tiny_config())
    made = make_optimizers(model, "muon", 0.1, (0.9, 0.95), 0.95, torch.float32, World())
    names = {parameter: name for name, parameter in model.named_parameters()}
    held = [(names[p], type(o).__name__, g["weight_decay"]) for o in made for g in o.param_groups for p in g["params"]]
    assert sorted(name for name, _, _ in held) == sorted(names.values())
    for name, optimizer, decay in held:
        is_matrix = "norm" not in name and "bias" not in name
        assert optimizer == ("Muon" if is_matrix and name.startswith("blocks") else "AdamW"), name
        assert decay == (0.1 if is_matrix else 0.0), name
    assert len(make_optimizers(model, "adamw", 0.1, (0.9, 0.95), 0.95, torch.float32, World())) == 1


@given(st.sampled_from(["linear", "cosine", "wsd"]), st.integers(1, 500), st.floats(0, 1))
def test_schedules_rise_then_fall_to_the_floor(schedule, n_steps: int, floor: float):
    warmup, decay = max(1, n_steps // 20), n_steps // 3
    rates = [multiplier(schedule, step, n_steps, warmup, decay, floor) for step in range(n_steps)]
    assert rates[:warmup] == sorted(rates[:warmup]) and rates[warmup - 1 :] == sorted(rates[warmup - 1 :], reverse=True)
    assert max(rates) <= 1 and min(rates[warmup:], default=floor) >= floor - 1e-9
    assert n_steps < 50 or rates[-1] == pytest.approx(floor, abs=0.08)
    if schedule == "wsd" and n_steps > 50:
        assert rates[n_steps // 2] == 1.0


@pytest.mark.parametrize("name", ["muon", "adamw"])
def test_lower_blocks_learn_more_slowly(name: OptimizerName):
    decoder = Decoder(
        from_scratch("llama", vocab_size=30, n_layers=3, d_model=16, n_heads=2, n_kv_heads=2, context_length=8)
    )
    made = make_optimizers(decoder, name, 0.1, (0.9, 0.95), 0.95, torch.float32, World(), layer_decay=0.5)
    names = {parameter: name for name, parameter in decoder.named_parameters()}
    scales = {names[parameter]: group["scale"]
              for each in made for group in each.param_groups for parameter in group["params"]}  # fmt: skip
    assert set(scales) == set(names.values())
    assert scales["embed.weight"] == 0.125
    assert [scales[f"blocks.{layer}.attention.query.weight"] for layer in range(3)] == [0.25, 0.5, 1.0]
    assert scales["blocks.0.mlp_norm.weight"] == 0.25 and scales["final_norm.weight"] == 1.0

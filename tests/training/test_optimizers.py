"""Muon and its company, against PyTorch's own."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wenloom.model.decoder import Decoder
from wenloom.model.presets import from_scratch
from wenloom.training.optimizers import Muon, make_optimizers, orthogonalised
from wenloom.training.parallel import World
from wenloom.training.schedules import multiplier
from wenloom.training.settings import OptimizerName

from ..conftest import random_decoder, tiny_config


@pytest.mark.parametrize("shape", [(16, 16), (40, 24), (24, 40)])
def test_muon_steps_as_the_one_of_pytorch(shape: tuple[int, int]):
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
    stack = torch.randn(3, rows, columns, generator=drawn)
    values = torch.linalg.svdvals(orthogonalised(stack, steps=8))
    assert values.min() > 0.5 and values.max() < 1.3


def test_every_weight_has_one_optimizer_and_only_matrices_decay():
    model = random_decoder(tiny_config())
    optimizers = make_optimizers(model, "muon", 0.1, (0.9, 0.95), 0.95, torch.float32, World())
    names = {parameter: name for name, parameter in model.named_parameters()}
    held = [
        (names[p], type(o).__name__, g["weight_decay"]) for o in optimizers for g in o.param_groups for p in g["params"]
    ]
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
    optimizers = make_optimizers(decoder, name, 0.1, (0.9, 0.95), 0.95, torch.float32, World(), layer_decay=0.5)
    names = {parameter: name for name, parameter in decoder.named_parameters()}
    scales = {names[parameter]: group["scale"]
              for each in optimizers for group in each.param_groups for parameter in group["params"]}  # fmt: skip
    assert set(scales) == set(names.values())
    assert scales["embed.weight"] == 0.125
    assert [scales[f"blocks.{layer}.attention.query.weight"] for layer in range(3)] == [0.25, 0.5, 1.0]
    assert scales["blocks.0.mlp_norm.weight"] == 0.25 and scales["final_norm.weight"] == 1.0

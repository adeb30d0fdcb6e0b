"""Dropout by keys: the right rate, independent places, and nothing but its inputs."""

import pytest
import torch

from wenloom.core.randomness import derive_seed
from wenloom.model.dropout import Dropout, keep


def keys(count: int) -> torch.Tensor:
    return torch.tensor([derive_seed(0, "test", row) & 0x7FFFFFFF for row in range(count)])


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_the_rate_is_right_and_the_mean_is_kept(rate: float):
    mask = keep(keys(64), 4096, rate)
    assert float((mask == 0).float().mean()) == pytest.approx(rate, abs=0.005)
    assert float(mask.mean()) == pytest.approx(1.0, abs=0.02)
    assert mask.unique().tolist() == [0.0, pytest.approx(1 / (1 - rate))]


def test_rows_places_and_sites_are_independent():
    """Correlations as small as those of coin tosses: |r| < 5 / sqrt(n)."""
    n = 1 << 16
    mask = (keep(keys(8), n, 0.5) > 0).float() - 0.5
    product = mask @ mask.T / n * 4
    assert float((product - torch.eye(8)).abs().max()) < 5 / n**0.5
    for shift in (1, 2, 3, 64, 128, 1000):
        assert abs(float((mask[0] * mask[0].roll(shift)).mean() * 4)) < 5 / n**0.5
    x = torch.ones(8, 4, 8)
    first, second = (Dropout(0.5, site).train()(x, keys(8)) for site in (1, 2))
    assert not torch.equal(first, second)


def test_a_row_drops_out_alike_in_any_company():
    x = torch.randn(8, 16, 4)
    layer = Dropout(0.3, site=1).train()
    together = layer(x, keys(8))
    assert torch.equal(together[3:5], layer(x[3:5], keys(8)[3:5]))
    assert torch.equal(layer.eval()(x, keys(8)), x)


def test_compiled_is_the_same():
    x, layer = torch.randn(4, 8, 8), Dropout(0.3, site=2).train()
    try:
        compiled = torch.compile(layer)(x, keys(4))
    except Exception as error:  # no compiler on this machine
        pytest.skip(f"torch.compile does not work here: {error}"[:200])
    assert torch.equal(compiled, layer(x, keys(4)))
